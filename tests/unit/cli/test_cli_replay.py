"""`haldane replay`: from the agent, the store or a file; what it prints and the exit code it leaves with."""

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from haldane.adapters.archive import packed
from haldane.adapters.sql import open_store
from haldane.cli import main
from haldane.domain.rollout import Phase, RolloutId
from haldane.judge.analysis import trace
from haldane.judge.replay import CaseFile, Recorded
from haldane.testing.builders import a_rollout
from haldane.testing.gallery import RULES, canary_pairs

ENTRIES = tuple(canary_pairs(1000, wrong=0.08))
ROLLOUT = a_rollout(Phase.ROLLED_BACK, analysis=RULES.to_json())
NOBODY = "127.0.0.1:1"


def recorded(*places: int) -> tuple[Recorded, ...]:
    rulings = trace(RULES, ENTRIES)
    return tuple(Recorded(n, json.loads(json.dumps(asdict(rulings[place - 1])))) for n, place in enumerate(places))


CASE = CaseFile(rollout=ROLLOUT, recorded=recorded(3, 12, len(ENTRIES)), entries=ENTRIES)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["replay", *arguments])


def archive(path: Path, case: CaseFile = CASE) -> str:
    path.write_bytes(b"".join(packed(case)))
    return str(path)


@pytest.fixture
def saved(tmp_path: Path) -> str:
    return archive(tmp_path / "case.npz")


@pytest.fixture
def config(tmp_path: Path) -> Iterator[str]:
    """A config whose agent does not run, with the case in its store."""
    path = tmp_path / "haldane.yaml"
    path.write_text(f"servers: [{NOBODY}]\nlisten: {NOBODY}\n")
    (tmp_path / "haldane-state").mkdir()
    store = open_store(f"sqlite:///{tmp_path / 'haldane-state' / 'haldane.db'}")
    records = [("phase_changed", {"ruling": one.ruling}) for one in CASE.recorded]
    store.commit(ROLLOUT, None, records)
    for entry in ENTRIES:
        store.append_evidence(ROLLOUT.id, entry)
    store.close()
    return str(path)


def test_all_rulings_come_out_again(saved: str) -> None:
    result = run("--from", saved)
    assert result.exit_code == 0, result.output
    assert "1,000 pairs in 20 entries" in result.output
    assert "bit for bit: 3 of 3" in result.output
    assert "verdict: fail, harm shown after" in result.output


def test_the_store_is_read_where_the_agent_does_not_run(config: str, tmp_path: Path) -> None:
    result = run(ROLLOUT.id, "--config", config, "--save", str(tmp_path / "kept.npz"))
    assert result.exit_code == 0, result.output
    assert "Its store is read instead" in result.output
    again = run("--from", str(tmp_path / "kept.npz"), ROLLOUT.id)
    assert again.exit_code == 0
    assert "3 of 3" in again.output


def test_without_agent_and_config_it_says_what_to_do() -> None:
    result = run("x", "--agent", NOBODY)
    assert result.exit_code == 4
    assert "With --config FILE" in result.output


def test_an_unknown_rollout_is_a_mistake_that_names_what_there_is(config: str) -> None:
    result = run("nope", "--config", config)
    assert (result.exit_code, ROLLOUT.id in result.output) == (2, True)


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    config = tmp_path / "haldane.yaml"
    config.write_text(f"servers: [{NOBODY}]\nlisten: {NOBODY}\n")
    result = run("x", "--config", str(config))
    assert result.exit_code == 4
    assert "an agent makes it when it first runs" in result.output
    assert not list(tmp_path.rglob("*.db"))


def test_a_changed_log_leaves_with_a_code_of_its_own_and_the_place(tmp_path: Path) -> None:
    changed = list(ENTRIES)
    changed[7] = changed[7].copy()
    changed[7]["canary_wrong"][:9] = 1
    result = run("--from", archive(tmp_path / "c.npz", replace(CASE, entries=changed)))
    assert result.exit_code == 6
    assert "DIFFERS at entry 12, in the ruling of record 1; 1 rulings up to entry 3 came out" in result.output
    assert "findings[accuracy].estimate: recorded" in result.output


