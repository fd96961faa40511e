"""A config that servers boot with is kept at what is stable: in a file, and in a ConfigMap of a real API's form."""

import asyncio
import stat
from functools import partial

import pytest
from prometheus_client import CollectorRegistry
from tests.kubernetes_api import KubernetesApi

from haldane.adapters.kubernetes import ConfigMapText
from haldane.adapters.sql import open_store
from haldane.adapters.textfile import TextFile
from haldane.domain.fleet import Clients
from haldane.domain.rollout import Mode, Phase
from haldane.engine.bootconfig import WRITTEN, BootConfig
from haldane.engine.desk import Desk
from haldane.ports import Refused, StaleWrite, Unavailable
from haldane.serving.configedit import edited
from haldane.serving.modelconfig import parse_leniently, render
from haldane.telemetry import Telemetry
from haldane.testing.builders import MODEL, a_config, a_rollout, an_entry

TEXT = "# by hand\n" + render(a_config(an_entry(), an_entry("fraud")))


@pytest.fixture
def store(tmp_path):
    opened = open_store(f"sqlite:///{tmp_path / 'store.db'}")
    yield opened
    opened.close()


class Office:
    """A task over one sink, and the desk it follows. Another of it over the same store is the next process."""

    def __init__(self, sink, store):
        self.desk = Desk(mode=Mode.ENFORCE, servers={}, base=a_config(), watched={})
        self.desk.put_stable(MODEL, 1, 1, Clients.LABEL, provable=False)
        self.telemetry, self.lease = Telemetry.on(CollectorRegistry()), True

        async def note(kind, data):
            store.record(kind, data)

        self.task = BootConfig(
            name="boot",
            sink=sink,
            desk=self.desk,
            telemetry=self.telemetry,
            may_act=lambda: self.lease,
            note=note,
            records=lambda after: store.records(kinds=(WRITTEN,), after=after),
            parse=parse_leniently,
            edit=partial(edited, source="boot"),
        )

    def promote(self, phase=Phase.SUCCEEDED):
        self.desk.put_rollout(a_rollout(phase), 1)

    async def turn(self):
        """One look, and what follows."""
        await self.task.keep()
        says = self.desk.boot.pop("boot", "")
        assert self.telemetry.registry.get_sample_value("haldane_boot_config_behind", {"sink": "boot"}) in (
            None,
            float(says != "as it should be"),
        )
        return says


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "boot.config"
    path.write_text(TEXT)
    path.chmod(0o640)
    return path


def versions(text):
    entry = parse_leniently(text).entry(MODEL)
    return entry.versions, dict(entry.labels)


async def test_it_moves_after_the_bake_and_nothing_else_in_it_does(file, store):
    office = Office(TextFile("boot", file), store)
    for phase in (Phase.SHADOWING, Phase.PROMOTING, Phase.BAKING):
        office.promote(phase)
        assert await office.turn() == "as it should be"
        assert file.read_text() == TEXT
    office.promote()
    assert await office.turn() == "as it should be"
    assert versions(file.read_text()) == ((2,), {"stable": 2})
    assert parse_leniently(file.read_text()).entry("fraud") == an_entry("fraud")
    assert file.read_text().startswith("# by hand\n")
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    (record,) = [one for one in store.records() if one.kind == WRITTEN]
    assert record.data == {"sink": "boot", "model": MODEL, "was": 1, "version": 2}


async def test_what_a_person_puts_there_afterwards_stays_and_is_told_also_by_the_next_process(file, store):
    office = Office(TextFile("boot", file), store)
    office.promote()
    await office.turn()
    file.write_text(TEXT)
    assert "somebody put version 1 there, and stable is 2; it stays" in await office.turn()
    again = Office(TextFile("boot", file), store)
    again.promote()
    assert "somebody put version 1 there" in await again.turn()
    assert file.read_text() == TEXT


async def test_a_promotion_whose_agent_died_before_it_wrote_is_written_by_the_next(file, store):
    office = Office(TextFile("boot", file), store)
    office.promote()
    await office.turn()
    assert versions(file.read_text()) == ((2,), {"stable": 2})


async def test_it_is_woken_by_a_promotion(file, store, monkeypatch):
    monkeypatch.setattr("haldane.engine.bootconfig.EVERY_SECONDS", 3600.0)
    office = Office(TextFile("boot", file), store)
    running = asyncio.create_task(office.task.run())
    async with asyncio.timeout(30):
        while "boot" not in office.desk.boot:
            await office.desk.wait_changed(0.01)  # the first look
        office.promote()
        while versions(file.read_text())[0] != (2,):
            await office.desk.wait_changed(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_without_the_lease_and_while_observing_nothing_is_written(file, store):
    office = Office(TextFile("boot", file), store)
    office.promote()
    office.lease = False
    assert await office.turn() == ""
    office.lease, office.desk.mode = True, Mode.OBSERVE
    assert await office.turn() == ""
    assert file.read_text() == TEXT


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "No such file"), ("model_config_list {", "Expected"), (b"\xff", "UTF-8"), (TEXT * 2, "")],
)
async def test_a_text_that_cannot_be_read_is_told_and_left(file, store, content, says):
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    before = file.read_bytes() if file.exists() else None
    office = Office(TextFile("boot", file), store)
    office.promote()
    told = await office.turn()
    assert told != "as it should be"
    assert says in told
    assert (file.read_bytes() if file.exists() else None) == before


# --- a ConfigMap -------------------------------------------------------------


@pytest.fixture
def api(tmp_path, monkeypatch):
    made = KubernetesApi()
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(made.kubeconfig(tmp_path)))
    made.put_map("serving/tfs", {"models.config": TEXT, "other": "stays"})
    yield made
    made.close()


def config_map(key="models.config"):
    return ConfigMapText("boot", "serving", "tfs", key)


async def test_one_key_of_a_config_map_is_patched_and_the_others_stay(api, store):
    office = Office(config_map(), store)
    office.promote()
    assert await office.turn() == "as it should be"
    data = api.maps["serving/tfs"]["data"]
    assert versions(data["models.config"]) == ((2,), {"stable": 2})
    assert data["other"] == "stays"


async def test_a_config_map_that_somebody_wrote_meanwhile_is_not_overwritten(api):
    sink = config_map()
    before = await sink.read()
    api.put_map("serving/tfs", {"models.config": before, "other": "new"})
    with pytest.raises(StaleWrite, match="somebody else"):
        await sink.write(before, "mine")
    assert api.maps["serving/tfs"]["data"] == {"models.config": before, "other": "new"}
    with pytest.raises(StaleWrite, match="no longer what was read"):
        await sink.write("something else", "mine")


async def test_a_key_a_map_or_a_right_that_is_missing_is_named(api):
    with pytest.raises(Refused, match=r"no key boot\.config; it has models\.config, other"):
        await config_map("boot.config").read()
    sink = config_map()
    text = await sink.read()
    api.status = 403
    with pytest.raises(Refused, match="not allowed to patch configmap tfs in namespace serving"):
        await sink.write(text, "mine")
    api.status = 200
    api.maps.clear()
    with pytest.raises(Refused, match=r"not found .*get configmap tfs"):
        await sink.read()
    api.close()
    with pytest.raises(Unavailable):
        await sink.read()
