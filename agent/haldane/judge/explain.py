"""A Ruling in plain sentences, English or Chinese: estimate, interval, margin, pairs, and when the evidence crossed.

Says "evidence 118:1", never "probability 99 % that it is worse": an e-value
is no posterior. The verdict stands even where the evidence falls again; it
was valid when given.
"""

import math
import re
from collections.abc import Iterator, Sequence

from haldane.domain.evidence import Finding, Role, Ruling, State, Verdict
from haldane.judge.chinese import PHRASES
from haldane.judge.gauges import Gauge
from haldane.judge.rules import Rules
from haldane.judge.spread import sentences
from haldane.judge.verdict import odds, quantity

LANGUAGES = ("en", "zh")

_VERDICT = {
    "en": {
        Verdict.PASS: "PASS after {pairs} pairs ({seconds}): no harm beyond the margins.",
        Verdict.FAIL: "FAIL after {pairs} pairs ({seconds}): the canary is harmful.",
        Verdict.CONTINUE: "UNDECIDED after {pairs} pairs ({seconds}): more pairs are needed.",
        Verdict.INCONCLUSIVE: "INCONCLUSIVE after {pairs} pairs ({seconds}): nothing was shown, so stable stays.",
    },
    "zh": {
        Verdict.PASS: "通过：经过 {pairs} 对请求（{seconds}），未见超出容限的损害。",
        Verdict.FAIL: "不通过：经过 {pairs} 对请求（{seconds}），金丝雀版本有害。",
        Verdict.CONTINUE: "尚未判定：已有 {pairs} 对请求（{seconds}），还需要更多。",
        Verdict.INCONCLUSIVE: "无结论：经过 {pairs} 对请求（{seconds}）未能证明任何结果，因此保留稳定版本。",
    },
}
_METRIC: dict[str, dict[str, str]] = {
    "en": {},
    "zh": {
        "errors": "错误率",
        "accuracy": "准确率",
        "disagreement": "输出不一致",
        "drift": "输出漂移",
        "latency": "延迟",
        "loss": "损失",
        "limit": "上限",
    },
}
_MEASURE = {
    "en": {
        "errors": "share of failed requests",
        "accuracy": "share of wrong answers",
        "disagreement": "share of answers that differ from stable's, less the noise floor",
        "drift": "largest gap between the distributions of outputs",
        "latency": "typical latency relative to stable",
        "loss": "mean loss",
        "query": "typical value of the worse side relative to the other",
        "cpu": "CPU per request relative to stable",
        "memory": "memory added by the load",
        "memory_growth": "growth of memory",
        "load_time": "time to load",
    },
    "zh": {
        "errors": "失败请求占比",
        "accuracy": "错误答案占比",
        "disagreement": "与稳定版本不同的答案占比（扣除噪声基线）",
        "drift": "两侧输出分布的最大差距",
        "latency": "相对稳定版本的典型延迟",
        "loss": "平均损失",
        "query": "较差一侧相对另一侧的典型值",
        "cpu": "每个请求的 CPU 相对稳定版本",
        "memory": "加载所增加的内存",
        "memory_growth": "内存增长速度",
        "load_time": "加载时间",
    },
}
_FORM: dict[str, str] = {  # of the sentence, where pairs are not what counts
    **{kind: "fact" if kind.fact else "gauge" for kind in Gauge},
    Gauge.GROWTH: "growth",
}
_COUNTED = {
    "gauge": (" block", " blocks"),
    "growth": (" couple of blocks", " couples of blocks"),
    "fact": (" server", " servers"),
}
_RATE = {  # of the canary alone, held to a limit
    "en": {
        "errors": "share of the canary's requests that failed",
        "latency": "share of the canary's requests that took longer",
    },
    "zh": {"errors": "金丝雀版本失败的请求占比", "latency": "金丝雀版本更慢的请求占比"},
}
_BOUND = {"en": {"margin": "margin", "limit": "limit"}, "zh": {"margin": "容限", "limit": "上限"}}
_STATE = {
    "en": {
        State.HARMFUL: "beyond the {bound} (evidence {harm})",
        State.HARMLESS: "within the {bound} (evidence for it {harmless})",
        State.UNDECIDED: "undecided (evidence against it {harm}, for it {harmless})",
    },
    "zh": {
        State.HARMFUL: "超出{bound}（证据 {harm}）",
        State.HARMLESS: "在{bound}之内（支持的证据 {harmless}）",
        State.UNDECIDED: "尚未判定（不利证据 {harm}，有利证据 {harmless}）",
    },
}
_TEXT = {
    "en": {
        "finding": "{metric} ({role}): {measure} {estimate}, 95 % always-valid interval {interval}, {bound} {margin}, "
        "from {pairs} pairs: {state}. {detail}.",
        "gauge": "{metric} ({role}): {measure} {estimate}, 95 % always-valid interval {interval}, margin {margin}, "
        "from {counted} of time: {state}. {detail}.",
        "growth": "{metric} ({role}): {measure} {estimate}, {bound} {margin}, from {counted}: {state}. {detail}.",
        "fact": "{metric} ({role}): {measure} {estimate}, {bound} {margin}, measured on {counted}: {state}. {detail}.",
        "no estimate": "{metric} ({role}): {pairs} pairs, too few to estimate. {detail}.",
        "no data": "{metric} ({role}): no data. {detail}.",
        "strength": "Evidence over all metrics {now} (a rollback needs {need}).",
        "meaning": "If the canary were within every margin, evidence of {need} would ever appear in at most {alpha} "
        "of analyses.",
        "named": "Proven one by one: {names}.",
        "slice": "Worse in {slice}: {names}.",
        "jointly": "The harm is proven jointly; no single metric can be named.",
        "fell": "The evidence has fallen since; the verdict was valid when it was given and stands.",
        "crossed": "The evidence sufficed at pair {pairs}, {seconds} after the start.",
        "why": "Why: {why}.",
        "moment": " The evidence sufficed at pair {pairs}, {seconds} after the start{since}.",
        "since": ", by the bet opened at pair {pair}",
        "note": "Note: {note}.",
    },
    "zh": {
        "finding": "{metric}（{role}）：{measure} {estimate}，95% 始终有效区间 {interval}，{bound} {margin}，"
        "共 {pairs} 对：{state}。{detail}。",
        "gauge": "{metric}（{role}）：{measure} {estimate}，95% 始终有效区间 {interval}，容限 {margin}，"
        "共 {pairs} 个时间区块：{state}。{detail}。",
        "growth": "{metric}（{role}）：{measure} {estimate}，{bound} {margin}，共 {pairs} 对区块：{state}。{detail}。",
        "fact": "{metric}（{role}）：{measure} {estimate}，{bound} {margin}，在 {pairs} 台服务器上测得：{state}。"
        "{detail}。",
        "no estimate": "{metric}（{role}）：{pairs} 对，太少，无法估计。{detail}。",
        "no data": "{metric}（{role}）：没有数据。{detail}。",
        "strength": "全部指标的综合证据 {now}（回滚需要 {need}）。",
        "meaning": "如果金丝雀版本在所有容限之内，那么 {need} 的证据在全部分析中出现的比例至多为 {alpha}。",
        "named": "逐项证实：{names}。",
        "slice": "在 {slice} 中更差：{names}。",
        "jointly": "损害是合并证实的；无法归因于单个指标。",
        "fell": "此后证据有所回落；判定在作出时有效，仍然成立。",
        "crossed": "证据在第 {pairs} 对时充分，即开始后 {seconds}。",
        "why": "原因：{why}。",
        "moment": "证据在第 {pairs} 对时充分，即开始后 {seconds}{since}。",
        "since": "，来自第 {pair} 对时开启的投注",
        "note": "说明：{note}。",
    },
}
_ROLE = {
    "en": {
        Role.OBJECTIVE: "objective",
        Role.GUARDRAIL: "guardrail",
        Role.SIGNAL: "signal",
        Role.INFO: "for information",
    },
    "zh": {Role.OBJECTIVE: "目标", Role.GUARDRAIL: "护栏", Role.SIGNAL: "信号", Role.INFO: "仅供参考"},
}


