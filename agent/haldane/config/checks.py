"""Checks that need more than one key: what each finds, and what would be right."""

import difflib
from collections.abc import Iterator
from urllib.parse import urlsplit

from haldane.config.fleetchecks import POLLED_LABELS, boot_configs, canaries, lists, servers
from haldane.config.models import ModelSection
from haldane.config.problems import Found, Loc
from haldane.config.quantities import is_loopback
from haldane.config.sections import Config
from haldane.config.tap import RecordSection
from haldane.config.trafficchecks import SAY_KIND, of_golden, of_topic, of_traffic
from haldane.domain.evidence import Role
from haldane.domain.fleet import Clients, ModelName, Placement, Policy, ServerConfig
from haldane.domain.people import Right
from haldane.domain.rollout import Mode
from haldane.judge.gauges import Gauge
from haldane.judge.outputs import OutputKind
from haldane.rollout.wanted import second_name

LONGEST_SOCKET_PATH = 107  # sun_path of sockaddr_un in Linux, less the byte that ends it


def across(config: Config) -> Found:
    """Every mistake that shows only when keys are read together."""
    yield from servers(config)
    yield from lists(config)
    yield from boot_configs(config)
    yield from _doors(config)
    yield from _tap(config)
    yield from _gateways(config)
    if config.notices_topic is not None:
        yield from of_topic(config.notices_topic, ("notices_topic",))
    if config.shadow.dask is not None:
        yield from _spread(config)
    for name, model in config.models.items():
        loc: Loc = ("models", name)
        yield from _placement(config, model, loc)
        yield from of_traffic(config, name, model, loc)
        if model.golden is not None:
            yield from of_golden(config, name, model, model.golden, (*loc, "golden"))
        if model.labels is not None and model.labels.kafka is not None:
            yield from of_topic(model.labels.kafka, (*loc, "labels", "kafka"))
        if model.releases is not None and model.releases.kafka is not None:
            yield from of_topic(model.releases.kafka, (*loc, "releases", "kafka"))
        if model.labels is not None and config.outputs_of(name).kind is OutputKind.ANY:
            yield (*loc, "labels"), SAY_KIND.format(name=name)
        yield from _gauges(config, name, model, loc)
        if model.registered is not None and config.mlflow is None:
            yield (*loc, "registered"), "needs the registry's address: give mlflow: {url: http://HOST:5000}"
        if config.base is not None:
            yield from _in_base(config, config.base, name, model, loc)
    if config.mode is Mode.ENFORCE:
        yield from _enforcing(config)


def notes(config: Config) -> list[str]:
    """What is no mistake, but would surprise: models whose rollouts can hardly pass by themselves."""
    told = [f"models.{name}: {note}" for name, model in config.models.items() if (note := _note(config, name, model))]
    if any(one.config_file for one in config.servers) and any(
        one.clients is Clients.LABEL for one in config.models.values()
    ):
        told.append(POLLED_LABELS)
    return told


def _note(config: Config, name: str, model: ModelSection) -> str:
    if model.traffic is None or model.traffic.label is not None or model.golden is not None:
        return ""
    if not any(one.name == "accuracy" and one.role is Role.OBJECTIVE for one in config.rules_of(name).metrics):
        return ""
    if model.labels is None:
        return (
            "its traffic holds no right answers (label), so accuracy, which is an objective, stays without data and no"
            " rollout can pass. To judge by the other metrics alone: analysis: {metrics: {accuracy: off}}"
        )
    budget = config.analysis_of(name).budget
    if model.labels.wait <= budget:
        return ""
    return (
        f"accuracy is an objective, and its labels may take {model.labels.wait} while the budget is {budget}: a rollout"
        " is inconclusive unless enough labels come sooner. To promote before, and take back on late labels:"
        ' analysis: {metrics: {accuracy: {role: guardrail, margin: "1pp"}}}'
    )


def _name(index: int, certificate: str, *, whole: bool) -> Found:
    """One that no certificate would match."""
    alternative = certificate.startswith(("DNS:", "URI:", "email:"))
    if alternative and not whole:
        says = "is an alternative name, which a proxy gives with the whole certificate; set proxy.gives: certificate"
        yield ("people", index, "certificate"), says
    if whole and not alternative and "=" not in certificate:
        says = 'is no name in a certificate; write "URI:…", "DNS:…", "email:…", or the subject, as in "CN=ada,O=risk"'
        yield ("people", index, "certificate"), says


