"""A file that a server polls is written whole or not at all, and never over somebody else's change."""

import stat
from pathlib import Path

import pytest

from haldane.domain.fleet import ServerConfig, ServerName
from haldane.ports import Refused, Unavailable
from haldane.serving import configedit, modelconfig, polledfile
from haldane.serving.polledfile import PolledFile
from haldane.testing.builders import MODEL, a_config, an_entry

R0 = ServerName("r0")
TEXT = "# ours\n" + modelconfig.render(a_config(an_entry(), an_entry("fraud")))
FLIPPED = an_entry(versions=(1, 2), labels={"stable": 2})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "models.config"
    path.write_text(TEXT)
    return path


def managed(path: Path) -> PolledFile:
    return PolledFile(R0, None, path, lambda: {MODEL})


async def test_only_the_models_looked_after_are_written_and_what_others_added_meanwhile_stays(file):
    grown = (*modelconfig.parse(TEXT).models, an_entry("loans"))
    file.write_text("# ours\n" + modelconfig.render(ServerConfig(grown)))
    file.chmod(0o640)
    await managed(file).reload(a_config(FLIPPED, an_entry("fraud", versions=(9,))))
    found = modelconfig.parse(file.read_text())
    assert found.entry(MODEL).labels == {"stable": 2}
    assert (found.entry("fraud").versions, found.entry("loans").versions) == ((1,), (1,))
    assert file.read_text().startswith("# ours\n")
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert [one.name for one in file.parent.iterdir()] == ["models.config"]


async def test_a_file_that_says_so_already_is_left_alone_and_the_server_is_asked_after(file):
    await managed(file).reload(a_config(FLIPPED))
    written = file.stat().st_ino
    with pytest.raises(Unavailable, match="model_config_file_poll_wait_seconds"):
        await managed(file).reload(a_config(FLIPPED))
    assert file.stat().st_ino == written


async def test_a_lease_that_ran_out_before_its_thread_was_free_leaves_the_file_alone(file):
    late = PolledFile(R0, None, file, lambda: {MODEL}, lambda: False)
    with pytest.raises(Unavailable, match="lease"):
        await late.reload(a_config(FLIPPED))
    assert file.read_text() == TEXT


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        ("model_config_list {", Refused, "Expected"),
        (TEXT.replace(f'"{MODEL}"', '"other"'), Refused, "does not have it"),
        (TEXT.replace(f"/models/{MODEL}", "/elsewhere"), Refused, "base_path"),
        (b"\xff\xfe", Refused, "utf-8"),
        (None, Unavailable, "No such file"),
    ],
)
async def test_what_cannot_be_changed_is_refused_and_left_as_it_is(file, content, error, words):
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    before = file.read_bytes() if file.exists() else None
    with pytest.raises(error, match=words):
        await managed(file).reload(a_config(FLIPPED))
    assert (file.read_bytes() if file.exists() else None) == before


async def test_a_file_that_somebody_wrote_just_then_is_not_overwritten(file, monkeypatch):
    def meanwhile(text, models, **more):
        file.write_text(TEXT + "# theirs\n")
        return configedit.edited(text, models, **more)

    monkeypatch.setattr(polledfile, "edited", meanwhile)
    with pytest.raises(Unavailable, match="somebody else"):
        await managed(file).reload(a_config(FLIPPED))
    assert file.read_text() == TEXT + "# theirs\n"
    assert [one.name for one in file.parent.iterdir()] == ["models.config"]
