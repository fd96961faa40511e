"""A forecast in plain sentences, English or Chinese."""

from haldane.domain.evidence import Role
from haldane.judge.explain import metric_in
from haldane.judge.forecast import Outlook
from haldane.judge.verdict import quantity

_TEXT = {
    "en": {
        "name": "{metric} ({bound} {text}{seen}): ",
        "seen share": ", {share:.3g} % of requests",
        "promise": "an identical canary passes after about {pairs} pairs ({time})",
        "no promise": "even an identical canary will not pass with the {limit} pairs that can be had",
        "least margin": "the smallest {bound} it could keep is {least}",
        "caught": "a canary {worse} is caught after about {pairs} pairs ({time})",
        "seen": "a canary {worse} is shown to be after about {pairs} pairs ({time})",
        "worse": "worse by {harm}",
        "twice": "at twice the limit",
        "nothing": "no harm can be shown with {limit} pairs",
        "missed": "harm of less than {least} will not be caught in time",
        "missed limit": "less than {least} will not be caught in time",
        "fact": "measured once on each server when the canary is loaded, so it takes no pairs",
        "and": "; ",
        "s": "{0:.0f} s",
        "min": "{0:.0f} min",
        "h": "{0:.1f} h",
        "margin": "margin",
        "limit": "limit",
    },
    "zh": {
        "name": "{metric}（{bound} {text}{seen}）：",
        "seen share": "，占请求的 {share:.3g}%",
        "promise": "相同的金丝雀约需 {pairs} 对（{time}）即可通过",
        "no promise": "可用的 {limit} 对不足以让相同的金丝雀通过",
        "least margin": "所能满足的最小{bound}为 {least}",
        "caught": "{worse}的金丝雀约在 {pairs} 对（{time}）后被发现",
        "seen": "{worse}的金丝雀约在 {pairs} 对（{time}）后得到证实",
        "worse": "差 {harm} ",
        "twice": "达到上限两倍",
        "nothing": "{limit} 对不足以证明任何损害",
        "missed": "小于 {least} 的损害来不及被发现",
        "missed limit": "低于 {least} 时来不及被发现",
        "fact": "加载金丝雀时在每台服务器上测量一次，不需要请求对",
        "and": "；",
        "s": "{0:.0f} 秒",
        "min": "{0:.0f} 分钟",
        "h": "{0:.1f} 小时",
        "margin": "容限",
        "limit": "上限",
    },
}


def foretell(outlook: Outlook, language: str = "en") -> str:
    """What to expect of one metric; `language` is "en" or "zh"."""
    text = _TEXT[language]
    seen = text["seen share"].format(share=100 * outlook.share) if outlook.share < 1 else ""
    name = text["name"].format(
        metric=metric_in(outlook.metric, language), bound=text[outlook.bound], text=outlook.margin_text, seen=seen
    )
    if outlook.fact:
        return name + text["fact"]
    parts = [*_promotion(outlook, language)] if outlook.role is Role.OBJECTIVE else []
    if outlook.rollback_pairs is not None and outlook.rollback_seconds is not None:
        twice = quantity(2 * outlook.margin, outlook.unit)
        worse = text["twice"] if outlook.bound == "limit" else text["worse"].format(harm=twice)
        when = duration(outlook.rollback_seconds, language)
        parts.append(
            text["caught" if outlook.role.rolls_back else "seen"].format(
                worse=worse, pairs=_many(outlook.rollback_pairs), time=when
            )
        )
    if outlook.least_harm is None:
        parts.append(text["nothing"].format(limit=_many(outlook.limit)))
    else:
        missed = text["missed limit" if outlook.bound == "limit" else "missed"]
        parts.append(missed.format(least=quantity(outlook.least_harm, outlook.unit)))
    return name + text["and"].join(parts)


def _promotion(outlook: Outlook, language: str) -> list[str]:
    text = _TEXT[language]
    if outlook.promote_pairs is not None and outlook.promote_seconds is not None:
        when = duration(outlook.promote_seconds, language)
        return [text["promise"].format(pairs=_many(outlook.promote_pairs), time=when)]
    told = [text["no promise"].format(limit=_many(outlook.limit))]
    if outlook.least_margin is not None:
        least = quantity(outlook.least_margin, outlook.unit)
        told.append(text["least margin"].format(bound=text[outlook.bound], least=least))
    return told


def duration(seconds: float, language: str = "en") -> str:
    """Seconds as people say them."""
    text = _TEXT[language]
    if seconds < 90:
        return text["s"].format(seconds)
    if seconds < 5400:
        return text["min"].format(seconds / 60)
    return text["h"].format(seconds / 3600)


def _many(pairs: int) -> str:
    """A count to two significant digits: more would promise too much."""
    digits = max(0, len(str(pairs)) - 2)
    return f"{round(pairs, -digits):,}"
