"""How the parts that watch, judge and act are put together, and what each is told of the others."""

from collections.abc import Iterable, Mapping
from functools import partial

from haldane.adapters.storage import listing
from haldane.app import releases
from haldane.app.agent import Agent
from haldane.app.gauges import show_ruling, show_transition
from haldane.app.headroom import Headroom
from haldane.app.history import History
from haldane.app.parts import Parts
from haldane.app.shadowing import shadow
from haldane.app.takeback import take_back
from haldane.domain.evidence import Ruling
from haldane.domain.fleet import Condition, ServerConfig, ServerName
from haldane.domain.rollout import Mode, Rollout, RolloutId, Transition
from haldane.engine.latewatch import LateWatch
from haldane.engine.observe import Observer, Pace
from haldane.engine.strangers import Strangers
from haldane.engine.supervisor import Supervisor
from haldane.judge.conditions import of_rollouts
from haldane.judge.memory import Bounds
from haldane.judge.storage import Shelf
from haldane.ports import AlertSink
from haldane.serving.exposition import load_counters


class Assembly:
    """An agent over opened parts; nothing of it runs yet.

    `supervisor` judges and moves rollouts, `observer` watches the fleet, `late` judges on after a promotion,
    `storage` finds new versions, `strangers` counts calls by nobody who is known, and `agent` is what the API sees.
    They are told of each other by the methods here.
    """

    def __init__(self, parts: Parts, sinks: Mapping[str, AlertSink]) -> None:
        self.parts = parts
        self._history = History(parts.store)
        self._labels = parts.labels()
        self._failing: dict[RolloutId, float] = {}  # since when (Unix seconds) stable has failed more than it may
        for model in parts.config.models:
            parts.telemetry.releases.taken_back.labels(model)  # there from the start: an increase from 0 shows
        self.supervisor = self._supervisor()
        self.observer = self._observer(sinks)
        self.strangers = Strangers(parts.store, parts.telemetry)
        self.agent = self._agent()
        self.agent.intake = releases.give(self.agent)
        self.storage = releases.watch(self.agent)
        self.late = LateWatch(
            store=parts.store,
            clock=parts.clock,
            labels=self._labels,
            take_back=partial(take_back, self.agent),
            on_labels=lambda rollout: self._history.grew(rollout.id),
        )

    def _supervisor(self) -> Supervisor:
        parts = self.parts
        return Supervisor(
            desk=parts.desk,
            store=parts.store,
            clock=parts.clock,
            shadow=partial(shadow, parts),
            labels=self._labels,
            on_ruling=self._on_ruling,
            on_move=self._on_move,
            readings=parts.readings,
        )

    def _observer(self, sinks: Mapping[str, AlertSink]) -> Observer:
        parts, desk, every = self.parts, self.parts.desk, self.parts.config.list_every
        return Observer(
            parts.clients,
            base=desk.base,
            read=load_counters,
            sinks=sinks,
            telemetry=parts.telemetry,
            clock=parts.clock,
            wanted=self.decided,
            list_storage=listing if every else None,
            on_shelf=self._on_shelf,
            on_queued=parts.batch_waits.on_scrape,
            also=self._conditions,
            pace=Pace(listing=every.total_seconds()),
        )

    def decided(self, server: ServerName) -> ServerConfig | None:
        """What that server should hold, as far as this agent decides it.

        Not while it stands by: it would take every canary of the other's for an intruder, and page for each.
        """
        desk = self.parts.desk
        return desk.decided(server) if desk.mode is Mode.ENFORCE and self.supervisor.taken_up else None

    def _agent(self) -> Agent:
        parts = self.parts
        return Agent(
            config=parts.config,
            desk=parts.desk,
            store=parts.store,
            clock=parts.clock,
            supervisor=self.supervisor,
            history=self._history,
            labels=self._labels,
            conditions=self.observer.conditions,
            prepare=parts.prepare,
            clear=parts.clear,
            loads=parts.footprints.loads,
            room=Headroom(parts.config, parts.desk, parts.gauges_from.processes).check,
            routers=parts.routers,
            unusable=parts.unusable,
        )

    # --- what they are told ---------------------------------------------------------------------------------------

    def _on_ruling(self, rollout: Rollout, ruling: Ruling) -> None:
        self._history.add(rollout.id, ruling)
        show_ruling(self.parts.telemetry, rollout, ruling)
        if ruling.stable_fails:
            self._failing.setdefault(rollout.id, self.parts.clock.now())
        else:
            self._failing.pop(rollout.id, None)

    def _on_move(self, transition: Transition) -> None:
        after = transition.after
        show_transition(self.parts.telemetry, transition)
        if not after.phase.judging:
            self._failing.pop(after.id, None)
        if after.phase.final:
            self._history.over(after.id)
            self.late.add(after)

    def _on_shelf(self, path: str, shelf: Shelf, at: float) -> None:
        self.storage.on_shelf(path, shelf, at)

    def _conditions(self, at: float, bounds: Bounds) -> Iterable[Condition]:
        """Of rollouts, as of `at` (Unix seconds)."""
        return of_rollouts(self.parts.desk.live(), self._failing, at=at, bounds=bounds)