def test_a_rollout_that_was_never_judged_has_no_data(tmp_path: Path) -> None:
    result = run("--from", archive(tmp_path / "c.npz", replace(CASE, recorded=(), entries=())))
    assert (result.exit_code, "no data" in result.output) == (3, True)


def test_a_revert_points_to_the_rollout_it_rests_on(tmp_path: Path) -> None:
    revert = replace(ROLLOUT, id=RolloutId("credit-2-test-revert"), reverts=ROLLOUT.id)
    result = run("--from", archive(tmp_path / "c.npz", CaseFile(rollout=revert, recorded=(), entries=())))
    assert (result.exit_code, f"haldane replay {ROLLOUT.id}" in result.output) == (3, True)


def test_another_margin_is_shown_beside_the_recorded_verdict(saved: str) -> None:
    result = run("--from", saved, "--margin", "accuracy=-20pp")
    assert result.exit_code == 0, result.output
    for words in ("fail", "pass", "harmful:", "harmless:", "margin +20.00 pp", "changed", "then: harm shown", "now:"):
        assert words in result.output


def test_rules_that_need_more_evidence_say_so(saved: str, tmp_path: Path) -> None:
    policy = tmp_path / "strict.yaml"
    policy.write_text("analysis:\n  metrics: {accuracy: off, errors: 0.01pp, latency: off, disagreement: off}\n")
    result = run("--from", saved, "--rules", str(policy))
    assert result.exit_code == 3
    assert "The recorded evidence ends before these rules would have decided." in result.output
    assert "not judged" in result.output


def test_the_rules_of_an_archive_are_rules(saved: str, tmp_path: Path) -> None:
    (tmp_path / "rules.json").write_text(replace(RULES, alpha=1e-30).to_json())
    result = run("--from", saved, "--rules", str(tmp_path / "rules.json"), "-o", "json")
    assert json.loads(result.output)["then"]["decided"]["verdict"] == "fail"
    assert json.loads(result.output)["now"]["decided"] is None


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--margin", "speed=+5%"], "write METRIC=MARGIN with one of errors, accuracy, latency"),
        (["--margin", "latency=+5"], "has no unit"),
        (["--rules", "nowhere.json"], "nowhere.json: No such file"),
        (["--rules", "nowhere.yaml"], "nowhere.yaml: cannot read it"),
        (["other-rollout"], "holds rollout credit-2-test, not other-rollout"),
        (["--save", "x.npz"], "give one of --from and --save"),
    ],
)
def test_wrong_arguments_say_what_would_be_right(saved: str, arguments: list[str], says: str) -> None:
    result = run("--from", saved, *arguments)
    assert (result.exit_code, says in result.output) == (2, True), result.output


def test_mistakes_in_a_policy_are_told_with_their_lines(saved: str, tmp_path: Path) -> None:
    policy = tmp_path / "p.yaml"
    policy.write_text("analysis:\n  alpha: 0\n  metrics:\n    errors: {margin: 5}\n  horizonpairs: 7\n")
    result = run("--from", saved, "--rules", str(policy))
    assert result.exit_code == 2
    assert "p.yaml:2: analysis.alpha" in result.output
    assert "did you mean `horizon_pairs`" in result.output


def test_a_policy_without_rules_says_so(saved: str, tmp_path: Path) -> None:
    policy = tmp_path / "p.yaml"
    policy.write_text("servers: [a:1]\n")
    result = run("--from", saved, "--rules", str(policy))
    assert (result.exit_code, "analysis: missing" in result.output) == (2, True)


def test_a_file_that_is_no_case_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_text("hello")
    result = run("--from", str(tmp_path / "x.npz"))
    assert (result.exit_code, "not a whole NPZ archive" in result.output) == (2, True)
