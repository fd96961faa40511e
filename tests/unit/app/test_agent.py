"""What can be started, and what is said of what cannot."""

import asyncio
import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from haldane.adapters.sql import open_store
from haldane.app import releases
from haldane.app.agent import Agent
from haldane.app.atrest import put_at_rest
from haldane.app.history import History
from haldane.app.takeback import take_back
from haldane.config import load_config
from haldane.domain.evidence import Ruling, Verdict
from haldane.domain.fleet import Clients, ModelName, Placement, ServerConfig, ServerName
from haldane.domain.labels import Label
from haldane.domain.rollout import CommandKind, Mode, Phase, RolloutId
from haldane.engine.desk import Desk
from haldane.engine.labels import Labels, LabelTerms
from haldane.engine.supervisor import Supervisor
from haldane.judge.rules import Rules
from haldane.ports import Refused, Unavailable
from haldane.rollout.machine import step
from haldane.rollout.revert import revert_id
from haldane.telemetry import Telemetry
from haldane.testing.builders import MODEL, a_rollout, a_view, an_entry
from haldane.web.problem import Unknown
from haldane.web.sentences import explained


class Clock:
    def now(self) -> float:
        return 1000.0


class Place:
    """An agent over a real store and desk; nothing of it runs."""

    def __init__(self, folder: Path, mode: str = "enforce", stable: int | str | None = None):
        (folder / "rows.jsonl").write_text('{"instances": [[1.0]]}\n')
        model = {"clients": "label", "traffic": {"rest_jsonl": "rows.jsonl"}, **({"stable": stable} if stable else {})}
        settings = {
            "mode": mode,
            "servers": [
                {"name": n, "address": f"h:{i}", "metrics_url": f"http://h:{i}/"} for i, n in enumerate(("r0", "r1"), 1)
            ],
            "models": {MODEL: model},
        }
        if mode == "enforce":
            (folder / "models.config").write_text("model_config_list {}")
            settings["model_config_file"] = "models.config"
        (folder / "haldane.yaml").write_text(json.dumps(settings))
        self.entry = an_entry()
        base = ServerConfig((self.entry, an_entry("other")))
        self.config = load_config(folder / "haldane.yaml", parse_models=lambda text, source: base)
        self.store = open_store(f"sqlite:///{folder / 'haldane.db'}")
        fleet = {server.name: server for server in self.config.fleet}
        self.desk = Desk(mode=self.config.mode, servers=fleet, base=base, watched={})
        if mode == "enforce":
            put_at_rest(self.config, self.desk, {}, {}, {})
        for name in fleet:
            self.desk.put_view(name, a_view(1, labels={"stable": 1}, server=name))
        self.refusal, self.clearing, self.prepared = "", None, []
        self.moves, self.registry, self.terms = [], CollectorRegistry(), None
        supervisor = Supervisor(self.desk, self.store, Clock(), None, lambda *_: None, self.moves.append, None)
        self.agent = Agent(
            config=self.config,
            desk=self.desk,
            store=self.store,
            clock=Clock(),
            supervisor=supervisor,
            history=History(self.store),
            labels=Labels(self.store, Clock(), Telemetry.on(self.registry), lambda model: self.terms, None),
            conditions=lambda: (),
            prepare=self.prepare,
            clear=self.clear,
        )

        self.agent.intake = releases.give(self.agent)

    async def prepare(self, model):
        if isinstance(self.clearing, Exception):
            raise self.clearing
        self.prepared.append(model)

    async def clear(self, server):
        await asyncio.sleep(0)
        return self.refusal

    async def start(self, model=MODEL, version=2):
        return await self.agent.start(model, version, by="ada", why="a test")


@pytest.fixture
def place(tmp_path):
    made = Place(tmp_path)
    yield made
    made.store.close()


async def test_an_older_version_is_refused_where_users_get_the_highest_one_that_is_loaded(place):
    place.desk.put_stable(MODEL, 3, 3, Clients.UNVERSIONED, provable=True)
    with pytest.raises(Refused, match="publish its files under a number above 3"):
        await place.start(version=2)
    assert (await place.start(version=4)).old == 3


async def test_a_storage_that_hangs_holds_up_neither_the_loop_nor_for_long_the_start(place, monkeypatch):
    gone, loops = threading.Event(), []
    monkeypatch.setattr("haldane.app.candidate.STORAGE_SECONDS", 0.05)
    monkeypatch.setattr("haldane.app.candidate.problem", lambda *_: str(gone.wait(5)))

    async def goes_round():
        while True:
            loops.append(gone.is_set())
            await asyncio.sleep(0)

    turning = asyncio.create_task(goes_round())
    try:
        assert (await place.start()).new == 2  # the servers must tell
        assert len(loops) > 1 and not any(loops)
    finally:
        gone.set()
        turning.cancel()