def _doors(config: Config) -> Found:
    seen: set[str] = set()
    certificates: dict[str | None, str] = {}
    for index, person in enumerate(config.people):
        if person.name in seen:
            yield ("people", index, "name"), f"{person.name} is there already; give everybody one entry"
        seen.add(person.name)
        if person.certificate is not None and config.proxy is None:
            says = "needs the top-level proxy: the agent itself speaks no TLS and sees no certificate"
            yield ("people", index, "certificate"), says
        elif person.certificate is not None and config.proxy is not None:
            yield from _name(index, person.certificate, whole=config.proxy.whole)
        if person.certificate is not None and person.certificate in certificates:
            says = f"is that of {certificates[person.certificate]}, too; a certificate tells who it is"
            yield ("people", index, "certificate"), says
        certificates.setdefault(person.certificate, person.name)
    able = sum(Right.APPROVE in person.rights for person in config.people)
    if config.plan.approvals > able:
        says = f"needs so many of people with the right `approve`, who did not start the rollout; there are {able}"
        yield ("plan", "approvals"), says
    if not is_loopback(config.listen) and config.token is None and not (config.token_file or config.token_env):
        yield ("listen",), f"{config.listen} can be reached from elsewhere, so give token_file or token_env"
    if config.store and urlsplit(config.store).password:
        yield ("store",), "holds a password; put the URL in a file or a variable and give store_file or store_env"
    if config.store and (config.store_file or config.store_env):
        yield ("store",), "given beside store_file or store_env; keep one"
    if config.tls is not None:
        if (config.tls.cert is None) != (config.tls.key is None):
            yield ("tls",), "cert and key go together; give both or neither"
        for key in ("ca", "cert", "key"):
            path = getattr(config.tls, key)
            if path is not None and not path.is_file():
                yield ("tls", key), f"no such file: {path}"


def _tap(config: Config) -> Found:
    for name, traffic in config.tapped.items():
        for key in ("tap", "record"):
            if config.tap is None and getattr(traffic, key) is not None:
                yield ("models", name, "traffic", key), "nothing is mirrored to us yet: give the top-level tap: {} too"
        if traffic.record is not None:
            yield from _record(traffic.record, ("models", name, "traffic", "record"))
    if config.tap is None:
        return
    if config.tap.grpc == config.tap.rest:
        yield ("tap", "rest"), f"{config.tap.rest} is that of tap.grpc too"
    if config.tap.largest > config.tap.waiting:
        yield ("tap", "largest"), f"{config.tap.largest} bytes would never find room: waiting is {config.tap.waiting}"
    if len(bytes(config.tap_socket)) > LONGEST_SOCKET_PATH:
        says = f"too long for the tap's socket: {config.tap_socket} may have {LONGEST_SOCKET_PATH} bytes at most"
        yield ("state_dir",), says


def _record(record: RecordSection, loc: Loc) -> Found:
    if record.hash and not (record.key_file or record.key_env):
        yield (*loc, "hash"), "without a key anybody could try out what was hashed: give key_file or key_env"
    if both := sorted(set(record.hash) & set(record.drop)):
        yield (*loc, "hash"), f"{both[0]} is under drop too; keep one"
    if record.file_size > record.keep_size:
        yield (*loc, "file_size"), f"larger than all files together may be (keep_size: {record.keep_size} bytes)"


def _spread(config: Config) -> Found:
    """What one process alone can do: a stream is read once, and blocks for CPU take turns on one clock."""
    for name, model in config.models.items():
        if model.traffic is not None and model.traffic.kind in ("kafka", "tap"):
            says = f"{model.traffic.kind} is a stream, which only one process can read; for Dask give files, or leave"
            yield ("models", name, "traffic", model.traffic.kind), f"{says} out shadow.dask"
        for gauge, section in config.analysis_of(name).gauges.items():
            if section.kind is Gauge.CPU:
                at: Loc = ("models", name, "analysis", "gauges") if model.analysis else ("analysis", "gauges")
                says = "needs blocks of pairs that one process sends; leave it out, or shadow.dask"
                yield (*at, gauge), says


def _gateways(config: Config) -> Found:
    """Steps need a gateway, and servers that it can send users to."""
    names: dict[str, int] = {}
    for index, gateway in enumerate(config.gateways):
        if gateway.called in names:
            yield ("gateways", index), f"is called {gateway.called} as gateways[{names[gateway.called]}] is; give names"
        names.setdefault(gateway.called, index)
    if config.gateways and not any(model.where is Placement.OWN_REPLICAS for model in config.models.values()):
        yield (
            ("gateways",),
            (
                "a gateway weighs servers, so steps of traffic need servers that only the canary's users reach: give a"
                " model placement: own_replicas, and mark those servers canary: true"
            ),
        )
    if config.plan.traffic_steps and not config.gateways:
        yield ("plan", "traffic_steps"), "steps of traffic need a gateway that takes them; give gateways"
    if config.plan.step > config.plan.step_budget:
        yield ("plan", "step_budget"), f"{config.plan.step_budget} ends before a step of {config.plan.step} can"


