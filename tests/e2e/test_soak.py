"""The short form of `make soak`: a kill and a slow server among others, and every pair accounted for."""

import subprocess
import sys


def test_half_a_minute_on_the_wire_with_faults_loses_no_pair(root):
    command = [sys.executable, root / "benchmarks" / "soak.py", "wire", "--seconds", "30"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200, cwd=root)
    assert "| not accounted for | 0 |" in done.stdout, done.stderr
    assert "killed 1x" in done.stdout
    assert "| set aside: invalid |" in done.stdout
