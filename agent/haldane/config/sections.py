"""Every setting: its default, unit, range and reason stand where it is declared.

The reference page is made from these docstrings (tools/make_reference.py).
Paths are absolute once loaded; relative ones resolve against the config file.
"""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PrivateAttr, SecretStr

from haldane.config.analysis import AnalysisSection
from haldane.config.base import Section
from haldane.config.discover import DiscoverSection
from haldane.config.freeze import FreezeSection
from haldane.config.gateways import DEFAULT_STEPS, GatewaySection, Steps
from haldane.config.notify import WebhookSection
from haldane.config.outputs import OutputsSection
from haldane.config.people import PersonSection
from haldane.config.quantities import Address, Duration, DurationOrZero, HttpUrl, Size
from haldane.config.releases import ReleasesSection
from haldane.config.resources import PrometheusSection
from haldane.config.tap import TapSection
from haldane.config.traffic import GoldenSection, LabelsSection, TrafficSection, golden_form
from haldane.domain.fleet import Clients, ModelEntry, ModelName, Placement, Server, ServerConfig, ServerName
from haldane.domain.rollout import Mode, Plan
from haldane.judge.outputs import OutputKind
from haldane.judge.rules import Rules
from haldane.rollout.wanted import stable_of

DEFAULT_LISTEN = "127.0.0.1:8620"
DEFAULT_STATE_DIR = "haldane-state"

Name = Annotated[str, Field(pattern=r"^[^\s/]+$", max_length=200)]


class ServerSection(Section):
    """One TensorFlow Serving process. Plain "HOST:PORT" stands for {address: HOST:PORT}."""

    address: Address
    """HOST:PORT of its gRPC listener."""

    name: Name = ""
    """How it is called in status, metrics and records; its address when not given. Keep it when the address changes."""

    metrics_url: HttpUrl | None = None
    """Its Prometheus page, e.g. http://HOST:8501/monitoring/prometheus/metrics. `enforce` needs it: it is the only way
    to see, before the first reload, whether a server holds models that the config lacks."""

    process_url: HttpUrl | None = None
    """Page with the CPU seconds and resident bytes of its process (gauges cpu, memory, memory_growth), which Serving
    does not export itself: that of a process exporter, e.g. http://HOST:9256/metrics, or any page with
    process_cpu_seconds_total and process_resident_memory_bytes."""

    process_group: str = ""
    """Its `groupname` on that page, when it is a process exporter's."""

    canary: bool = False
    """A dedicated canary server, which takes no user traffic (placement: own_replicas)."""

    config_file: Path | None = None
    """The model config file that this server polls (--model_config_file_poll_wait_seconds), which must be writable from
    here and its alone. The server is then changed through it, since it would undo every reload: the models looked after
    are changed in place, comments and other models stay."""