def _placement(config: Config, model: ModelSection, loc: Loc) -> Found:
    if model.clients is Clients.UNVERSIONED and model.where is Placement.SAME_ENTRY:
        yield (
            (*loc, "placement" if model.placement else "clients"),
            (
                "unversioned clients get the highest version loaded, so loading a canary beside stable would hand it"
                " all traffic at once. Use placement: own_replicas and mark the canary's servers with canary: true; or"
                " placement: second_name; or let clients ask for the label stable and set clients: label"
            ),
        )
    if model.where is Placement.OWN_REPLICAS and not any(canaries(config)):
        yield (*loc, "placement"), "own_replicas needs a server of its own: mark at least one of servers canary: true"
    if model.where is Placement.SECOND_NAME:
        for says in _second_name(config, loc[-1]):
            yield (*loc, "placement"), says


def _second_name(config: Config, model: int | str) -> Iterator[str]:
    """What stands against a name of the canary's own."""
    taken = second_name(ModelName(str(model)))
    if taken in config.models or (config.base is not None and config.base.entry(taken)):
        where = "models" if taken in config.models else config.model_config_file
        yield f"second_name would take the name {taken}, which {where} has already; rename that model"
    for server in config.servers:
        if server.config_file is not None:
            yield (
                f"second_name adds a model to a server and takes it away again, and of a file that a server polls"
                f" ({server.config_file}) only the models in it are changed; use same_entry or own_replicas"
            )
            return


def _gauges(config: Config, name: str, model: ModelSection, loc: Loc) -> Found:
    """Every gauge must have somewhere to be read, or it would stay without data for ever."""
    at: Loc = (*loc, "analysis", "gauges") if model.analysis else ("analysis", "gauges")
    source = config.prometheus
    paged = any(server.process_url for server in config.servers) or any(one.process_port for one in config.discover)
    for gauge, section in config.analysis_of(name).gauges.items():
        if section.kind is Gauge.QUERY and source is None:
            yield (*at, gauge), "a query needs a server to ask: give prometheus: {url: http://HOST:9090}"
        wanted = {Gauge.CPU: "cpu", Gauge.MEMORY: "memory", Gauge.GROWTH: "memory"}.get(section.kind)
        if wanted and not paged and (source is None or getattr(source, wanted) is None):
            yield (
                (*at, gauge),
                (
                    "no server says where its process is measured; give servers[].process_url, discover[].process_port,"
                    f" or prometheus.{wanted} with $server in the query"
                ),
            )
    if source is not None and source.ca is not None and not source.ca.is_file():
        yield ("prometheus", "ca"), f"no such file: {source.ca}"


def _in_base(config: Config, base: ServerConfig, name: str, model: ModelSection, loc: Loc) -> Found:
    entry = base.entry(ModelName(name))
    if entry is None:
        known = [one.name for one in base.models]
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        yield loc, f"not in {config.model_config_file}; {hint}It has {', '.join(known)}"
        return
    settled = model.at_rest(entry)
    if config.mode is Mode.ENFORCE and entry.policy is not Policy.SPECIFIC:
        version = settled if settled is not None else "N"
        yield (
            loc,
            (
                f"its policy in {config.model_config_file} is {entry.policy}, by which Serving loads a new directory,"
                " and unloads the old version, on its own. To enforce, write"
                f" `model_version_policy {{ specific {{ versions: {version} }} }}` there (haldane adopt drafts it)"
            ),
        )
    elif settled is None and model.stable is None:
        yield loc, f"which version do users get? Give stable: N; {config.model_config_file} does not say it"


def _enforcing(config: Config) -> Found:
    if config.model_config_file is None:
        yield (
            ("mode",),
            (
                "enforce needs model_config_file: a reload replaces the whole model list of a server, so the agent must"
                " know it (haldane adopt drafts one)"
            ),
        )
    if not config.models:
        yield ("models",), "enforce needs at least one model here"
    for index, server in enumerate(config.servers):
        if server.metrics_url is None:
            yield (
                ("servers", index),
                (
                    "enforce needs metrics_url: a reload replaces all models of a server, and its metrics page is the"
                    " only way to see whether others are served there. It is"
                    " http://HOST:REST_PORT/monitoring/prometheus/metrics of a server with --monitoring_config_file"
                ),
            )
