"""Before a rollout starts, the servers with a limit are asked whether there is room."""

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from haldane.app.headroom import Headroom
from haldane.app.lists import open_list
from haldane.config import Config, DiscoverSection, load_config
from haldane.config.problems import ConfigError
from haldane.domain.fleet import Clients, ModelName, ServerConfig, ServerName
from haldane.domain.release import Profile
from haldane.domain.rollout import Mode
from haldane.engine.desk import Desk
from haldane.ports import Refused, Unavailable
from haldane.release.manifest import listing, manifest
from haldane.release.publish import Origin, publish
from haldane.release.shelf import Shelf
from haldane.release.storage import Disk
from haldane.testing.builders import MODEL, a_view, an_entry

R0, R1 = ServerName("r0"), ServerName("r1")


@dataclass
class Meter:
    used: float

    async def cpu_seconds(self) -> float:
        return 0.0

    async def resident_bytes(self) -> float:
        if self.used < 0:
            raise Unavailable("r0", "its page is down")
        return self.used


@dataclass
class Place:
    """Two servers of 1 MB each, and a model's folder that can be read."""

    folder: Path
    limits: tuple[str | None, str | None] = ("1MB", "1MB")
    placement: str = "same_entry"
    meters: dict[ServerName, Meter] = field(default_factory=lambda: {R0: Meter(0.0), R1: Meter(0.0)})

    def __post_init__(self) -> None:
        self.shelf = Shelf(Disk(self.folder / "models"), MODEL)
        self.base = ServerConfig((replace(an_entry(), base_path=str(self.folder / "models" / MODEL)),))
        self.desk = Desk(Mode.ENFORCE, {}, self.base, {})

    def config(self) -> Config:
        servers = [
            {
                "name": f"r{i}",
                "address": f"h:{i + 1}",
                "process_url": f"http://h:9{i}/",
                **({"memory": one} if one else {}),
            }
            for i, one in enumerate(self.limits)
        ]
        (self.folder / "models.config").write_text("model_config_list {}")
        model = {"clients": "label", "placement": self.placement}
        settings = {"servers": servers, "model_config_file": "models.config", "models": {MODEL: model}}
        (self.folder / "haldane.yaml").write_text(json.dumps(settings))
        return load_config(self.folder / "haldane.yaml", parse_models=lambda text, source: self.base)

    def published(self, size: int, profile: Profile | None = None) -> int:
        export = self.folder / "export"
        export.mkdir(exist_ok=True)
        (export / "saved_model.pb").write_bytes(b"x" * size)
        origin = Origin("ada", datetime(2026, 11, 25, tzinfo=UTC), {}, {}, (), profile)
        return publish(export, manifest(export, listing(export, most_bytes=10**7)), self.shelf, origin).version

    async def check(self, version: int) -> list[str]:
        config = self.config()
        self.desk.servers |= {server.name: server for server in config.fleet}
        return await Headroom(config, self.desk, self.meters).check(MODEL, version)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


async def test_trap_22_without_room_for_it_a_version_is_refused_before_it_loads(
    place: Place,
) -> None:
    version = place.published(1000, Profile(1.0, 300_000))
    place.meters[R1].used = 800_000
    with pytest.raises(Refused) as refused:
        await place.check(version)
    needs = "version 1 needs 300 kB (as measured when it was validated), 200 kB of 1 MB are free"
    assert refused.value.detail == f"there is no room for it; r1: {needs}"
    place.meters[R1].used = 700_000
    assert [one[:2] for one in await place.check(version)] == ["r0", "r1"]


async def test_a_version_that_was_not_measured_counts_by_its_files_published_or_not(place: Place) -> None:
    assert "by Serving's own estimate" in (await place.check(place.published(100_000)))[0]
    by_hand = place.folder / "models" / MODEL / "7"
    by_hand.mkdir()
    (by_hand / "saved_model.pb").write_bytes(b"x" * 900_000)
    with pytest.raises(Refused, match=r"version 7 needs 1\.08 MB"):
        await place.check(7)


