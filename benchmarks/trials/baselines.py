"""What is measured beside the product's judge, by name."""

import importlib
from collections.abc import Callable, Mapping
from typing import Protocol

from .gauge import Gauge
from .kayenta import KayentaLike
from .oracles import WaldOracle
from .paired import Binary
from .scenario import Batch, Scenario
from .thresholds import FlaggerLike
from .zscores import FixedN, NaivePeek


class Judge(Protocol):
    """What a factory(config) returns."""

    def update(self, batch: Batch) -> str:
        """One batch in; "continue", "rollback" or "promote" out."""


Make = Callable[[Scenario], Judge | None]  # None: not for this scenario


def _fixed_n(scenario: Scenario) -> Judge | None:
    able = len(scenario.metrics) == 1 and not isinstance(scenario.metrics[0], Gauge) and not scenario.onset_pairs
    return FixedN(scenario) if able else None


def _wald_oracle(scenario: Scenario) -> Judge | None:
    able = len(scenario.metrics) == 1 and isinstance(scenario.metrics[0], Binary) and not scenario.onset_pairs
    return WaldOracle(scenario) if able else None


PEERS: Mapping[str, Make] = {
    "kayenta_end": lambda scenario: KayentaLike(scenario.config()),
    "kayenta_rerun": lambda scenario: KayentaLike(scenario.config(), looks=10),
    "flagger": FlaggerLike,
    "naive_peek": lambda scenario: NaivePeek(scenario.config()),
}
TOLD_THE_TRUTH: Mapping[str, Make] = {"fixed_n": _fixed_n, "wald_oracle": _wald_oracle}
BASELINES: Mapping[str, Make] = {**PEERS, **TOLD_THE_TRUTH}


def make(judge: str, scenario: Scenario) -> Judge | None:
    """A baseline by name, or module:factory given the config; None where it does not apply. ValueError without one."""
    if judge in BASELINES:
        return BASELINES[judge](scenario)
    module, _, factory = judge.partition(":")
    try:
        made: Judge = getattr(importlib.import_module(module), factory)(scenario.config())
    except (ImportError, AttributeError, ValueError) as error:
        known = ", ".join(BASELINES)
        raise ValueError(f"judge {judge!r}: {error}; give module:factory, or one of {known}") from error
    return made
