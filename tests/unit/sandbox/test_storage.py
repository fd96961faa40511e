"""What counts as a version, and which versions a policy wants."""

from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format

from haldane import wire
from haldane.sandbox.servable import StatusError
from haldane.sandbox.storage import StorageSource, Watched, aspired_versions, version_number


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("1", 1),
        ("0", 0),
        ("001", 1),
        ("-1", -1),
        ("+5", 5),
        (" 1", 1),
        ("1 ", 1),
        ("9223372036854775807", 2**63 - 1),
        ("9223372036854775808", None),
        ("1.0", None),
        ("1e3", None),
        ("0x1", None),
        ("1_000", None),
        ("3.tmp", None),
        (".3", None),
        ("v3", None),
        ("", None),
        ("+", None),
        ("١", None),
    ],
)
def test_a_version_is_a_name_that_is_a_whole_64_bit_decimal(name: str, version: int | None) -> None:
    assert version_number(name) == version


def watched(base: Path, policy: str = "") -> Watched:
    config = wire.ModelConfig()
    text_format.Parse(f"model_version_policy {{ {policy} }}", config, descriptor_pool=wire.POOL)
    return Watched("m", str(base), config.model_version_policy)


def versions(base: Path, policy: str = "") -> list[int]:
    return sorted(version for version, _ in aspired_versions(watched(base, policy)))


@pytest.mark.parametrize(
    ("policy", "wanted"),
    [
        ("", [9]),
        ("latest {}", [9]),
        ("latest { num_versions: 2 }", [3, 9]),
        ("latest { num_versions: 10 }", [1, 2, 3, 9]),
        ("all {}", [1, 2, 3, 9]),
        ("specific { versions: 2 versions: 7 }", [2]),
        ("specific { versions: 7 }", []),
        ("specific {}", []),
    ],
)
def test_a_policy_chooses_among_the_versions_present(tmp_path: Path, policy: str, wanted: list[int]) -> None:
    for name in ("1", "2", "3", "9", "10.tmp", "x"):
        (tmp_path / name).mkdir()
    assert versions(tmp_path, policy) == wanted


def test_a_plain_file_with_a_number_for_a_name_is_a_version_too(tmp_path: Path) -> None:
    (tmp_path / "6").write_text("")
    assert versions(tmp_path) == [6]


@pytest.mark.parametrize(("policy", "name"), [("", "2"), ("specific { versions: 2 }", "2"), ("all {}", "002")])
def test_of_two_names_for_one_number_the_policy_decides(tmp_path: Path, policy: str, name: str) -> None:
    (tmp_path / "2").mkdir()
    (tmp_path / "002").mkdir()
    assert aspired_versions(watched(tmp_path, policy))[0] == (2, str(tmp_path / name))


class Heard:
    """A source's listener that remembers."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[int]]] = []

    def __call__(self, model: str, found: Any) -> None:
        self.calls.append((model, [version for version, _ in found]))


def test_one_missing_base_path_silences_the_whole_poll(tmp_path: Path) -> None:
    (tmp_path / "a" / "1").mkdir(parents=True)
    heard = Heard()
    here, gone = watched(tmp_path / "a"), watched(tmp_path / "b")
    source = StorageSource(heard, poll_seconds=-1, watched=[here, Watched("gone", gone.base_path, gone.policy)])
    source.poll()
    assert heard.calls == []
    (tmp_path / "b").mkdir()
    source.poll()
    assert heard.calls == [("m", [1]), ("gone", [])]


def test_a_model_left_out_is_unaspired_at_once_and_no_longer_polled(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    heard = Heard()
    source = StorageSource(heard, poll_seconds=-1, watched=[watched(tmp_path)])
    source.update([])
    source.poll()
    assert heard.calls == [("m", [])]


def test_other_file_systems_are_refused_by_name() -> None:
    with pytest.raises(StatusError, match="File system scheme 's3' not implemented"):
        aspired_versions(Watched("m", "s3://bucket/m", wire.ModelConfig().model_version_policy))


def test_a_base_path_that_no_file_system_can_hold_is_only_missing() -> None:
    with pytest.raises(StatusError, match="Could not find base path"):
        aspired_versions(Watched("m", "/" + "x" * 300, wire.ModelConfig().model_version_policy))
