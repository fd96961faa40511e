"""Before the first reload to a server: does it serve anything that our config would unload?

A reload replaces the whole list, and no call returns the list a server has. Its
metrics page is the only witness: a model named there that is not wholly END and
not in the wanted config is somebody else's.
"""

from collections.abc import Collection, Mapping

from haldane.domain.fleet import Availability, ModelName, Server, ServerConfig
from haldane.ports import ModelServer, PortError
from haldane.serving.exposition import MetricsPage, base_paths_seen, models_seen, parse

_FIX = "add it with `haldane adopt`, or point model_config_file at this server's own config"


Ours = Mapping[ModelName, Collection[int]]


async def foreign_models(base: ServerConfig, server: Server, client: ModelServer, ours: Ours | None = None) -> str:
    """Why this server must not be changed, in one sentence, or "".

    `ours`: the second names of canaries, and the versions that a rollout under way may have put there.
    """
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
        return await _compare(base, server, client, parse(page), ours or {})
    except PortError as error:
        return f"{server.name}: its models could not be checked before the first reload: {error.detail}"


async def _compare(base: ServerConfig, server: Server, client: ModelServer, page: MetricsPage, seconds: Ours) -> str:
    known = {str(entry.name) for entry in base.models}
    ours = {entry.base_path.rstrip("/") for entry in base.models}
    strangers = base_paths_seen(page) - ours
    # By custom a model is called like the directory that holds its versions.
    customary = {path: path.rpartition("/")[2] for path in strangers}
    # Of a second name whose model has the same base path no page tells before its first call.
    candidates = sorted((models_seen(page) | set(customary.values()) | set(seconds)) - known)
    view = await client.look({ModelName(name): () for name in candidates}, {})
    for name in candidates:
        statuses = view.models[ModelName(name)].versions if ModelName(name) in view.models else ()
        serving = [status.version for status in statuses if status.availability is not Availability.END]
        if name in seconds:
            leaving = {one.version for one in statuses if one.availability is Availability.UNLOADING}
            if foreign := sorted({*serving}.difference(leaving, seconds[ModelName(name)])):
                return (
                    f"{server.name} serves model {name!r} (version {foreign[0]}): a canary of ours would take that name"
                    " (placement: second_name), and no rollout under way has introduced this one; take it out of that"
                    " server's config, or choose another placement"
                )
        elif serving:
            return f"{server.name} serves model {name!r} (version {serving[0]}), which the config lacks; {_FIX}"
    for path, name in sorted(customary.items()):
        model = view.models.get(ModelName(name))
        if name in known or model is None or not model.versions:
            return f"{server.name} loaded {path}, which no model of the config has as base path; {_FIX}"
    return ""