class ShadowSection(Section):
    """How hard shadowing may press on the servers."""

    rate: Annotated[float, Field(gt=0, le=100_000)] = 50.0
    """Pairs a second over all servers; each pair is one call to stable and one to canary."""

    grpc_threads: Annotated[int, Field(ge=1)] = 32
    """--grpc_max_threads of the servers; Serving itself takes four for each CPU. A call that finds none free is refused
    at once, a user's like one of ours."""

    concurrency: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Pairs in flight on one server, of two calls each; by default as many as take a quarter of grpc_threads."""

    bytes_in_flight: Size = 64 << 20
    """Bytes of requests on the way to one server; a request larger than this goes alone."""

    deadline: Duration = timedelta(seconds=2)
    """For each call; a canary answer later than this counts as an error of the canary."""

    aa_share: Annotated[float, Field(ge=0, le=0.5)] = 0.05
    """Share of pairs sent to stable twice: the noise floor."""

    @property
    def pairs_at_once(self) -> int:
        """Pairs in flight on one server: two calls each, on a quarter of its threads."""
        return self.concurrency or max(1, self.grpc_threads // 8)


class PlanSection(Section):
    """Time limits and pace of a rollout."""

    load: Duration = timedelta(minutes=10)
    """For the new version to be loaded and to answer on every server."""

    bake: DurationOrZero = timedelta(minutes=5)
    """How long harm is still watched for after the last server was promoted, with the old version kept loaded."""

    change: Duration = timedelta(minutes=2)
    """For a server to settle after a label was moved or a rollback sent."""

    at_once: Annotated[int, Field(ge=1)] = 1
    """Servers promoted at the same time."""

    approvals: Annotated[int, Field(ge=0, le=10)] = 0
    """How many `people` must approve what has passed before it is promoted; who started the rollout does not count."""

    traffic_steps: Steps | None = None
    """Shares of users' calls that gateways send to the canary's servers (placement: own_replicas) after a PASS, one
    after the other, before any other server is changed. ["1%", "5%", "10%", "25%", "50%", "100%"] where `gateways` are
    given; [] for no steps."""

    step: Duration = timedelta(minutes=2)
    """Least time at each step."""

    step_pairs: Annotated[int, Field(ge=1)] = 200
    """Least pairs judged at each step."""

    step_budget: Duration = timedelta(minutes=30)
    """How long to wait at a step for its evidence; then the rollout is held."""

    def plan(self) -> Plan:
        """The same as the rollout keeps it."""
        return Plan(
            load_seconds=self.load.total_seconds(),
            bake_seconds=self.bake.total_seconds(),
            change_seconds=self.change.total_seconds(),
            at_once=self.at_once,
            approvals=self.approvals,
            traffic_steps=DEFAULT_STEPS if self.traffic_steps is None else self.traffic_steps,
            step_seconds=self.step.total_seconds(),
            step_pairs=self.step_pairs,
            step_budget_seconds=self.step_budget.total_seconds(),
        )


def _stable(value: Any) -> Any:
    number = int(value) if isinstance(value, str) and value.isdecimal() else value
    if number is None or number == "none" or (type(number) is int and number >= 0):
        return number
    raise ValueError(f"must be a version number, or none where no version has been released yet; got {value!r}")


class ModelSection(Section):
    """One model to look after."""

    clients: Clients
    """How clients name it: `label` (model_spec.version_label: stable) or `unversioned` (name only). Serving cannot
    tell, so it must be said."""

    placement: Placement | None = None
    """Where the canary runs: `same_entry` (beside stable on every server; the default for label) or `own_replicas`
    (only on servers with canary: true; the only safe one for unversioned)."""

    stable: Annotated[int | Literal["none"] | None, BeforeValidator(_stable)] = None
    """The version users get now; needed when model_config_file does not say it by one specific version or a `stable`
    label. `none`: no version has been released yet, and the first is to be judged on absolute limits."""

    def at_rest(self, entry: ModelEntry | None) -> int | None:
        """The version users are declared to get; None when nothing says it, or there is none yet."""
        if self.stable is None:
            return stable_of(entry) if entry else None
        return None if self.stable == "none" else self.stable

    traffic: TrafficSection | None = None
    """Requests to shadow. Without it nothing can be judged, and a rollout is inconclusive."""

    golden: Annotated[GoldenSection | None, BeforeValidator(golden_form)] = None
    """Rows of known answer, sent in full as soon as the canary can be asked, each once, before any traffic: accuracy
    has its first data at once."""

    labels: LabelsSection | None = None
    """Right answers come later (`labels: {}` for all defaults): accuracy and loss then need no data at the start."""

    releases: ReleasesSection | None = None
    """Releases that are announced start a rollout by themselves (`releases: {}` for POST /v1/events alone)."""

    analysis: AnalysisSection | None = None
    """Replaces the top-level analysis for this model."""

    outputs: OutputsSection | None = None
    """Replaces the top-level outputs for this model."""

    published: Annotated[str, Field(pattern=r"^(/|[a-z0-9]+://)")] | None = None
    """Where the model was published (`haldane release publish --to`): a directory or URL. There the agent reads a
    version's manifest, to compare what lies at its base_path, and the answers it gave when it was validated. By
    default those beside the version count."""

    @property
    def where(self) -> Placement:
        """The placement, or its default."""
        return self.placement or Placement.SAME_ENTRY


class TlsSection(Section):
    """TLS to the servers; with cert and key, mutual."""

    ca: Path
    """PEM file of the authority that signed the servers' certificates."""

    cert: Path | None = None
    """PEM file of our own certificate."""

    key: Path | None = None
    """PEM file of its private key."""


