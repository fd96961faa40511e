"""The whole file. Every setting's default, unit, range and reason stand where it is declared.

The reference page is made from these docstrings (tools/make_reference.py).
Paths are absolute once loaded; relative ones resolve against the config file.
"""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PrivateAttr, SecretStr

from haldane.config.analysis import AnalysisSection
from haldane.config.base import Section
from haldane.config.boot import BootSection
from haldane.config.discover import DiscoverSection
from haldane.config.freeze import FreezeSection
from haldane.config.gateways import GatewaySection
from haldane.config.models import ModelSection
from haldane.config.notify import MlflowSection, WebhookSection
from haldane.config.outputs import OutputsSection
from haldane.config.people import PersonSection, ProxySection
from haldane.config.plan import PlanSection
from haldane.config.quantities import Address, Duration, DurationOrZero, HttpUrl, Name
from haldane.config.resources import PrometheusSection
from haldane.config.servers import ServerSection, TlsSection
from haldane.config.shadow import ShadowSection
from haldane.config.tap import TapSection
from haldane.config.traffic import BrokersSection, TrafficSection
from haldane.domain.fleet import ModelName, Placement, Server, ServerConfig, ServerName
from haldane.domain.rollout import Mode, Plan
from haldane.judge.outputs import OutputKind
from haldane.judge.rules import Rules

DEFAULT_LISTEN = "127.0.0.1:8620"
DEFAULT_STATE_DIR = "haldane-state"


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

    boot_configs: tuple[BootSection, ...] = ()
    """What servers boot with: kept at the versions that are stable, never with a canary, and moved on after a bake. By
    an agent that enforces; `haldane render` writes the same for a review."""

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
    """Who may do what, each by a token of their own, or by a client certificate (`proxy`). The API's own token, which
    may do everything, stays; keep it for emergencies."""

    proxy: ProxySection | None = None
    """A proxy with mutual TLS before the agent, which itself speaks plain HTTP."""

    alertmanager: HttpUrl | None = None
    """Alertmanager to tell about conditions, e.g. http://127.0.0.1:9093."""

    webhook: WebhookSection | None = None
    """Who else is told."""

    notices_topic: BrokersSection | None = None
    """A Kafka topic that gets the notices that the webhook gets, as CloudEvents, those of a model in their order: at
    least once, and later when the brokers are away (extras `kafka` and `notify`)."""

    mlflow: MlflowSection | None = None
    """Whose registry names the stable version `champion` and the one on trial `challenger`."""

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
    _mlflow_token: SecretStr | None = PrivateAttr(default=None)
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
    def mlflow_token(self) -> SecretStr | None:
        """The bearer token for MLflow that the config refers to."""
        return self._mlflow_token

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
                process_url=one.process_url,
                process_group=one.process_group,
                memory=one.memory,
                grpc_threads=one.grpc_threads,
            )
            for one in self.servers
        )

    @property
    def limits_memory(self) -> bool:
        """Whether it is said of any server what its process may use."""
        return any(one.memory for one in self.servers) or any(one.memory for one in self.discover)

    def full_name(self, model: str) -> str:
        """A model's name with its namespace, as people say it."""
        section = self.models.get(model)
        return f"{section.namespace}/{model}" if section is not None and section.namespace else model

    def local_name(self, said: str) -> str:
        """The name that Serving knows, of one said with its namespace; any other as it is."""
        name = said.rpartition("/")[2]
        return name if name in self.models and self.full_name(name) == said else said

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