async def test_a_start_is_stored_with_its_rules_and_who_and_why(place):
    rollout = await place.start()
    assert (rollout.old, rollout.new, rollout.phase, rollout.mode) == (1, 2, Phase.PENDING, Mode.ENFORCE)
    assert rollout.servers == ("r0", "r1")
    assert place.store.live() == [(rollout, 1)]
    (record,) = place.store.records()
    assert record.kind == "rollout_started"
    assert (record.data["by"], record.data["old"], record.data["new"]) == ("ada", 1, 2)
    assert record.data["labels"]["r0"]["stable"] == 1
    assert rollout.analysis == place.config.rules_of(MODEL).to_json()


async def test_what_is_said_of_room_is_on_record_and_without_room_nothing_starts(place):
    async def room(model, version):
        if version == 3:
            raise Refused(model, "there is no room for it; r0: full")
        return ["r0: much is free"]

    place.agent.room = room
    with pytest.raises(Refused, match="there is no room"):
        await place.start(version=3)
    assert place.store.live() == []
    await place.start(version=2)
    assert place.store.records()[-1].data["memory"] == ["r0: much is free"]


async def test_a_command_that_is_refused_is_on_record(place):
    class Supervisor:
        async def command(self, rollout, command):
            return step(place.desk.rollout(rollout), command)

    rollout = await place.start()
    place.agent.supervisor = Supervisor()
    done = await place.agent.command(rollout.id, CommandKind.RESUME, by="eve", why="why not")
    assert done.refused
    record = place.store.records()[-1]
    assert (record.kind, record.rollout, record.data["by"]) == ("command_refused", rollout.id, "eve")
    assert record.data["command"] == "resume"


async def test_a_person_may_start_what_was_withdrawn_before_and_is_told(place):
    place.store.commit(a_rollout(Phase.ROLLED_BACK, verdict=Verdict.FAIL), None, [])
    again = await place.start()
    assert again.why == "ada: a test (rollout credit-2-test withdrew version 2)"
    (record,) = place.store.records(again.id)
    assert record.data["again"] == "rollout credit-2-test withdrew version 2"


async def test_of_two_starts_at_once_one_is_refused(place):
    answers = await asyncio.gather(place.start(version=2), place.start(version=3), return_exceptions=True)
    assert sum(isinstance(answer, Refused) for answer in answers) == 1
    assert len(place.store.live()) == 1


async def test_an_unknown_model_is_told_with_those_there_are(place):
    with pytest.raises(Unknown, match="credit"):
        await place.start(model="nope")


@pytest.mark.parametrize("version", [-1, 2**63, 10**30])
async def test_a_number_that_no_server_can_be_told_is_refused(place, version):
    with pytest.raises(Refused, match="not a version"):
        await place.start(version=version)


async def test_the_stable_version_cannot_be_its_own_canary(place):
    with pytest.raises(Refused, match="stable already"):
        await place.start(version=1)


async def test_a_first_version_is_judged_on_limits_and_nobody_gets_it_before_it_passed(tmp_path):
    place = Place(tmp_path, stable="none")
    assert place.agent.status().stable == {MODEL: None}
    rollout = await place.start(version=1)
    assert rollout.first
    rules = Rules.from_json(rollout.analysis)
    assert (rules.baseline, [limit.name for limit in rules.limits]) == (False, ["errors limit 0.5%"])
    assert place.desk.wanted("r0").entry(MODEL).labels == {}
    assert place.agent.status().stable == {MODEL: None}
    for phase, stable in ((Phase.ROLLED_BACK, None), (Phase.SUCCEEDED, 1)):
        place.desk.put_rollout(replace(rollout, phase=phase), 2)
        assert place.agent.status().stable == {MODEL: stable}
        assert place.desk.wanted("r0").entry(MODEL).labels == ({"stable": 1} if stable else {})
    place.store.close()


async def test_a_first_version_that_passed_is_stable_after_a_restart_too(tmp_path):
    place = Place(tmp_path, stable="none")
    put_at_rest(place.config, place.desk, {MODEL: (1, 1)}, {}, {})
    assert place.agent.status().stable == {MODEL: 1}
    with pytest.raises(Refused, match="stable already"):
        await place.start(version=1)
    assert not (await place.start(version=2)).first
    place.store.close()


async def test_a_first_version_must_be_loaded_already(tmp_path):
    place = Place(tmp_path, stable="none")
    with pytest.raises(Refused, match="r0 is not seen to have version 2"):
        await place.start(version=2)
    place.store.close()


async def test_nothing_starts_beside_a_live_rollout_or_before_the_lease_is_held(place):
    place.agent.waiting["lease"] = "not held"
    with pytest.raises(Refused, match="not held"):
        await place.start()
    place.agent.waiting.clear()
    place.desk.put_rollout(a_rollout(Phase.STUCK), 1)
    with pytest.raises(Refused, match="STUCK"):
        await place.start()


