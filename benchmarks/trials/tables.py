"""Results as the tables that stand in the docs, and as lines of a running report."""

from collections.abc import Callable, Iterator, Sequence

from .baselines import BASELINES, PEERS
from .goals import SPEED, missed, most_promotions, most_rollbacks
from .page import markdown_table
from .run import Result
from .scenario import Scenario
from .scenarios import LASTING, SCENARIOS, identical

HEAD = (
    f"{'scenario':18} {'truth':5} {'judge':14} {'seed':>9} {'trials':>6} {'rollb %':>8} {'prom %':>7} {'undec %':>8}"
    f" {'median':>7} {'p90':>7} {'floor':>6} {'ratio':>6}"
)


def line(result: Result, judge: str) -> str:
    """One line of the running report; a missed goal of the product's judge is said at its end."""
    undecided = 1 - result.rollback_ratio - result.promotion_ratio
    scenario = by_name(result.scenario)
    wrong = ", ".join(missed(scenario, result)) if result.judge == judge else ""
    return (
        f"{result.scenario:18} {result.truth:5} {_short(result.judge):14} {result.seed:>9} {result.trials:>6}"
        f" {result.rollback_ratio:>8.2%} {result.promotion_ratio:>7.2%} {undecided:>8.2%}"
        f" {_number(result.median):>7} {_number(result.p90):>7}"
        f" {_number(result.floor):>6} {_number(result.ratio, 2):>6}" + (f"  MISSED: {wrong}" if wrong else "")
    )


def by_name(name: str) -> Scenario:
    return next(scenario for scenario in SCENARIOS if scenario.name == name)


class Tables:
    """Everything that is said of one set of results. `judge`: the one that is held to the goals."""

    def __init__(self, results: Sequence[Result], judge: str) -> None:
        self.results = {(result.scenario, result.judge, result.seed): result for result in results}
        self.judge = judge
        self.seeds = sorted({result.seed for result in results})
        self.scenarios = [each for each in SCENARIOS if any(each.name == result.scenario for result in results)]

    def whole(self) -> str:
        """The block of the page."""
        parts = [
            "A row repeats, digit for digit, with `python benchmarks/judge.py --seed SEED --trials TRIALS --only "
            "SCENARIO`, since each trial has a seed of its own; `make judge-trials` makes them all anew, with seed 0 "
            f"and a fresh one. Here: {_listed(self.seeds)}.",
            *self._section("### On the margin", self._edges(), ON_MARGIN),
            *self._section("### The same version on both sides", self._identical(), IDENTICAL),
            *self._section("### Pairs to the right verdict", self._speeds(), RIGHT_VERDICT),
            *self._section("### What the others' verdicts are worth", self._peers(), OTHERS),
            *self._faster(),
        ]
        return "\n\n".join(parts)

    def _section(self, title: str, rows: list[list[str]], text: str) -> Iterator[str]:
        if len(rows) > 1:
            yield from (title, text, markdown_table(rows[0], rows[1:]))

    def _each(self, chosen: Callable[[Scenario], bool]) -> Iterator[tuple[Scenario, list[Result | None]]]:
        """Scenarios with the judge's results by seed."""
        for scenario in filter(chosen, self.scenarios):
            found = [self.results.get((scenario.name, self.judge, seed)) for seed in self.seeds]
            if any(found):
                yield scenario, found

    def _edges(self) -> list[list[str]]:
        said = [f"seed {seed}" for seed in self.seeds]
        head = ["scenario", "trials a seed", *(f"false rollback, {each}" for each in said), "at most"]
        head += [*(f"false promotion, {each}" for each in said), "at most"]
        rows = [head]
        for scenario, found in self._each(lambda each: each.truth == "edge"):
            rolled = [_share(each, "rollback_ratio", most_rollbacks(scenario)) for each in found]
            promoted = [_share(each, "promotion_ratio", most_promotions(scenario)) for each in found]
            limits = f"{most_rollbacks(scenario):.0%}", f"{most_promotions(scenario):.0%}"
            rows.append([_named(scenario), _trials(found), *rolled, limits[0], *promoted, limits[1]])
        return rows

    def _identical(self) -> list[list[str]]:
        rows = [["scenario", "trials a seed", *(f"rolled back, seed {seed}" for seed in self.seeds), "promoted"]]
        for scenario, found in self._each(identical):
            rolled = [_bold(f"{each.rollbacks}", each.rollbacks > 0) if each else "" for each in found]
            first = next(each for each in found if each)
            rows.append([_named(scenario), _trials(found), *rolled, f"{first.promotion_ratio:.1%}"])
        return rows

    def _speeds(self) -> list[list[str]]:
        others = [each for each in BASELINES if any(each == judge for _, judge, _ in self.results)]
        ratios = [f"ratio, seed {seed}" for seed in self.seeds]
        rows = [["scenario", "trials", "floor", "median", "p90", *ratios, "goal", *(f"`{each}`" for each in others)]]
        for scenario, found in self._each(_has_right_verdict):
            first, goal = next(each for each in found if each), SPEED.get(scenario.name)
            figures = [_number(first.floor), _number(first.median), _number(first.p90)]
            reached = [_bold(_number(each.ratio, 2), _slow(scenario, each)) if each else "" for each in found]
            theirs = [_number(each.median) if (each := self._first(scenario, other)) else "" for other in others]
            rows.append([_named(scenario), _trials(found), *figures, *reached, str(goal or ""), *theirs])
        return rows

    def _first(self, scenario: Scenario, judge: str) -> Result | None:
        found = (self.results.get((scenario.name, judge, seed)) for seed in self.seeds)
        return next((each for each in found if each), None)

    def _peers(self) -> list[list[str]]:
        judges = [each for each in PEERS if any(each == judge for _, judge, _ in self.results)]
        rows = [["scenario", "trials", *(f"`{each}`" for each in judges), "Haldane"]]
        for scenario in self.scenarios if judges else ():
            found = [self._first(scenario, judge) for judge in (*judges, self.judge)]
            if found[0]:
                rows.append([f"`{scenario.name}`", str(found[0].trials), *(_errors(each) for each in found)])
        return rows

    def _faster(self) -> Iterator[str]:
        """Where a peer needs fewer pairs, and how often it is wrong."""
        compared = [each for each in self.scenarios if _has_right_verdict(each)]
        for peer in PEERS:
            sooner = [f"`{each.name}`" for each in compared if self._sooner(each, peer)]
            if sooner:
                yield (
                    f"`{peer}` gives the right verdict on fewer pairs than Haldane in {len(sooner)} of {len(compared)} "
                    f"scenarios: {', '.join(sooner)}. It controls no error: on the margin its verdict was wrong in up "
                    f"to {self._worst(peer, 'edge'):.0%} of trials, beyond the margin in up to "
                    f"{self._worst(peer, 'bad'):.0%}."
                )

    def _sooner(self, scenario: Scenario, peer: str) -> bool:
        ours, theirs = self._first(scenario, self.judge), self._first(scenario, peer)
        if not ours or not theirs or theirs.median is None:
            return False
        return ours.median is None or theirs.median < ours.median

    def _worst(self, peer: str, truth: str) -> float:
        """The largest share of wrong verdicts over scenarios of this truth."""
        theirs = [each for each in self.results.values() if each.judge == peer and each.truth == truth]
        wrong = [each.promotion_ratio + (each.rollback_ratio if truth == "edge" else 0.0) for each in theirs]
        return max(wrong, default=0.0)


