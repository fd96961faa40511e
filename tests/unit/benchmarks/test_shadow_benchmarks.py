"""The benchmarks of shadowing run, and say what they were asked."""

import subprocess
import sys

import pytest


def run(root, script, *words):
    command = [sys.executable, root / "benchmarks" / script, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=250, cwd=root)


def test_shadow_compares_the_product_with_a_bare_loop_and_h2load(root, need_binary):
    need_binary("nginx")
    need_binary("h2load")
    done = run(root, "shadow.py", "--calls", "2000", "--rounds", "1")
    if "a call failed; nothing is measured here" in done.stderr:  # beside all other tests one may come too late
        done = run(root, "shadow.py", "--calls", "2000", "--rounds", "1")
    assert done.returncode == 0, done.stderr
    for side in ("h2load, one connection", "bare `grpc.aio` loop", "Haldane, one process", "Haldane, two processes"):
        assert f"| {side} |" in done.stdout
    assert "| an HTTP/2 client of 100 lines" in done.stdout


def test_tensors_has_a_row_for_each_size(root):
    done = run(root, "tensors.py", "--rounds", "1")
    assert done.returncode == 0, done.stderr
    assert "| 50,000 |" in done.stdout


def test_added_latency_is_shown_with_its_interval(root):
    done = run(root, "added_latency.py", "--blocks", "2", "--seconds", "1", "--rate", "50")
    assert done.returncode == 0, done.stderr
    assert "| 50 | 5 | 2 x 2 |" in done.stdout


def test_two_workers_are_measured_beside_this_process(root, need_binary):
    need_binary("nginx")
    done = run(root, "spread.py", "--rounds", "1", "--seconds", "1")
    assert done.returncode == 0, done.stderr
    assert [line.split(" | ")[0] for line in done.stdout.splitlines()[-3:]] == [
        "| this process", "| one worker", "| two workers",
    ]  # fmt: skip


def test_past_the_socket_no_pair_is_lost(root):
    done = run(root, "soak.py", "past", "--pairs", "5000")
    assert "| not accounted for | 0 |" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("script", "words", "says"),
    [
        ("shadow.py", ["--rounds", "0"], "must be at least 1"),
        ("added_latency.py", ["--blocks", "1"], "must be at least 2"),
        ("tensors.py", ["--rounds", "0"], "must be at least 1"),
        ("spread.py", ["--rounds", "0"], "must be at least 1"),
        ("soak.py", ["wire", "--seconds", "0"], "must be positive"),
    ],
)
def test_a_number_that_makes_no_sense_is_refused(root, script, words, says, need_binary):
    if script == "shadow.py":
        need_binary("h2load")
    done = run(root, script, *words)
    assert done.returncode == 2
    assert says in done.stderr
