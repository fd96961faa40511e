"""The scenarios. PUBLIC are those of the public trials file, name by name; the others are ours."""

from typing import Any

from .gauge import Gauge
from .latency import Latency
from .paired import Binary, Bounded
from .scenario import Scenario, Truth


def _accuracy(
    name: str, truth: Truth, base: float, delta: float, margin: float, *, rho: float = 0.3, labelled: float = 1.0,
    **more: Any,
) -> Scenario:  # fmt: skip
    metric = Binary(base=base, delta=delta, margin_abs=margin, rho=rho, labelled=labelled)
    return Scenario(name, truth, (metric,), **more)


def _errors(
    name: str, truth: Truth, stable: float, canary: float, margin: float, *, relative: float = 0.0, **more: Any
) -> Scenario:
    return Scenario(name, truth, (Binary("errors", stable, canary - stable, 0.0, margin, relative),), **more)


def _latency(name: str, truth: Truth, metric: Latency, **more: Any) -> Scenario:
    return Scenario(name, truth, (metric,), **more)


FEW_ERRORS = Binary("errors", 1e-4, 0, 0, 2e-3)
WATCHED = Latency(tail_q=0.99, tail_margin_rel=0.25)

ACCURACY = (
    _accuracy("acc-aa-b02-m1", "good", 0.02, 0.0, 0.01),
    _accuracy("acc-aa-b10-m1", "good", 0.10, 0.0, 0.01, rho=0.7),
    _accuracy("acc-edge-b02-m1", "edge", 0.02, 0.01, 0.01),
    _accuracy("acc-edge-b10-m0", "edge", 0.10, 0.0, 0.0, note="A/A with no tolerance"),
    _accuracy("acc-better-b10-m.5", "good", 0.10, -0.01, 0.005, rho=0.7),
    _accuracy("acc-half-b02-m1", "good", 0.02, 0.005, 0.01, rho=0.7, note="+0.5 pp inside a 1 pp margin"),
    _accuracy("acc+1-b02-m.5", "bad", 0.02, 0.01, 0.005, rho=0.7),
    _accuracy("acc+2-b02-m1", "bad", 0.02, 0.02, 0.01, rho=0.7),
    _accuracy("acc+5-b02-m1", "bad", 0.02, 0.05, 0.01, batch=25),
    _accuracy("acc+5-b10-m1", "bad", 0.10, 0.05, 0.01, rate=1.0, batch=10, horizon=10_800, note="1 pair/s"),
    _accuracy("acc+5-late", "bad", 0.02, 0.05, 0.01, onset_pairs=4000, min_pairs=6000, note="starts at pair 4,000"),
    _accuracy("acc+3-labels20", "bad", 0.10, 0.03, 0.01, rho=0.7, labelled=0.2, note="20 % of truths known"),
)
ERRORS = (
    _errors("err-aa-m1e-3", "good", 1e-4, 1e-4, 1e-3, batch=200),
    _errors("err-edge-m5e-4", "edge", 1e-4, 6e-4, 5e-4, horizon=40_000, batch=200),
    _errors("err-edge-x2", "edge", 2e-3, 4e-3, 0.0, relative=1.0, horizon=40_000, batch=200, note="relative margin x2"),
    _errors("err-1e-3", "bad", 1e-4, 1e-3, 2e-4, horizon=40_000, batch=200),
    _errors("err-1e-2", "bad", 1e-4, 1e-2, 5e-4, batch=50, rate=200.0),
)
ANSWERS = (
    # stable is 0 throughout, so the mean is the share of pairs whose answers differ
    Scenario("disagree-aa", "good", (Binary("disagree", 0.0, 0.004, 0.0, 0.01),), batch=50,
             note="0.4 % of answers differ, bound 1 %"),
    Scenario("loss-aa", "good", (Bounded(),), batch=50),
    Scenario("loss+20", "bad", (Bounded(ratio=1.2),), batch=50),
)  # fmt: skip
LATENCY = (
    _latency("lat-aa", "good", Latency(), batch=20, horizon=10_000),
    _latency("lat-edge-burst", "edge", Latency(shift=1.05, arm_burst_duty=0.04, arm_burst_s=2.0), dependence_s=2.0,
             note="on the margin, one-arm bursts of 2 s"),
    _latency("lat-edge-ar-m0", "edge", Latency(margin_rel=0.0, arm_ar_sd=0.14, arm_ar_tau_s=0.5), dependence_s=0.5,
             note="A/A, no tolerance, one-arm AR noise"),
    _latency("lat-tail-edge", "edge",
             Latency(shift=1.15, margin_rel=0.15, tail_q=0.99, tail_margin_rel=0.15, arm_ar_sd=0.1, arm_ar_tau_s=0.5),
             dependence_s=0.5, note="typical and tail on the margin, one-arm AR noise"),
    _latency("lat+5-m2", "bad", Latency(shift=1.05, margin_rel=0.02), batch=50),
    _latency("lat+10-m5", "bad", Latency(shift=1.10), batch=50),
    _latency("lat+25-m5", "bad", Latency(shift=1.25), batch=10, horizon=5000),
    _latency("lat+10-burst", "bad", Latency(shift=1.10, arm_burst_duty=0.04, arm_burst_s=2.0), dependence_s=2.0,
             horizon=30_000),
    _latency("lat-tail-x1.5", "bad", Latency(tail_mult=1.5, tail_q=0.99, tail_margin_rel=0.15, role="guardrail"),
             horizon=40_000, batch=200, note="only the slow 3 % are x1.5"),
    _latency("lat-bimodal", "bad", Latency(slow_share=0.05, slow_mult=3.0, tail_q=0.95, role="guardrail"), batch=50,
             note="5 % of canary requests x3"),
)  # fmt: skip
GAUGES = (
    Scenario("cpu-aa", "good", (Gauge(),), horizon=36_000, batch=200, note="no objective: it must not roll back"),
    Scenario("cpu+25", "bad", (Gauge(shift=1.25),), horizon=36_000, batch=200),
)
SEVERAL = (
    Scenario("multi-aa", "good", (Binary(), FEW_ERRORS, WATCHED, Gauge()), batch=200),
    Scenario("multi-edge", "edge", (Binary(delta=0.01), Binary("errors", 1e-3, 1e-3, 0, 1e-3), Latency(shift=1.05)),
             batch=200, note="three metrics, all on their margins"),
    Scenario("multi-lat+15", "bad",
             (Binary(), FEW_ERRORS, Latency(shift=1.15, tail_q=0.99, tail_margin_rel=0.25), Gauge()), batch=50),
)  # fmt: skip
PUBLIC = (*ACCURACY, *ERRORS, *ANSWERS, *LATENCY, *GAUGES, *SEVERAL)

