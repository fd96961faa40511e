"""The benchmark's interface runs the product's own judge."""

from typing import Any

import numpy as np
import pytest

from haldane.testing.trials import judge


def config(*metrics: dict[str, Any], **more: Any) -> dict[str, Any]:
    common = {"role": "objective", "weight": 1 / len(metrics), "margin_abs": 0.0, "margin_rel": 0.0}
    return {
        "alpha": 0.01,
        "beta": 0.05,
        "horizon_pairs": 20_000,
        "min_pairs": 0,
        "rate": 20.0,
        "dependence_s": 0.0,
        "metrics": [{**common, **metric} for metric in metrics],
        **more,
    }


def run(some: dict[str, Any], stable: float, canary: float, *, batches: int = 60, spread: float = 0.0) -> str:
    one, rng = judge(some), np.random.default_rng(0)
    word = "continue"
    for index in range(batches):
        batch: dict[str, Any] = {"n": np.array(100), "t": np.array(5.0 * (index + 1))}
        for metric in some["metrics"]:
            name, n = metric["name"], 5 if metric["kind"] == "gauge" else 100
            batch[f"{name}_s"] = stable * np.exp(rng.normal(0, spread, n))
            batch[f"{name}_c"] = canary * np.exp(rng.normal(0, spread, n))
        word = one.update(batch)
        if word != "continue":
            break
    return word


@pytest.mark.parametrize(
    ("metric", "good", "bad"),
    [
        ({"name": "wrong", "kind": "binary", "margin_abs": 0.05}, 0.0, 1.0),
        ({"name": "loss", "kind": "bounded", "margin_abs": 0.05}, 0.2, 0.5),
        ({"name": "seconds", "kind": "positive", "margin_rel": 0.1}, 1.0, 1.5),
        ({"name": "cpu", "kind": "gauge", "margin_rel": 0.1}, 1.0, 1.5),
    ],
)
def test_every_kind_is_promoted_when_equal_and_rolled_back_when_worse(
    metric: dict[str, Any], good: float, bad: float
) -> None:
    assert run(config(metric), good, good) == "promote"
    assert run(config(metric), good, bad) == "rollback"


def test_unknown_truths_are_left_out() -> None:
    some = config({"name": "wrong", "kind": "binary", "margin_abs": 0.05})
    assert run(some, float("nan"), float("nan")) == "continue"


def test_nothing_is_promoted_before_the_least_pairs() -> None:
    some = config({"name": "wrong", "kind": "binary", "margin_abs": 0.05}, min_pairs=10**6)
    assert run(some, 0.0, 0.0) == "continue"