async def test_trap_16_a_version_that_failed_before_needs_a_new_number(place):
    place.desk.put_view(ServerName("r1"), a_view(1, failed=(2,), server="r1"))
    with pytest.raises(Refused, match=r"failed to load on r1 before \(DATA_LOSS\)"):
        await place.start()


async def test_a_server_with_foreign_models_and_a_source_that_cannot_be_read_store_nothing(place):
    place.refusal = "r0 serves fraud"
    with pytest.raises(Refused, match="fraud"):
        await place.start()
    place.refusal, place.clearing = "", Unavailable("rows", "no such file")
    with pytest.raises(Unavailable, match="no such file"):
        await place.start()
    assert place.store.rollouts() == []


async def test_a_canary_that_gets_its_own_name_starts_alone(place):
    other = a_rollout(Phase.BAKING, id="other-4", model="other")
    place.desk.put_rollout(other, 1)
    section = place.config.models[MODEL].model_copy(update={"placement": Placement.SECOND_NAME})
    place.agent.config = place.config.model_copy(update={"models": {MODEL: section}})
    with pytest.raises(Refused, match="rollout other-4 is BAKING"):
        await place.start()
    assert place.store.rollouts() == []
    place.desk.put_rollout(replace(other, phase=Phase.SUCCEEDED), 2)
    assert (await place.start()).placement is Placement.SECOND_NAME


async def test_a_refused_start_leaves_what_servers_should_have_as_it_was(place):
    before = place.desk.wanted(ServerName("r0"))
    for version in (1, -1):
        with pytest.raises(Refused):
            await place.start(version=version)
    assert place.desk.wanted(ServerName("r0")) == before


async def test_observe_mode_takes_what_is_seen_as_stable_when_nobody_declared_it(tmp_path):
    place = Place(tmp_path, "observe")
    place.desk.put_view(ServerName("r0"), a_view(1, 2, server="r0"))
    place.desk.put_view(ServerName("r1"), None)
    rollout = await place.start()
    assert (rollout.old, rollout.mode) == (1, Mode.OBSERVE)
    place.store.close()


async def test_without_any_sign_of_a_stable_version_one_is_asked_for(tmp_path):
    place = Place(tmp_path, "observe")
    for name in ("r0", "r1"):
        place.desk.put_view(ServerName(name), a_view(2, server=name))
    with pytest.raises(Refused, match=r"set models\.credit\.stable"):
        await place.start()
    place.store.close()


async def test_a_command_to_an_unknown_or_finished_rollout_says_so(place):
    with pytest.raises(Unknown, match="haldane rollout list"):
        await place.agent.command(RolloutId("nope"), CommandKind.ABORT, by="ada", why="x")
    place.store.commit(a_rollout(Phase.ROLLED_BACK), None, [])
    await place.agent.supervisor.take_up()
    with pytest.raises(Refused, match="over"):
        await place.agent.command(RolloutId("credit-2-test"), CommandKind.ABORT, by="ada", why="x")


async def test_an_agent_that_stands_by_sends_a_command_on_to_the_one_that_acts(place):
    """Told that the rollout is over, whoever aborts in an emergency would believe it."""
    place.store.commit(a_rollout(Phase.PROMOTING), None, [])
    with pytest.raises(Unavailable, match="another one acts"):
        await place.agent.command(RolloutId("credit-2-test"), CommandKind.ABORT, by="ada", why="x")


async def test_it_is_unready_until_every_server_was_looked_at(place):
    assert place.agent.unready() == []
    del place.desk.views[ServerName("r1")]
    place.agent.waiting["lease"] = "not held"
    assert place.agent.unready() == ["not held", "server r1 has not been looked at yet"]


async def test_a_story_tells_the_labels_before_and_after(place):
    rollout = await place.start()
    story = await place.agent.story(rollout.id)
    assert story.labels_before["r0"]["stable"] == 1
    assert story.rulings == []
    assert story.rollout.why == rollout.why


# --- what a new process makes of the stored stable version --------------------------------------------------------


@pytest.mark.parametrize(
    ("settled", "stable"),
    [
        ({}, 1),
        ({"credit": (2, 1)}, 2),  # a rollout moved it since the config was written
        ({"credit": (2, 7)}, 1),  # somebody has edited the config since
        ({"unknown": (9, 9)}, 1),
    ],
)
def test_stable_is_what_rollouts_made_of_what_the_config_declares(place, settled, stable):
    known = {ModelName(name): value for name, value in settled.items()}
    put_at_rest(place.config, place.desk, known, {MODEL: 100.0}, {MODEL: 200.0})
    assert place.desk.watched[MODEL].stable == stable
    assert place.desk.declared[MODEL] == 1


