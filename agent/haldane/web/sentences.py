"""A rollout in sentences: where it stands and why, then the judge's own explanation."""

from haldane.domain.evidence import Ruling
from haldane.domain.rollout import Phase
from haldane.judge.explain import explain, in_words
from haldane.judge.rules import Rules
from haldane.rollout.ramp import percent, wanted_share
from haldane.web.chinese import in_chinese
from haldane.web.story import Story, data_of

_STANDS = {
    "en": {
        Phase.PENDING: "Version {new} of {model} waits to begin.",
        Phase.LOADING: "Version {new} of {model} is being loaded.",
        Phase.SHADOWING: "Version {new} of {model} is on trial: shadow pairs are sent and judged; users still get"
        " version {old}.",
        Phase.RAMPING: "Version {new} of {model} has passed and takes users in steps; {share} of their calls go to it.",
        Phase.PROMOTING: "Version {new} of {model} is being promoted, server by server.",
        Phase.BAKING: "Version {new} of {model} is stable on every server; harm is still watched for.",
        Phase.HELD: "Version {new} of {model} is held until a person resumes, promotes or aborts it.",
        Phase.ROLLING_BACK: "Version {new} of {model} is being withdrawn.",
        Phase.SUCCEEDED: "Version {new} of {model} was promoted.",
        Phase.ROLLED_BACK: "Version {new} of {model} was withdrawn; version {old} is stable.",
        Phase.STUCK: "Version {new} of {model} could not be withdrawn everywhere: a person is needed.",
    },
    "zh": {
        Phase.PENDING: "{model} 的版本 {new} 等待开始。",
        Phase.LOADING: "{model} 的版本 {new} 正在加载。",
        Phase.SHADOWING: "{model} 的版本 {new} 正在接受试验：发送影子请求对并判定；用户仍使用版本 {old}。",
        Phase.RAMPING: "{model} 的版本 {new} 已通过，正在分步接收用户流量；现在 {share} 的调用由它处理。",
        Phase.PROMOTING: "{model} 的版本 {new} 正在逐台服务器上线。",
        Phase.BAKING: "{model} 的版本 {new} 已在所有服务器上成为稳定版本；仍在观察是否有损害。",
        Phase.HELD: "{model} 的版本 {new} 已暂停，等待有人恢复、上线或中止。",
        Phase.ROLLING_BACK: "{model} 的版本 {new} 正在撤回。",
        Phase.SUCCEEDED: "{model} 的版本 {new} 已上线。",
        Phase.ROLLED_BACK: "{model} 的版本 {new} 已撤回；版本 {old} 是稳定版本。",
        Phase.STUCK: "{model} 的版本 {new} 未能在所有服务器上撤回：需要有人处理。",
    },
}
# Of a first version, where it differs.
_FIRST = {
    "en": {
        Phase.SHADOWING: "Version {new} of {model}, its first, is on trial against absolute limits; no version is"
        " stable yet.",
        Phase.ROLLED_BACK: "Version {new} of {model}, its first, was withdrawn; no version is stable.",
    },
    "zh": {
        Phase.SHADOWING: "{model} 的首个版本 {new} 正在按绝对上限接受试验；尚无稳定版本。",
        Phase.ROLLED_BACK: "{model} 的首个版本 {new} 已撤回；没有稳定版本。",
    },
}
_QUOTED = "日志原文：{why}"  # people's words, as they were recorded
_SINCE = {"en": "Seen since, and no reason to withdraw: {doubt}.", "zh": "此后还观察到（不构成撤回理由）：{doubt}。"}
_REVERTS = {
    "en": "It takes back the promotion of rollout {reverts}, whose evidence follows.",
    "zh": "它撤回的是 {reverts} 的上线；以下是后者的证据。",
}
_TAKEN_BACK = {
    "en": "The promotion was taken back later by rollout {revert}.",
    "zh": "该上线后来被 {revert} 撤回。",
}
_FILES = {
    "en": {
        "verified": "Its files are those that were published: {why}, SHA-256 {digest}.",
        "unverified": "Unverified: whether its files are those that were published is not known; {why}.",
        "changed": "Its files are not those that were published: {why}.",
        "not compared": "Its files could not be compared with those that were published; {why}.",
        "answers": "Before its label was set, each server answered {golden} requests as when it was validated.",
    },
    "zh": {
        "verified": "其文件与发布时一致：{why}，SHA-256 {digest}。",
        "unverified": "未核实：不知道其文件是否与发布时一致；{why}。",
        "changed": "其文件与发布时不一致：{why}。",
        "not compared": "无法将其文件与发布时的文件比较；{why}。",
        "answers": "在打上标签之前，每台服务器对 {golden} 个请求的应答都与验证时相同。",
    },
}
_TRAINED = {
    "en": {
        "on": "Version {new} was trained on {data}.",
        "on slices": "Version {new} was trained on {data}: look there at {slices}.",
        "unknown": "What data version {new} was trained on is not known: nobody said so when it was published"
        " (data_version, or an MLflow run).",
    },
    "zh": {
        "on": "版本 {new} 的训练数据为 {data}。",
        "on slices": "版本 {new} 的训练数据为 {data}：请检查其中的 {slices}。",
        "unknown": "不知道版本 {new} 用哪些数据训练：发布时没有说明（data_version 或 MLflow run）。",
    },
}
_NO_DATA = {"en": "No data: nothing was judged.", "zh": "没有数据：尚未进行任何判定。"}