def _server_forms(value: Any) -> Any:
    return (
        [{"address": item} if isinstance(item, str) else item for item in value] if isinstance(value, list) else value
    )


class Config(Section):
    """The whole file."""

    mode: Mode = Mode.OBSERVE
    """`observe` watches, judges and recommends; `enforce` also loads, labels and withdraws."""

    servers: Annotated[tuple[ServerSection, ...], BeforeValidator(_server_forms)] = ()
    """Every TensorFlow Serving process that serves these models, or those that no list of `discover` has."""

    discover: tuple[DiscoverSection, ...] = ()
    """Lists of servers that somebody else keeps: files, DNS. Servers may come and go during a rollout."""

    model_config_file: Path | None = None
    """Serving's own --model_config_file (text proto): the base config of every server, with all teams' models in it.
    A reload replaces the whole list of a server, so `enforce` needs it."""

    models: dict[Name, ModelSection] = Field(default_factory=dict)
    """Models to look after, by name. Other models of model_config_file are kept as they are."""

    analysis: AnalysisSection = AnalysisSection()
    """How a canary is judged."""

    outputs: OutputsSection = OutputsSection()
    """When two answers count as different."""

    shadow: ShadowSection = ShadowSection()
    """How hard shadowing may press on the servers."""

    plan: PlanSection = PlanSection()
    """Time limits and pace of a rollout."""

    freeze: tuple[FreezeSection, ...] = ()
    """Times in which no rollout starts and no promotion begins. Harm is withdrawn all the same, and a person may
    promote."""

    look_every: Duration = timedelta(seconds=1)
    """How often each server is looked at."""

    list_every: DurationOrZero = timedelta(seconds=30)
    """How often the base paths of model_config_file are listed, where this process can read them: for uploads that are
    not complete, and versions that nothing loads. URLs (s3://, gs://) need fsspec's package for them; 0s: never."""

    gateways: tuple[GatewaySection, ...] = ()
    """Gateways before the servers, by which users' calls go to a version that has passed in steps."""

    state_dir: Path = Path(DEFAULT_STATE_DIR)
    """Where the agent keeps its store and its token; beside this file by default."""

    store: Annotated[str, Field(pattern=r"^(sqlite|postgresql)(\+\w+)?://")] | None = None
    """SQLAlchemy URL without a password; a SQLite file in state_dir by default. For one with a password use
    store_file or store_env."""

    store_file: Path | None = None
    """File that holds the store's URL."""

    store_env: str | None = None
    """Environment variable that holds the store's URL."""

    listen: Address = DEFAULT_LISTEN
    """HOST:PORT of the agent's own API, metrics and report pages. Anywhere but loopback needs a token."""

    token_file: Path | None = None
    """File that holds the API's token. Without token_file and token_env a random one is written to state_dir/token."""

    token_env: str | None = None
    """Environment variable that holds the API's token."""

    people: tuple[PersonSection, ...] = ()
    """Who may do what, each by a token of their own. The API's own token, which may do everything, stays; keep it
    for emergencies."""

    alertmanager: HttpUrl | None = None
    """Alertmanager to tell about conditions, e.g. http://127.0.0.1:9093."""

    webhook: WebhookSection | None = None
    """Who else is told."""

    tls: TlsSection | None = None
    """TLS to the servers; plain text when left out."""

    prometheus: PrometheusSection | None = None
    """Where gauges with a query are read."""

    tap: TapSection | None = None
    """Where mirrored calls come in, with `haldane tap` as a process of its own."""

    _base: ServerConfig | None = PrivateAttr(default=None)
    _token: SecretStr | None = PrivateAttr(default=None)
    _store_url: SecretStr | None = PrivateAttr(default=None)
    _prometheus_token: SecretStr | None = PrivateAttr(default=None)
    _webhook_secret: SecretStr | None = PrivateAttr(default=None)
    _people_tokens: dict[str, SecretStr] = PrivateAttr(default_factory=dict)

    @property
    def base(self) -> ServerConfig | None:
        """What model_config_file holds; None when there is none."""
        return self._base

    @property
    def token(self) -> SecretStr | None:
        """The API's token that the config refers to; None when the agent is to make one."""
        return self._token

    @property
    def prometheus_token(self) -> SecretStr | None:
        """The bearer token that the config refers to."""
        return self._prometheus_token

    @property
    def webhook_secret(self) -> SecretStr | None:
        """What notices are signed with; None without a webhook."""
        return self._webhook_secret

    @property
    def people_tokens(self) -> dict[str, SecretStr]:
        """Each person's token, by name."""
        return self._people_tokens

    @property
    def store_url(self) -> SecretStr:
        """Where the store is; may hold a password."""
        return self._store_url or SecretStr(self.store or f"sqlite:///{self.state_dir / 'haldane.db'}")

    @property
    def token_path(self) -> Path:
        """Where the agent writes the token it makes."""
        return self.state_dir / "token"

    @property
    def tap_socket(self) -> Path:
        """The Unix socket by which the agent gets requests of the tap; only this user may use it."""
        return self.state_dir / "tap.sock"

    @property
    def tapped(self) -> dict[ModelName, TrafficSection]:
        """The models whose mirrored calls are wanted, to be shadowed or recorded."""
        given = {ModelName(name): one.traffic for name, one in self.models.items() if one.traffic is not None}
        return {name: one for name, one in given.items() if one.tap is not None or one.record is not None}

    @property
    def fleet(self) -> tuple[Server, ...]:
        """The servers of the file as values of the domain, in its order; those of `discover` come and go."""
        return tuple(
            Server(
                ServerName(one.name or one.address),
                one.address,
                one.metrics_url,
                one.canary,
                str(one.config_file) if one.config_file else None,
            )
            for one in self.servers
        )

    def rules_of(self, model: str) -> Rules:
        """How that model's canaries are judged, as the rollout keeps it."""
        rules = self.analysis_of(model).rules(
            rate_per_second=self.shadow.rate,
            floor=self.shadow.aa_share > 0,
            classes=self.outputs_of(model).kind is OutputKind.CLASS_SCORES,
        )
        return replace(rules, late_labels=self.models[model].labels is not None)

    def plan_of(self, model: str) -> Plan:
        """Time limits and pace of that model's rollouts; baked until the labels of the last pairs can have come."""
        plan, labels = self.plan.plan(), self.models[model].labels
        if not self.gateways or self.models[model].where is not Placement.OWN_REPLICAS:
            plan = replace(plan, traffic_steps=())
        return (
            plan if labels is None else replace(plan, bake_seconds=max(plan.bake_seconds, labels.wait.total_seconds()))
        )

    def fields_of(self, model: str) -> frozenset[str]:
        """The fields of that model's requests that anything goes by: slices, and late labels."""
        labels = self.models[model].labels
        return self.analysis_of(model).fields | ({labels.id} if labels and labels.id else set())

    def analysis_of(self, model: str) -> AnalysisSection:
        """How that model's canaries are judged."""
        return self.models[model].analysis or self.analysis

    def base_path(self, model: str) -> str:
        """Where that model's versions lie, as model_config_file says; "" when it does not."""
        entry = self._base.entry(ModelName(model)) if self._base else None
        return entry.base_path if entry else ""

    def outputs_of(self, model: str) -> OutputsSection:
        """When two answers of that model count as different."""
        return self.models[model].outputs or self.outputs
