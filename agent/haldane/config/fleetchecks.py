"""Checks of servers, of lists of them, and of the files through which they are changed."""

from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path

from haldane.config.discover import SOURCES
from haldane.config.problems import Found, Loc
from haldane.config.sections import Config
from haldane.domain.fleet import ModelName, ServerConfig
from haldane.domain.rollout import Mode

POLLED_LABELS = (
    "servers[].config_file: the file will hold labels, so its server must run with"
    " --allow_version_labels_for_unavailable_models, or it does not start again on it"
)


def servers(config: Config) -> Found:
    """Servers by name, address and file: each must be one."""
    files: dict[Path, int] = {}
    names: dict[str, int] = {}
    addresses: dict[str, int] = {}
    for index, server in enumerate(config.fleet):
        loc: Loc = ("servers", index)
        if server.name in names:
            yield loc, f"the name {server.name} is that of servers[{names[server.name]}] too; names must differ"
        elif server.address in addresses:
            yield loc, f"the address {server.address} is that of servers[{addresses[server.address]}] too"
        if (file := config.servers[index].config_file) is not None:
            if (first := files.setdefault(file, index)) != index:
                says = f"is the file of servers[{first}] too: both would change at once, and no wave could go ahead"
                yield (*loc, "config_file"), f"{says}; give each server a file of its own"
            if config.model_config_file is not None and file == config.model_config_file:
                yield (
                    (*loc, "config_file"),
                    "is model_config_file itself, from which every rollout begins; copy it",
                )
        if config.servers[index].memory and not config.servers[index].process_url:
            yield from _in_use(config, (*loc, "memory"), "process_url")
        names.setdefault(server.name, index)
        addresses.setdefault(server.address, index)
    if not config.servers and not config.discover:
        yield ("servers",), "missing: no server is given; give servers: [HOST:PORT], or discover: a list of them"
    elif all(canaries(config)):
        yield ("servers",), "every server is a canary; at least one must take user traffic"


def _in_use(config: Config, loc: Loc, key: str) -> Found:
    """A limit on memory that nothing could be held against."""
    if config.prometheus is None or config.prometheus.memory is None:
        yield loc, f"nothing tells how much of it is in use; give {key}, or prometheus.memory"


def canaries(config: Config) -> Iterator[bool]:
    """For every server and list of servers, whether it takes no user traffic."""
    yield from (server.canary for server in config.servers)
    yield from (listed.canary for listed in config.discover)


def lists(config: Config) -> Found:
    """Lists of servers: what can be told without reading them."""
    titles: dict[str, int] = {}
    for index, one in enumerate(config.discover):
        if one.memory and not one.process_port:
            yield from _in_use(config, ("discover", index, "memory"), "process_port")
        loc: Loc = ("discover", index)
        if len(one.given) != 1:
            yield loc, f"give exactly one of {', '.join(SOURCES)}; given: {', '.join(one.given) or 'none'}"
            continue
        if (first := titles.setdefault(one.title, index)) != index:
            yield loc, f"the same list as discover[{first}]; keep one"
        if one.kind in ("A", "AAAA") and one.port is None:
            yield loc, f"an {one.kind} record names no port; give port: that of the gRPC listener"
        if one.dns is None and (one.record or one.resolver):
            yield (*loc, "record" if one.record else "resolver"), "belongs to dns"
        if one.kubernetes is None and one.port_name is not None:
            yield (*loc, "port_name"), "belongs to kubernetes"
        if one.resolver is not None and not _is_ip(one.resolver.rpartition(":")[0].strip("[]")):
            yield (*loc, "resolver"), f"must be an IP address with a port, such as 10.0.0.2:53; got {one.resolver}"
        if config.mode is Mode.ENFORCE and not one.pages:
            says = (
                "enforce needs the metrics pages (see servers[].metrics_url); give metrics_port: that of the REST API"
            )
            yield loc, says


def boot_configs(config: Config) -> Found:
    """What servers boot with: one place each, and none that a rollout writes too."""
    titles: dict[str, int] = {}
    polled = [one.config_file for one in config.servers if one.config_file is not None]
    for index, one in enumerate(config.boot_configs):
        loc: Loc = ("boot_configs", index)
        if (one.file is None) == (one.config_map is None):
            yield loc, "give exactly one of file, config_map"
        elif (first := titles.setdefault(one.title, index)) != index:
            yield loc, f"the same as boot_configs[{first}]; keep one"
        elif one.file is not None and one.file in polled:
            yield (*loc, "file"), "is a server's config_file, which follows every rollout; leave it out here"
        elif config.model_config_file is None:
            yield loc, "needs model_config_file, which says what the models are"


def _is_ip(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def polled(config: Config, parse_models: Callable[[str, str], ServerConfig]) -> Found:
    """The files that servers poll: readable, and with every model that is to be changed, at the same place."""
    for index, server in enumerate(config.servers):
        loc: Loc = ("servers", index, "config_file")
        if (path := server.config_file) is None:
            continue
        try:
            listed = parse_models(path.read_text(encoding="utf-8"), str(path))
        except OSError as error:
            yield loc, f"cannot read {path}: {error.strerror}"
            continue
        except ValueError as error:
            yield from ((loc, line) for line in str(error).splitlines())
            continue
        for name in config.models:
            entry, base = listed.entry(ModelName(name)), config.base_path(name)
            if entry is None:
                yield loc, f"{path} has no model {name}; a server that polls it does not serve it"
            elif base and entry.base_path.rstrip("/") != base.rstrip("/"):
                yield loc, f"{path}: base_path of {name} is {entry.base_path}, in model_config_file it is {base}"
