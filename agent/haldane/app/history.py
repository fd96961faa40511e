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
        self._over: OrderedDict[RolloutId, list[Ruling]] = OrderedDict()

    def add(self, rollout: RolloutId, ruling: Ruling) -> None:
        """A new ruling of a live rollout; one that says nothing new only replaces the last."""
        rulings = self._live.setdefault(rollout, [])
        if rulings and (rulings[-1].pairs, rulings[-1].verdict) == (ruling.pairs, ruling.verdict):
            rulings[-1] = ruling
            return
        rulings.append(ruling)
        if len(rulings) > MOST_RULINGS:
            del rulings[1:-1:2]

    def newest(self, rollout: RolloutId) -> Ruling | None:
        rulings = self._live.get(rollout)
        return rulings[-1] if rulings else None

    def over(self, rollout: RolloutId) -> None:
        """The rollout has ended: from now on its pair log speaks."""
        self._live.pop(rollout, None)

    def of(self, rollout: Rollout) -> list[Ruling]:
        """May take a second on a long pair log: call it in a worker thread."""
        if rollout.id in self._live:
            return list(self._live[rollout.id])
        if rollout.id not in self._over:
            rulings = trace(rules_of(rollout), self._store.pairs(rollout.id))
            step = max(1, len(rulings) // MOST_RULINGS)
            found = rulings[:-1:step] + rulings[-1:]
            if not rollout.phase.final:
                return found
            self._over[rollout.id] = found
            if len(self._over) > KEPT_ROLLOUTS:
                self._over.popitem(last=False)
            return found
        return self._over[rollout.id]