def explain(ruling: Ruling, rules: Rules, language: str = "en") -> tuple[str, ...]:
    """The sentences that tell this Ruling, the verdict first; `language` is "en" or "zh"."""
    if language not in LANGUAGES:
        raise ValueError(f"no sentences in {language!r}; there are {', '.join(LANGUAGES)}")
    pairs = f"{ruling.pairs if ruling.decided_pairs is None else ruling.decided_pairs:,}"
    elapsed = ruling.seconds if ruling.decided_seconds is None else ruling.decided_seconds
    opening = _VERDICT[language][ruling.verdict].format(pairs=pairs, seconds=_time(elapsed, language))
    return (
        opening,
        *_reasons(ruling, rules, language),
        *(said for finding in _harmful_first(ruling.findings) for said in _told(finding, language)),
        *_strength(ruling, rules, language),
        *(_TEXT[language]["note"].format(note=in_words(note, language)) for note in ruling.notes),
    )


def counted(finding: Finding) -> str:
    """How much a finding rests on: pairs, or blocks of time or servers where pairs are not what counts."""
    one, more = _COUNTED.get(_FORM.get(finding.measures, ""), ("", ""))
    return f"{finding.pairs:,}{one if finding.pairs == 1 else more}"


def _told(finding: Finding, language: str) -> Iterator[str]:
    yield describe(finding, language)
    if finding.spread is not None:
        yield from sentences(finding.spread, _METRIC[language].get(finding.metric, finding.metric), language)


