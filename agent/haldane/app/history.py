"""The rulings of a rollout over time: kept thin while it is live, folded again from the pair log after."""

from collections import OrderedDict

from haldane.domain.evidence import Ruling
from haldane.domain.rollout import Rollout, RolloutId
from haldane.engine.judging import rules_of
from haldane.judge.analysis import trace
from haldane.ports import Store

MOST_RULINGS = 400  # more points than a plot has pixels for
KEPT_ROLLOUTS = 20


class History:
    """Rulings by rollout, oldest first."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._live: dict[RolloutId, list[Ruling]] = {}
        self._taken_over: set[RolloutId] = set()  # live ones whose beginning another process saw
        self._over: OrderedDict[RolloutId, list[Ruling]] = OrderedDict()

    def take_over(self, rollout: RolloutId) -> None:
        """A live rollout is taken up that began before this process: its beginning is in the pair log only."""
        self._taken_over.add(rollout)

    def add(self, rollout: RolloutId, ruling: Ruling) -> None:
        """A new ruling of a live rollout; one that says nothing new only replaces the last."""
        rulings = self._live.setdefault(rollout, [])
        if rulings and (rulings[-1].pairs, rulings[-1].verdict) == (ruling.pairs, ruling.verdict):
            rulings[-1] = ruling
            return
        rulings[-1:] = [one.without_spreads() for one in rulings[-1:]]
        rulings.append(ruling)
        if len(rulings) > MOST_RULINGS:
            del rulings[1:-1:2]

    def over(self, rollout: RolloutId) -> None:
        """The rollout has ended: from now on its pair log speaks."""
        self._live.pop(rollout, None)
        self._taken_over.discard(rollout)

    def grew(self, rollout: RolloutId) -> None:
        """Labels have come for a rollout that had ended."""
        self._over.pop(rollout, None)

    def of(self, rollout: Rollout) -> list[Ruling]:
        """May take a second on a long pair log: call it in a worker thread."""
        if rollout.id in self._over:
            return self._over[rollout.id]
        if rollout.id in self._live and rollout.id not in self._taken_over:
            return list(self._live[rollout.id])
        found = thinned(trace(rules_of(rollout), self._store.evidence(rollout.id), rollout.servers))
        if rollout.phase.final:
            self._over[rollout.id] = found
            if len(self._over) > KEPT_ROLLOUTS:
                self._over.popitem(last=False)
        elif rollout.id in self._live:
            self._live[rollout.id] = list(found)
            self._taken_over.discard(rollout.id)
        return found


def thinned(rulings: list[Ruling]) -> list[Ruling]:
    """At most about MOST_RULINGS of them, evenly, the last one always."""
    step = max(1, -(-len(rulings) // MOST_RULINGS))
    return rulings[:-1:step] + rulings[-1:]