@pytest.mark.parametrize("declared_at", [50.0, 100.0])
def test_a_config_written_before_the_last_promotion_takes_nobody_back_to_what_was_left_behind(place, declared_at):
    put_at_rest(place.config, place.desk, {MODEL: (3, 2)}, {MODEL: 100.0}, {MODEL: declared_at})
    assert place.desk.watched[MODEL].stable == 3
    assert place.desk.declared[MODEL] == 1


# --- taking a promotion back ------------------------------------------------------------------------------------------

HARM = Ruling(verdict=Verdict.FAIL, findings=(), pairs=9, seconds=3.0, log10_harm=3.0, why="accuracy is harmed")


def promoted(place, stable=2):
    """A rollout that made version 2 stable, in the store and on the desk."""
    rollout = a_rollout(Phase.SUCCEEDED, analysis=place.config.rules_of(MODEL).to_json())
    place.store.commit(rollout, None, [])
    place.desk.put_stable(MODEL, stable, 1, Clients.LABEL, provable=True)
    return rollout


async def test_a_promotion_taken_back_is_a_rollout_of_its_own_with_records_on_both(place):
    rollout = promoted(place)
    assert await take_back(place.agent, rollout, HARM) == ""
    ((made, _),) = place.store.live()
    assert (made.phase, made.old, made.new, made.reverts) == (Phase.ROLLING_BACK, 1, 2, rollout.id)
    assert "labels that came after version 2 was promoted show harm: accuracy is harmed" in made.why
    (started,) = place.store.records(made.id)
    assert (started.kind, started.data["by"]) == ("rollout_started", "haldane")
    (told,) = place.store.records(rollout.id)
    assert (told.kind, told.data["revert"]) == ("promotion_taken_back", made.id)
    assert told.data["ruling"]["verdict"] == "fail"
    assert place.desk.wanted(ServerName("r0")).entry(MODEL).versions == (1,)
    assert [one.after.phase for one in place.moves] == [Phase.ROLLING_BACK]
    assert place.registry.get_sample_value("haldane_promotions_taken_back_total", {"model": MODEL}) == 1


async def test_asked_again_it_only_does_what_was_left(place):
    rollout = promoted(place)
    await take_back(place.agent, rollout, HARM)
    assert await take_back(place.agent, rollout, HARM) == ""
    assert (len(place.store.live()), len(place.store.records(rollout.id))) == (1, 1)
    other = replace(rollout, id=RolloutId("other"))
    place.store.commit(replace(other, id=RolloutId("other-revert"), reverts=other.id), None, [])
    assert await take_back(place.agent, other, HARM) == ""  # a crash came between the revert and its record
    assert [record.kind for record in place.store.records(other.id)] == ["promotion_taken_back"]


async def test_a_promotion_is_not_taken_back_where_that_could_do_harm(place):
    rollout = promoted(place)
    place.agent.waiting["lease"] = "not held"
    assert await take_back(place.agent, rollout, HARM) == "not held"
    place.agent.waiting.clear()
    place.desk.put_rollout(a_rollout(Phase.SHADOWING, id=RolloutId("next")), 1)
    assert "rollout next of this model is SHADOWING" in await take_back(place.agent, rollout, HARM)
    place.desk.rollouts.clear()
    place.desk.put_stable(MODEL, 3, 1, Clients.LABEL, provable=True)
    assert "not stable any more" in await take_back(place.agent, rollout, HARM)
    assert place.store.live() == []


async def test_an_agent_that_observes_takes_nothing_back(tmp_path):
    place = Place(tmp_path, "observe")
    assert "observe mode" in await take_back(place.agent, promoted(place), HARM)
    place.store.close()


async def test_a_promotion_and_its_revert_tell_of_each_other(place):
    rollout = promoted(place)
    await take_back(place.agent, rollout, HARM)
    first, second = await place.agent.story(rollout.id), await place.agent.story(revert_id(rollout.id))
    for language, taken, takes in (("en", "taken back later by", "takes back"), ("zh", "后来被", "撤回的是")):
        assert any(taken in line and "credit-2-test-revert" in line for line in explained(first, language))
        assert any(takes in line and "credit-2-test" in line for line in explained(second, language))


async def test_labels_are_taken_only_for_a_model_that_declares_them(place):
    with pytest.raises(Unknown, match="credit"):
        await place.agent.put_labels("nope", [])
    with pytest.raises(Refused, match=r"set models\.credit\.labels"):
        await place.agent.put_labels(MODEL, [])
    place.terms = LabelTerms(60.0, count_late=True)
    assert (await place.agent.put_labels(MODEL, [Label(1, 1.0)])).accepted == 1
