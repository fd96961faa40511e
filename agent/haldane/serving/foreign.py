"""Before the first reload to a server: does it serve anything that our config would unload?

A reload replaces the whole list, and no call returns the list a server has. Its
metrics page is the only witness: a model named there that is not wholly END and
not in the wanted config is somebody else's.
"""

from haldane.domain.fleet import Availability, ModelName, Server, ServerConfig
from haldane.ports import ModelServer, PortError
from haldane.serving.exposition import ModelsSeen, models_seen, parse

_FIX = "add it with `haldane adopt`, or point model_config_file at this server's own config"


async def foreign_models(base: ServerConfig, server: Server, client: ModelServer) -> str:
    """Why this server must not be changed, in one sentence, or ""."""
    if server.metrics_url is None:
        return (
            f"{server.name} has no metrics_url, so it cannot be known which models a reload would unload; "
            "set servers[].metrics_url and start the server with --monitoring_config_file"
        )
    try:
        page = await client.scrape()
        if page is None:
            return (
                f"{server.name} shows no metrics page at {server.metrics_url}; start it with --monitoring_config_file"
            )
        return await _compare(base, server, client, models_seen(parse(page)))
    except PortError as error:
        return f"{server.name}: its models could not be checked before the first reload: {error.detail}"


async def _compare(base: ServerConfig, server: Server, client: ModelServer, seen: ModelsSeen) -> str:
    known = {entry.name for entry in base.models}
    names = {name for name in seen.names if name and name not in known}
    strangers = {path for path in seen.paths if not _ours(base, path)}
    candidates = sorted(names | {_model_of(path) for path in strangers} - known)
    view = await client.look({ModelName(name): () for name in candidates}, {})
    for name in candidates:
        model = view.models.get(ModelName(name))
        serving = [s.version for s in model.versions if s.availability is not Availability.END] if model else []
        if serving:
            return f"{server.name} serves model {name!r} (version {serving[0]}), which the config lacks; {_FIX}"
    unknown = [path for path in sorted(strangers) if not _named(path, view.models)]
    return (
        f"{server.name} loaded {unknown[0]}, which no model of the config has as base path; {_FIX}" if unknown else ""
    )


def _ours(base: ServerConfig, path: str) -> bool:
    parent = path.rpartition("/")[0]
    return any(entry.base_path.rstrip("/") == parent for entry in base.models)


def _model_of(path: str) -> str:
    """By custom a model is called like the directory that holds its versions."""
    return path.rpartition("/")[0].rpartition("/")[2]


def _named(path: str, models: object) -> bool:
    """Its status was found under the customary name, and it no longer serves."""
    return isinstance(models, dict) and bool(models.get(_model_of(path)) and models[_model_of(path)].versions)