def describe(finding: Finding, language: str = "en") -> str:
    """One Finding as a sentence."""
    text, detail = _TEXT[language], in_words(finding.detail, language)
    bound = _BOUND[language][finding.bound]
    measures, measured = finding.measures or finding.metric, _RATE if finding.bound == "limit" else _MEASURE
    words = {
        "metric": metric_in(finding.metric, language),
        "bound": bound,
        "role": _ROLE[language][finding.role],
        "pairs": f"{finding.pairs:,}",
        "counted": counted(finding),
        "detail": detail[:1].upper() + detail[1:],
    }
    if finding.state is State.NO_DATA:
        return text["no data"].format(**words)
    if finding.estimate is None or finding.margin is None:
        return text["no estimate"].format(**words)
    sentence = text[_FORM.get(measures, "finding")].format(
        **words,
        measure=measured[language].get(measures) or _MEASURE[language].get(measures, finding.metric),
        estimate=quantity(finding.estimate, finding.unit),
        interval=_interval(finding, language),
        margin=quantity(finding.margin, finding.unit),
        state=_STATE[language][finding.state].format(
            bound=bound, harm=odds(finding.log10_harm), harmless=odds(finding.log10_harmless)
        ),
    )
    return sentence + _moment(finding, language)


def _moment(finding: Finding, language: str) -> str:
    """When the evidence for this finding first sufficed."""
    if finding.crossed_pairs is None or finding.crossed_seconds is None:
        return ""
    text = _TEXT[language]
    since = "" if finding.since_pair is None else text["since"].format(pair=f"{finding.since_pair:,}")
    when = _time(finding.crossed_seconds, language)
    return text["moment"].format(pairs=f"{finding.crossed_pairs:,}", seconds=when, since=since)


def _interval(finding: Finding, language: str) -> str:
    low, high = (quantity(end, finding.unit) for end in (finding.lower, finding.upper))
    return f"{low} to {high}" if language == "en" else f"{low} 至 {high}"


def _reasons(ruling: Ruling, rules: Rules, language: str) -> list[str]:
    text = _TEXT[language]
    if ruling.verdict is Verdict.FAIL:
        names = [metric_in(name, language) for name in ruling.named]
        proven = text["named"].format(names=", ".join(names)) if names else text["jointly"]
        return [proven, *_worse_in(ruling, language)]
    if ruling.verdict in (Verdict.CONTINUE, Verdict.INCONCLUSIVE):
        return [text["why"].format(why=in_words(ruling.why, language))]
    return []


def _worse_in(ruling: Ruling, language: str) -> list[str]:
    """For whom it got worse: a sentence for each slice in which a metric was named."""
    named = [finding for finding in ruling.findings if finding.slice and finding.metric in ruling.named]
    by_slice: dict[str, list[str]] = {}
    for finding in named:
        metric = finding.metric.removesuffix(f" {finding.slice}")
        by_slice.setdefault(finding.slice, []).append(metric_in(metric, language))
    return [_TEXT[language]["slice"].format(slice=one, names=", ".join(them)) for one, them in by_slice.items()]


def _strength(ruling: Ruling, rules: Rules, language: str) -> list[str]:
    text, need = _TEXT[language], odds(-math.log10(rules.alpha))
    sentences = [text["strength"].format(now=odds(ruling.log10_harm), need=need)]
    if ruling.verdict is Verdict.FAIL:
        sentences.append(text["meaning"].format(need=need, alpha=f"{100 * rules.alpha:g} %"))
        if ruling.log10_harm < -math.log10(rules.alpha):
            sentences.append(text["fell"])
    if ruling.decided_pairs is not None and ruling.decided_seconds is not None:
        when = _time(ruling.decided_seconds, language)
        sentences.append(text["crossed"].format(pairs=f"{ruling.decided_pairs:,}", seconds=when))
    return sentences


def _harmful_first(findings: Sequence[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda finding: -finding.log10_harm if finding.state is State.HARMFUL else 0.0)


def in_words(english: str, language: str) -> str:
    """A reason or detail of the judge, which are written in English, in that language."""
    if language == "en":
        return english
    for pattern, chinese in PHRASES:
        english = re.sub(pattern, chinese, english)
    return metric_in(english, language)


def metric_in(text: str, language: str) -> str:
    """The text with the names of metrics in that language; a metric of our users keeps the name they gave it."""
    for metric, name in _METRIC[language].items():
        text = re.sub(rf"\b{metric}\b", name, text, flags=re.ASCII)
    return text


def _time(seconds: float, language: str) -> str:
    value = f"{seconds:,.0f}" if seconds >= 10 else f"{seconds:.1f}"
    return f"{value} s" if language == "en" else f"{value} 秒"