async def test_a_version_that_was_not_measured_counts_as_the_last_one_that_was_and_is_like_it(place: Place) -> None:
    place.published(100_000, Profile(1.0, 400_000))
    place.published(120_000)
    assert "version 2 needs 480 kB (4 times its files, as measured of version 1)" in (await place.check(2))[0]
    by_hand = place.folder / "models" / MODEL / "7"
    by_hand.mkdir()
    (by_hand / "saved_model.pb").write_bytes(b"x" * 199_000)
    assert "version 7 needs 796 kB (4 times" in (await place.check(7))[0]
    (by_hand / "saved_model.pb").write_bytes(b"x" * 201_000)
    assert "version 7 needs 241 kB (by Serving's own estimate" in (await place.check(7))[0]


async def test_servers_of_a_list_are_held_to_the_lists_limit(place: Place) -> None:
    section = DiscoverSection(file=Path("servers.json"), process_port=9256, memory="1MB")
    (place.folder / "servers.json").write_text('[{"targets": ["10.0.0.1:8500"]}]')
    listed = open_list(section.model_copy(update={"file": place.folder / "servers.json"}))
    (server,) = await listed.read()
    assert server.memory == 1_000_000
    place.limits = (None, None)
    version = place.published(1000, Profile(1.0, 300_000))
    place.desk.put_server(server)
    place.meters = {server.name: Meter(800_000.0)}
    with pytest.raises(Refused, match=r"there is no room for it; 10\.0\.0\.1:8500: version 1 needs 300 kB"):
        await place.check(version)
    place.desk.drop_server(server.name)
    assert await place.check(version) == []


async def test_a_canary_with_a_name_of_its_own_needs_room_for_one_copy_more(place: Place) -> None:
    stable, version = place.published(1000, Profile(1.0, 200_000)), place.published(1001, Profile(1.0, 300_000))
    place.desk.put_stable(ModelName(MODEL), stable, stable, Clients.LABEL, provable=True)
    place.placement = "second_name"
    assert (
        "version 2 needs 600 kB (as measured when it was validated, with the second copy"
        in (await place.check(version))[0]
    )
    place.desk.put_stable(ModelName(MODEL), 9, 9, Clients.LABEL, provable=True)  # of which nothing is known
    assert "needs 600 kB" in (await place.check(version))[0]
    larger = place.published(1002, Profile(1.0, 900_000))
    place.desk.put_stable(ModelName(MODEL), larger, larger, Clients.LABEL, provable=True)
    with pytest.raises(Refused, match=r"needs 1\.2 MB"):
        await place.check(version)


async def test_what_cannot_be_told_is_no_data_and_refuses_nothing(place: Place) -> None:
    (told,) = await place.check(9)
    assert told.startswith("no data on what version 9 needs: there is no record of it")
    place.published(1000)
    place.meters = {R0: Meter(-1.0)}
    assert await place.check(1) == [
        "r0: no data: its page is down",
        "r1: no data: nothing tells what its process uses; give servers[].process_url",
    ]


async def test_servers_without_a_limit_or_with_the_version_are_not_asked(place: Place) -> None:
    place.published(2_000_000)
    place.limits = (None, "1MB")
    place.desk.put_view(R1, a_view(1, server="r1"))
    assert await place.check(1) == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("servers: [{address: 'h:1', memory: 1GB}]", r"servers\[0\]\.memory: .*give process_url, or prometheus"),
        ("discover: [{file: a.yml, memory: 1GB}]", r"discover\[0\]\.memory: .*give process_port, or prometheus"),
    ],
)
def test_a_limit_that_nothing_can_be_held_against_is_a_mistake_in_the_config(
    tmp_path: Path, text: str, says: str
) -> None:
    (tmp_path / "haldane.yaml").write_text(text)
    with pytest.raises(ConfigError, match=says):
        load_config(tmp_path / "haldane.yaml")