def standing(story: Story, language: str = "en") -> str:
    """Where the rollout stands, in one sentence."""
    rollout = story.rollout
    stands = _STANDS[language] | (_FIRST[language] if rollout.first else {})
    share = percent(wanted_share(rollout))
    return stands[rollout.phase].format(model=rollout.model, old=rollout.old, new=rollout.new, share=share)


def _reverted(story: Story, language: str) -> list[str]:
    """What a promotion and its revert have to say of each other."""
    told = [_TAKEN_BACK[language].format(revert=revert) for revert in story.reverts]
    if story.rollout.reverts is not None:
        told.append(_REVERTS[language].format(reverts=story.rollout.reverts))
    return told


def _files(story: Story, language: str) -> list[str]:
    """What is known of its being what was published; nothing when that was not looked into."""
    if (found := story.release) is None:
        return []
    says, result = _FILES[language], found["result"]
    labelled = any(one.data.get("to") == Phase.SHADOWING for one in story.records)
    golden = found.get("golden", 0)
    answered = [says["answers"].format(golden=golden)] if golden and labelled else []
    why = found["why"] if language == "en" else in_chinese(found["why"]) or found["why"]
    form = says["not compared" if result == "unverified" and answered else result]
    return [form.format(why=why, digest=found["digest"][:12]), *answered]


def _trained_on(story: Story, ruling: Ruling, language: str) -> list[str]:
    """Where worse answers lead back to: the data of the version; nothing unless answers were proven worse."""
    named = [one for one in ruling.findings if one.metric in ruling.named]
    slices = list(dict.fromkeys(one.slice for one in named if one.slice))
    if not slices and not any(one.metric.startswith(("accuracy", "loss")) for one in named):
        return []
    data, says = ", ".join(data_of(story.release)), _TRAINED[language]
    form = says["unknown" if not data else "on slices" if slices else "on"]
    return [form.format(new=story.rollout.new, data=data, slices=", ".join(slices))]


def explained(story: Story, language: str = "en") -> list[str]:
    """Where the rollout stands, why, then what the judge says of it."""
    told = [standing(story, language), _why(story.rollout.why, language), *_reverted(story, language)]
    told += _files(story, language)
    if (ruling := story.ruling) is None:
        return [*told, _NO_DATA[language]]
    judged = explain(ruling, Rules.from_json(story.rollout.analysis), language)
    since = [_SINCE[language].format(doubt=in_words(story.doubt, language))] if story.doubt else []
    return [*told, *judged, *_trained_on(story, ruling, language), *since]


def _why(english: str, language: str) -> str:
    if language == "en":
        return english
    chinese = in_chinese(english)
    return _QUOTED.format(why=english) if chinese is None else f"{chinese}。"
