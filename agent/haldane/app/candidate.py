"""A version somebody would like to try: may it be tried now, from where, and by which rules?"""

import secrets
from dataclasses import dataclass, replace
from functools import partial

import structlog

from haldane.config import Config
from haldane.domain.fleet import Clients, ModelName, ModelView, Placement
from haldane.domain.rollout import Mode, Plan, Rollout, RolloutId
from haldane.engine.apart import Apart
from haldane.engine.desk import Desk
from haldane.judge.first import without_baseline
from haldane.judge.rules import Rules
from haldane.ports import Refused
from haldane.release.check import problem
from haldane.rollout.second import refusal
from haldane.rollout.wanted import STABLE, Watched

log = structlog.get_logger()

STORAGE_SECONDS = 10.0  # a person waits for the answer
MOST_VERSION = 2**63 - 1  # an int64 on the wire
MOST_ID_CHARS = 24  # of the model's name in a rollout's id: with version, nonce and "-revert" it stays below 64


@dataclass(frozen=True)
class Candidate:
    """One version of a model of the config. What may not be is Refused, with what would be right."""

    config: Config
    desk: Desk
    model: ModelName
    version: int

    def check_model(self, at: float) -> None:
        """Refused while nothing of this model may be tried, at `at` (Unix seconds)."""
        for live in self.desk.live():
            if live.model == self.model:
                why = f"rollout {live.id} of this model is {live.phase}; abort it or wait for its end"
                raise Refused(self.model, why)
        if self.config.models[self.model].traffic is None:
            why = f"nothing can be proven or judged without requests; set models.{self.model}.traffic"
            raise Refused(self.model, why)
        if frozen := self.desk.frozen(self.model, at):
            raise Refused(self.model, frozen)

    def at_rest(self) -> Watched:
        """What it would start from; where the config cannot say what is stable, observe mode takes what is seen."""
        found = self._at_rest()
        if found.stable == self.version and found.released:
            raise Refused(self.model, f"version {self.version} is stable already")
        if found.clients is Clients.UNVERSIONED and self.version < found.stable and self.desk.mode is Mode.ENFORCE:
            why = (
                f"clients that name no version get the highest one loaded, so none would get version {self.version}"
                f" before {found.stable} is gone, and then all at once"
            )
            raise Refused(self.model, f"{why}; publish its files under a number above {found.stable}")
        return found

    async def check_version(self, storage: Apart) -> None:
        """Refused when servers cannot have it, or would not try it again."""
        check_number(self.model, self.version)
        entry = self.desk.base.entry(self.model)
        if entry and entry.base_path and (wrong := await self._problem(entry.base_path, storage)):
            raise Refused(self.model, wrong)
        for server, view in self.desk.views.items():
            status = view.models.get(self.model, ModelView()).status(self.version) if view else None
            if status and status.failed:
                detail = f"version {self.version} failed to load on {server} before ({status.error_code})"
                why = f"{detail}; Serving does not try a number again, so publish it under a new one"
                raise Refused(self.model, why)

    def check_beside(self, at_rest: Watched) -> None:
        """Refused where it and a rollout under way would keep each other's reloads waiting."""
        # A first version has no stable one beside it, so there is nothing to name apart.
        placement = self.config.models[self.model].where if at_rest.released else Placement.SAME_ENTRY
        if why := refusal(placement, self.desk.live()):
            raise Refused(self.model, why)

    async def _problem(self, base_path: str, storage: Apart) -> str:
        """What a look into the storage says; "" where it does not answer: then the servers must tell."""
        look = partial(problem, base_path, self.version)
        try:
            return await storage.ask((base_path, self.version), look, STORAGE_SECONDS)
        except (TimeoutError, OSError) as error:
            why = str(error) or type(error).__name__
            log.warning("version_not_looked_at", model=self.model, version=self.version, base_path=base_path, why=why)
            return ""

    def rules(self, at_rest: Watched) -> Rules:
        """What it is judged by."""
        rules = self.config.rules_of(self.model)
        if at_rest.released:
            return rules
        try:
            return without_baseline(rules)
        except ValueError as error:
            raise Refused(self.model, str(error)) from None

    def plan(self, at_rest: Watched) -> Plan:
        """By which steps."""
        plan = self.config.plan_of(self.model)
        # Of a first version the address that users call means nothing yet anywhere else.
        return plan if at_rest.released else replace(plan, traffic_steps=())

    def rollout(self, at_rest: Watched, plan: Plan, rules: Rules, *, at: float, by: str, why: str) -> Rollout:
        """A rollout of it that begins at `at` (Unix seconds), with an id and a seed of its own."""
        section, servers = self.config.models[self.model], tuple(self.desk.servers)
        own = section.where is Placement.OWN_REPLICAS
        called = self.model.replace("/", "-")[:MOST_ID_CHARS]
        return Rollout(
            id=RolloutId(f"{called}-{self.version}-{secrets.token_hex(3)}"),
            model=self.model,
            old=at_rest.stable,
            new=self.version,
            mode=self.desk.mode,
            clients=section.clients,
            placement=section.where,
            servers=servers,
            dedicated=tuple(s for s in servers if self.desk.servers[s].dedicated_canary) if own else (),
            plan=plan,
            analysis=rules.to_json(),
            seed=secrets.randbits(32),
            started_at=at,
            phase_since=at,
            why=why,
            by=by,
        )

    def _at_rest(self) -> Watched:
        if (known := self.desk.watched.get(self.model)) and known.released:
            return known
        section = self.config.models[self.model]
        if section.stable == "none":
            return self._first()
        for view in self.desk.views.values():
            seen = view.models.get(self.model, ModelView()) if view else ModelView()
            label = seen.labels.get(STABLE)
            others = [loaded for loaded in seen.loaded if loaded != self.version]
            if label is not None or others:
                stable = label if label is not None else others[-1]
                return Watched(stable, section.clients, provable=False)
        raise Refused(self.model, f"no server shows which version is stable; set models.{self.model}.stable")

    def _first(self) -> Watched:
        """The model with this version on its first trial. It must be loaded already, and nobody may get it yet."""
        clients = self.config.models[self.model].clients
        if clients is not Clients.LABEL:
            why = (
                "clients that name no version get the first one the moment it is loaded, so it cannot be judged before"
            )
            raise Refused(self.model, why)
        first = Watched(self.version, clients, provable=False, released=False)
        self.rules(first)
        for server in self.desk.servers:
            view = self.desk.views.get(server)
            if view is None or not view.models.get(self.model, ModelView()).available(self.version):
                why = f"{server} is not seen to have version {self.version}: Serving's own file loads a first version"
                raise Refused(self.model, why)
        return first


def check_number(model: ModelName, version: int) -> None:
    """Refused when no server could have a version of that number."""
    if not 0 <= version <= MOST_VERSION:
        raise Refused(model, f"{version} is not a version: Serving knows 0 to {MOST_VERSION}")