# One-arm noise that lasts three times longer than declared: the ladder of block sizes has to notice by itself.
LASTING = (
    _latency("lat-edge-ar-x3", "edge", Latency(margin_rel=0.0, arm_ar_sd=0.14, arm_ar_tau_s=1.5), dependence_s=0.5,
             note="one-arm AR noise of 1.5 s, declared 0.5 s"),
    _latency("lat-edge-burst-x3", "edge", Latency(shift=1.05, arm_burst_duty=0.04, arm_burst_s=6.0), dependence_s=2.0,
             note="one-arm bursts of 6 s, declared 2 s"),
    _latency("lat-tail-edge-x3", "edge",
             Latency(shift=1.15, margin_rel=0.15, tail_q=0.99, tail_margin_rel=0.15, arm_ar_sd=0.1, arm_ar_tau_s=1.5),
             dependence_s=0.5, note="typical and tail, AR noise of 1.5 s, declared 0.5 s"),
)  # fmt: skip
# Among several metrics, one that turns bad alone; the public file has this for latency only.
ONE_OF_SEVERAL = (
    Scenario("multi-err+1", "bad", (Binary(), Binary("errors", 1e-4, 0.01, 0, 2e-3), WATCHED, Gauge()), batch=50,
             note="1 % of canary calls fail, the rest is A/A"),
)  # fmt: skip
SCENARIOS = (*PUBLIC, *LASTING, *ONE_OF_SEVERAL)


def identical(scenario: Scenario) -> bool:
    """Both arms are the same version (or differ by what is tolerated of it), inside every margin."""
    return scenario.truth == "good" and "-aa" in scenario.name
