"""Log lines as TensorFlow writes them, to standard error.

    2026-01-31 12:00:00.123456: E haldane/sandbox/manager.py:42] text

People and tools that read a model server's log find what they expect.
"""

import os
import sys
from datetime import datetime
from pathlib import Path
from typing import NoReturn


def _write(severity: str, text: str) -> None:
    frame = sys._getframe(2)
    where = f"haldane/sandbox/{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
    stamp = datetime.now().strftime("%Y-%m-%d %H:%M:%S.%f")
    sys.stderr.write(f"{stamp}: {severity} {where}] {text}\n")
    sys.stderr.flush()


def info(text: str) -> None:
    _write("I", text)


def warning(text: str) -> None:
    _write("W", text)


def error(text: str) -> None:
    _write("E", text)


def fatal(text: str) -> NoReturn:
    """Say why, then die by SIGABRT, as a failed CHECK does."""
    _write("F", text)
    os.abort()
