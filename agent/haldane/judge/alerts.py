"""Conditions → how bad they are, and one sentence about each, in English and Chinese.

The names and severities are those of rules/haldane.yml, so that an alert is
the same whichever way it came.
"""

from haldane.domain.fleet import Condition

_ALERT = {
    "failed_load": ("HaldaneLoadFailed", "page"),
    "load_stuck": ("HaldaneLoadStuck", "ticket"),
    "upload_incomplete": ("HaldaneUploadIncomplete", "page"),
    "version_not_loaded": ("HaldaneVersionNotLoaded", "ticket"),
    "label_dangling": ("HaldaneLabelDangling", "page"),
    "label_drift": ("HaldaneLabelDrift", "page"),
    "config_drift": ("HaldaneConfigDrift", "ticket"),
    "server_unseen": ("HaldaneServerUnseen", "page"),
    "server_restarted": ("HaldaneServerRestarted", "info"),
    "unapproved_version": ("HaldaneUnapprovedVersion", "page"),
    "rollout_stuck": ("HaldaneRolloutStuck", "page"),
    "rollback_slow": ("HaldaneRollbackSlow", "page"),
    "stable_failing": ("HaldaneStableFailing", "page"),
    "watching": ("HaldaneWatching", "info"),
}
_SUMMARY = {
    "watching": ("Haldane is watching", "Haldane 正在监视"),
    "rollout_stuck": ("the rollback of {model} does not get through", "{model} 的回滚无法完成"),
    "rollback_slow": ("rolling back {model} takes longer than a minute", "{model} 的回滚已超过一分钟"),
    "stable_failing": ("the stable version of {model} fails requests", "{model} 的稳定版本有请求失败"),
    "failed_load": ("{model} version {version} failed to load", "{model} 的版本 {version} 加载失败"),
    "load_stuck": ("{model} version {version} has been loading for too long", "{model} 的版本 {version} 加载时间过长"),
    "upload_incomplete": (
        "{model} version {version} is not complete in storage, and cannot load",
        "{model} 的版本 {version} 在存储中不完整，无法加载",
    ),
    "version_not_loaded": (
        "{model} version {version} lies in storage, but nothing loads it",
        "{model} 的版本 {version} 已在存储中，但没有服务器加载它",
    ),
    "label_dangling": ("a label of {model} points to nothing", "{model} 的一个标签没有指向任何版本"),
    "label_drift": (
        "a label of {model} does not name the version it should",
        "{model} 的一个标签没有指向它应指向的版本",
    ),
    "config_drift": (
        "{model} version {version} should be loaded, but is not",
        "{model} 的版本 {version} 应当加载，但没有加载",
    ),
    "server_restarted": ("{servers} restarted", "{servers} 已重新启动"),
    "server_unseen": ("{servers} cannot be seen", "看不到 {servers}"),
    "unapproved_version": (
        "{model} version {version} is loaded, but nobody asked for it",
        "{model} 的版本 {version} 已加载，但无人要求加载",
    ),
}


def watching(since: float) -> Condition:
    """The dead man's switch: told with every telling, so that its absence says that nobody tells any more."""
    detail = "It comes for as long as the agent tells. When it stops, no other alert can come."
    return Condition("watching", "", None, (), detail, since)


def alert_of(name: str) -> tuple[str, str]:
    """The alert's name and severity (page, ticket, info) for a condition."""
    return _ALERT.get(name, ("Haldane" + "".join(part.capitalize() for part in name.split("_")), "page"))


def summary(condition: Condition, language: str = "en") -> str:
    """What is wrong, in one sentence without a full stop."""
    unknown = condition.name.replace("_", " ") + " on {servers}"
    english, chinese = _SUMMARY.get(condition.name, (unknown, unknown))
    return (chinese if language == "zh" else english).format(
        model=condition.model, version=condition.version, servers=", ".join(condition.servers)
    )


def runbook(name: str) -> str:
    """The runbook of a condition, a path inside this repository."""
    return f"docs/runbooks/{alert_of(name)[0]}.md"
