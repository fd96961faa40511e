"""A base install has no TensorFlow: the sandbox says so at once, and the toy executor runs all the same."""

import subprocess
import sys
from pathlib import Path

RUN = """
import importlib.util, sys
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "tensorflow" else found(name, *rest)
from haldane.sandbox.server import main
sys.exit(main(sys.argv[1:]))
"""


def test_the_sandbox_without_tensorflow_says_what_to_install(tmp_path: Path) -> None:
    arguments = [
        "--port=0",
        "--grpc_socket_path=" + str(tmp_path / "s"),
        "--model_name=m",
        f"--model_base_path={tmp_path}",
    ]
    done = subprocess.run(
        [sys.executable, "-c", RUN, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 255
    assert "haldane[sandbox]" in done.stderr + done.stdout
    assert "--executor=toy" in done.stderr + done.stdout
