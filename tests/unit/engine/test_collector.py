import gc
import subprocess
import sys

PROGRAM = """
import gc
from haldane.engine.collector import quieten
quieten()
print(gc.get_freeze_count() > 0, gc.get_threshold()[0])
"""


def test_what_is_loaded_is_not_looked_at_again_and_what_is_new_only_seldom():
    """In a process of its own: it is for good."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    frozen, threshold = done.stdout.split()
    assert frozen == "True"
    assert int(threshold) > 10 * gc.get_threshold()[0]