ON_MARGIN = (
    "The canary lies exactly on its margin, so each verdict is an error; looked at after every batch. "
    f"{', '.join(f'`{each.name}`' for each in LASTING)}: one-arm noise lasts three times longer than declared. "
    "Bold: more than promised."
)
IDENTICAL = "Inside the margin nearly every rule is quiet, so this shows little; but it is what one sees in daily life."
RIGHT_VERDICT = (
    "Promotion where the canary is harmless, rollback where it is harmful. The floor is the mean that no test with "
    "these error rates and power one can beat (for latency a reference, not a bound); ratio is median over floor. "
    "Columns of other judges give their median pairs; - means that fewer than half of the trials ended right. "
    "`fixed_n` and `wald_oracle` are told the truth beforehand. Bold: a goal that is missed."
)
OTHERS = (
    "False rollbacks / false promotions, as shares of trials: both are wrong on an `edge`, one of them elsewhere. "
    "Haldane's share rests on its own, larger number of trials."
)


def _has_right_verdict(scenario: Scenario) -> bool:
    """Promotion is right only where an objective can be shown harmless."""
    objective = any(metric.role == "objective" for metric in scenario.metrics)
    return scenario.truth == "bad" or (scenario.truth == "good" and objective)


def _short(judge: str) -> str:
    return judge if len(judge) <= 14 else judge.rpartition(":")[2]


def _number(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _bold(text: str, wrong: bool) -> str:
    return f"**{text}**" if wrong else text


def _share(result: Result | None, figure: str, most: float | None) -> str:
    if result is None:
        return ""
    share = getattr(result, figure)
    return _bold(f"{share:.2%}", most is not None and share > most)


def _slow(scenario: Scenario, result: Result) -> bool:
    return any("median" in each or "no right" in each for each in missed(scenario, result))


def _trials(found: Sequence[Result | None]) -> str:
    return " / ".join(dict.fromkeys(f"{each.trials:,}" for each in found if each))


def _listed(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {' and '.join(map(str, seeds))}"


def _named(scenario: Scenario) -> str:
    return f"`{scenario.name}`" + (f" ({scenario.note})" if scenario.note else "")


def _errors(result: Result | None) -> str:
    if result is None:
        return ""
    rolled = "" if result.truth == "bad" else f"{result.rollback_ratio:.1%}"
    promoted = "" if result.truth == "good" else f"{result.promotion_ratio:.1%}"
    return f"{rolled or '-'} / {promoted or '-'}"
