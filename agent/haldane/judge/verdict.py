"""All findings together: one budget for false rollback, a proof per objective for promotion.

Rollback tests "no metric has regressed" by the weighted mean of e-values,
which is an e-value under any dependence. Promotion is intersection-union:
each objective at the full beta. Source: Vovk & Wang, E-values: calibration,
combination and applications (averages, closed testing).
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from haldane.domain.evidence import Finding, Role, State, Verdict


def combined(log_e: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """Log of the weighted mean of e-values over the metrics in `weights` (summing to 1); 0.0 when there are none."""
    if not weights:
        return 0.0
    return float(np.logaddexp.reduce([math.log(weight) + log_e[name] for name, weight in weights.items()]))


def named(log_e: Mapping[str, float], weights: Mapping[str, float], alpha: float) -> tuple[str, ...]:
    """The metrics proven harmful one by one, with alpha over all of them: closed testing with e-values (e-Holm).

    A metric is named if every weighted mean over a set that holds it reaches
    1/alpha; the worst sets add the others in ascending order.
    """
    needed = math.log(1 / alpha)
    names = []
    for name, weight in weights.items():
        log_sum, share, worst = math.log(weight) + log_e[name], weight, log_e[name]
        for other in sorted((other for other in weights if other != name), key=lambda other: log_e[other]):
            log_sum = float(np.logaddexp(log_sum, math.log(weights[other]) + log_e[other]))
            share += weights[other]
            worst = min(worst, log_sum - math.log(share))
        if worst >= needed:
            names.append(name)
    return tuple(names)


def passes(findings: Sequence[Finding]) -> bool:
    """Every objective is shown harmless, and there is at least one."""
    objectives = [finding for finding in findings if finding.role is Role.OBJECTIVE]
    return bool(objectives) and all(finding.state is State.HARMLESS for finding in objectives)


def odds(log10_e: float) -> str:
    """Evidence as people bet: "173:1"; below 1:1 it is evidence for the other side, "1:50"."""
    if log10_e <= -1:
        return f"1:{_odd(-log10_e)}"
    return f"{_odd(log10_e)}:1"


def _odd(log10: float) -> str:
    if log10 >= 6:
        return f"10^{log10:.0f}"
    return f"{10**log10:,.0f}" if log10 >= 1 else f"{10**log10:.2g}"


def why_failed(
    findings: Sequence[Finding], names: Sequence[str], *, log10_harm: float, alpha: float, pairs: int
) -> str:
    """One sentence for a FAIL."""
    need = f"needed {odds(-math.log10(alpha))}"
    if not names:
        able = [f for f in findings if f.role.rolls_back and (not f.slice or f.log10_harm > 0)]
        parts = ", ".join(f"{f.metric} {odds(f.log10_harm)}" for f in able)
        return f"harm shown jointly after {pairs:,} pairs: evidence {odds(log10_harm)} ({need}), from {parts}"
    parts = "; ".join(f"{_where(f)} {measured(f)}, {f.detail}" for f in findings if f.metric in names)
    return f"harm shown after {pairs:,} pairs: {parts}; evidence {odds(log10_harm)} ({need})"


def _where(finding: Finding) -> str:
    """What got worse, and for whom when not for all."""
    if not finding.slice:
        return finding.metric
    return f"worse in {finding.slice}: {finding.metric.removesuffix(f' {finding.slice}')}"


def why_passed(findings: Sequence[Finding], *, pairs: int) -> str:
    """One sentence for a PASS."""
    parts = "; ".join(f"{f.metric} {measured(f)}" for f in findings if f.role is Role.OBJECTIVE)
    return f"no harm beyond the margins, shown after {pairs:,} pairs: {parts}"


def why_open(findings: Sequence[Finding], doubts: Sequence[str], *, beta: float) -> str:
    """What is still missing for a PASS, for CONTINUE and INCONCLUSIVE."""
    open_ = [f for f in findings if f.role is Role.OBJECTIVE and f.state is not State.HARMLESS]
    need = odds(-math.log10(beta))
    parts = [
        f"{f.metric}: no data"
        if f.state is State.NO_DATA
        else f"{f.metric} {measured(f)}, evidence for it {odds(f.log10_harmless)} (needed {need})"
        for f in open_
    ]
    return "; ".join([*doubts, *parts]) or "nothing is missing"


def measured(finding: Finding) -> str:
    """Estimate, interval and margin in the unit people read."""
    if finding.estimate is None or finding.margin is None:
        return "no estimate yet"
    low, high, bound = (quantity(end, finding.unit) for end in (finding.lower, finding.upper, finding.margin))
    return f"{quantity(finding.estimate, finding.unit)} ({low} to {high}, {finding.bound} {bound})"


def quantity(value: float | None, unit: str) -> str:
    """A number with its unit: shares in percentage points, ratios and rates in percent, bytes in kB to TB.

    What differs between the sides has a sign; what is measured of the canary alone has none.
    """
    if value is None:
        return "?"
    if unit == "share":
        return f"{100 * value:+.2f} pp"
    if unit == "ratio":
        return f"{100 * value:+.1f} %"
    if unit == "rate":
        return f"{100 * value:.3g} %"
    if unit.startswith("bytes"):
        return f"{_bytes(value)}{unit.removeprefix('bytes')}"
    return f"{value:.3g} s" if unit == "seconds" else f"{value:+.4g}"


def _bytes(value: float) -> str:
    power = min(4, int(math.log10(abs(value)) // 3)) if math.isfinite(value) and abs(value) >= 1 else 0
    return f"{value / 1000**power:.3g} {('B', 'kB', 'MB', 'GB', 'TB')[power]}"


def judge(*, failed: bool, passed: bool, doubts: Sequence[str], spent: str) -> Verdict:
    """The Verdict, rollback first. `passed`: a PASS was given, now or before; `spent`: why no more will come."""
    if failed:
        return Verdict.FAIL
    if passed:
        return Verdict.CONTINUE if doubts else Verdict.PASS
    return Verdict.INCONCLUSIVE if spent else Verdict.CONTINUE
