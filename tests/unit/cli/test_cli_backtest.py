"""`haldane backtest` on recorded rollouts: what it prints, and the exit code it leaves with."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from haldane.adapters.archive import packed
from haldane.cli import main
from haldane.domain.fleet import ModelName
from haldane.domain.rollout import RolloutId
from haldane.judge.replay import CaseFile
from haldane.judge.rules import Rules
from haldane.testing.builders import a_rollout
from haldane.testing.gallery import canary_pairs
from haldane.testing.pairs import metric, pairs, rules

RULES = rules(metric("accuracy", "2pp"), metric("disagreement", "5pp"), horizon_pairs=1000, rate_per_second=20.0)


def archive(folder: Path, name: str, *, wrong: float = 0.02, judged_by: Rules = RULES) -> Path:
    rollout = a_rollout(id=RolloutId(name), analysis=judged_by.to_json())
    case = CaseFile(rollout=rollout, recorded=(), entries=tuple(canary_pairs(1500, wrong=wrong)))
    path = folder / f"{name}.npz"
    path.write_bytes(b"".join(packed(case)))
    return path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["backtest", "--streams", "20", *arguments])


def test_a_folder_of_rollouts_is_judged_and_tried(tmp_path: Path) -> None:
    archive(tmp_path, "credit-2", wrong=0.02)
    archive(tmp_path, "credit-3", wrong=0.2)
    result = run(str(tmp_path), "--plot", str(tmp_path / "evidence.svg"))
    assert result.exit_code == 0, result.output
    for words in ("credit-2", "pass", "credit-3", "fail", "False alarms", "Not tried", "disagreement",
                  "smallest harm found", "accuracy", "+2.00 pp"):  # fmt: skip
        assert words in result.output
    assert "<svg" in (tmp_path / "evidence.svg").read_text()


def test_for_programs_it_is_json_and_the_same_seed_gives_the_same(tmp_path: Path) -> None:
    path = str(archive(tmp_path, "credit-2"))
    first, again = run(path, "-o", "json"), run(path, "-o", "json")
    assert first.output == again.output
    found = json.loads(first.output)
    assert found["evidence"][0]["decided"]["verdict"] == "pass"
    assert found["alike"]["rollback"]["trials"] == 20
    assert found["metrics"][0]["found"] > found["metrics"][0]["margin"] == pytest.approx(0.02)
    assert (found["left_out"], found["broken"]) == (["disagreement"], [])
    other = json.loads(run(path, "-o", "json", "--seed", "1").output)
    assert other["metrics"] != found["metrics"]


def test_another_policy_may_say_otherwise(tmp_path: Path) -> None:
    path = archive(tmp_path, "credit-3", wrong=0.2)
    policy = tmp_path / "lenient.yaml"
    policy.write_text("analysis:\n  warmup_pairs: 0\n  least_pairs: 100\n  horizon_pairs: 600\n  metrics:\n"
                      "    {accuracy: 40pp, errors: off, latency: off, disagreement: off}\n")  # fmt: skip
    result = run(str(path), "--policy", str(policy))
    assert result.exit_code == 0, result.output
    assert " pass " in result.output


def test_a_promise_that_does_not_hold_on_this_noise_leaves_with_1(tmp_path: Path) -> None:
    """One arm is slow for a second at a time, and the policy says that nothing lasts."""
    draw, n = np.random.default_rng(4), 6000
    burst = np.repeat(draw.normal(0.0, 0.5, n // 100), 100)
    table = pairs(n, canary_seconds=0.01 * np.exp(burst + draw.normal(0, 0.05, n)))
    hasty = rules(metric("latency", "+1%"), horizon_pairs=n, dependence_seconds=0.0, rate_per_second=100.0)
    case = CaseFile(rollout=a_rollout(analysis=hasty.to_json()), recorded=(), entries=(table,))
    path = tmp_path / "case.npz"
    path.write_bytes(b"".join(packed(case)))
    result = run(str(path), "--streams", "40")
    assert result.exit_code == 1, result.output
    assert "NOT KEPT  latency rolled back on its margin" in result.output


def test_a_metric_without_data_is_told_to_be_untried(tmp_path: Path) -> None:
    blind = rules(metric("accuracy", "20pp"), metric("loss", "0.5 loss"), horizon_pairs=400, rate_per_second=20.0)
    result = run(str(archive(tmp_path, "credit-2", judged_by=blind)))
    assert "No harm could be put into loss" in result.output


def test_rollouts_of_two_models_are_not_mixed(tmp_path: Path) -> None:
    archive(tmp_path, "credit-2")
    other = CaseFile(
        rollout=a_rollout(id=RolloutId("fraud-2"), model=ModelName("fraud"), analysis=RULES.to_json()),
        recorded=(),
        entries=(),
    )
    (tmp_path / "fraud-2.npz").write_bytes(b"".join(packed(other)))
    result = run(str(tmp_path))
    assert (result.exit_code, "rollouts of credit, fraud;" in result.output) == (2, True)


def test_too_few_pairs_are_no_data(tmp_path: Path) -> None:
    path = archive(tmp_path, "credit-2", judged_by=replace(RULES, warmup_pairs=1494))
    result = run(str(path))
    assert (result.exit_code, "no data: 6 pairs past the warm-up are too few" in result.output) == (3, True)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "give either rollouts or archives, or --stable EXPR and --canary EXPR"),
        (["x", "--prometheus", "http://p:9090"], "give either rollouts or archives"),
        (["--prometheus", "http://p:9090"], "needs both --stable EXPR and --canary EXPR"),
        (["--stable", "a", "--canary", "b"], "give --prometheus URL, or --config FILE with a prometheus: block"),
        (["."], "there is no .npz file in ."),
        (["gone.npz"], "there is no file gone.npz; haldane replay ROLLOUT --save gone.npz writes one"),
    ],
)
def test_wrong_arguments_say_what_would_be_right(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert (result.exit_code, says in result.output) == (2, True), result.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--margin", "10"], "--margin: margin '10' has no unit"),
        (["--margin", "-10%"], "would ask for an improvement"),
        (["--margin", "100%", "--worse", "lower"], "a drop of 100 % or more"),
        (["--last", "soon"], "--last: must be a duration"),
        (["--step", "0s"], "--step: "),
        (["--end", "yesterday"], "--end yesterday: write 2026-03-01T12:00:00Z"),
    ],
)
def test_a_window_that_cannot_be_read_says_why(arguments: list[str], says: str) -> None:
    result = run("--prometheus", "http://127.0.0.1:1", "--stable", "a", "--canary", "b", *arguments)
    assert (result.exit_code, says in result.output) == (2, True), result.output


def test_without_prometheus_it_leaves_with_4() -> None:
    result = run("--prometheus", "http://127.0.0.1:1", "--stable", "a", "--canary", "b")
    assert (result.exit_code, "prometheus: " in result.output) == (4, True)
