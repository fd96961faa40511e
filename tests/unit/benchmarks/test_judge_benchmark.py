"""The commands, end to end, with few trials: they measure, write their page, keep their results."""

import json
import os
import subprocess
import sys

import pytest

PAGE = "# Before\n\n<!-- judge trials: begin -->\nyesterday\n<!-- judge trials: end -->\n\nAfter.\n"


def benchmark(root, *words, script="judge.py"):
    environment = {**os.environ, "PYTHONPATH": str(root / "agent"), "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, root / "benchmarks" / script, *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=200, cwd=root)


def test_it_judges_beside_the_other_rules_and_writes_its_page(root, tmp_path):
    page, kept = tmp_path / "page.md", tmp_path / "build" / "kept.json"
    page.write_text(PAGE)
    words = ("--trials", "6", "--only", "acc+5-b02", "--only", "acc-edge-b02", "--json", kept, "--table", page)
    done = benchmark(root, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every goal is met" in done.stdout
    text = page.read_text()
    assert text.startswith("# Before\n") and text.endswith("After.\n") and "yesterday" not in text
    assert "| `acc-edge-b02-m1` | 6 | 0.00% | 1% | 0.00% | 5% |" in text
    assert "`naive_peek` gives the right verdict on fewer pairs" in text
    assert {row["judge"] for row in json.loads(kept.read_text())} > {"kayenta_rerun", "wald_oracle"}


def test_rows_run_again_replace_those_kept(root, tmp_path):
    kept = tmp_path / "kept.json"
    for only, trials in (("acc+5-b02", "2"), ("acc+5-b10", "2"), ("acc+5-b02", "3")):
        benchmark(root, "--trials", trials, "--only", only, "--no-baselines", "--json", kept)
    rows = {row["scenario"]: row["trials"] for row in json.loads(kept.read_text())}
    assert rows == {"acc+5-b02-m1": 3, "acc+5-b10-m1": 2}


def test_a_judge_that_errs_exits_1_and_says_where(root):
    done = benchmark(root, "--trials", "10", "--only", "err-edge-m5e-4", "--judge", "naive_peek", "--no-baselines")
    assert done.returncode == 1
    assert "err-edge-m5e-4, seed 0: false promotion" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--only", "nothing-like-it"], "there are: acc-aa-b02-m1"),
        (["--trials", "0"], "--trials must be at least 1, got 0"),
        (["--judge", "no_such_module:judge"], "give module:factory, or one of kayenta_end"),
        (["--table", "README.md"], "README.md: expected the lines <!-- judge trials: begin -->"),
    ],
)
def test_wrong_usage_is_said_before_anything_runs(root, words, said):
    done = benchmark(root, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in " ".join(done.stderr.split())


def test_cost_is_measured_for_each_kind_of_evidence_beside_a_plain_mean(root, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("<!-- judge cost: begin -->\n<!-- judge cost: end -->\n")
    done = benchmark(root, "--batches", "3", "--table", page, script="judge_cost.py")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split(" | ") for line in page.read_text().splitlines() if line.startswith("| ")][2:]
    assert len(rows) == 18
    assert all(float(row[2]) > 0 and int(row[5].replace(",", "")) > 100 for row in rows)


def test_slices_are_measured_and_written(root, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("<!-- slices: begin -->\n<!-- slices: end -->\n")
    done = benchmark(root, "--trials", "1", "--slices", "0", "--slices", "4", "--table", page, script="slices.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| 4 | 10 | 0.0% |" in page.read_text()


def test_what_answers_show_is_tried_on_its_margins(root, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# Before\n<!-- answers: begin -->\n<!-- answers: end -->\nAfter.\n")
    done = benchmark(root, "--trials", "2", "--table", page, script="answers.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| drift of a constant | 2 | 0.00% | 1% |" in page.read_text()
