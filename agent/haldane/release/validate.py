"""Whether a version may be released: every check in turn, up to the trial in a process of its own.

Owns the order of the checks and what the trial's lines mean. A check that could
not be made is "untried", never "ok".
"""

import base64
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

from haldane.domain.release import Profile, UnderLoad
from haldane.judge.profile import with_callers
from haldane.release.answers import Answered
from haldane.release.graph import TAG, broken_promises, check_graph, operations, read_graph, signatures_in
from haldane.release.manifest import Manifest, NotReleasable, listing, manifest
from haldane.tensors import Signature

_GRACE_SECONDS = 5
Result = Literal["ok", "refused", "untried"]


@dataclass(frozen=True, slots=True)
class Check:
    """What came of one check: its name, whether the version passed, and a sentence."""

    name: str
    result: Result
    detail: str


@dataclass(frozen=True, slots=True)
class Limits:
    """What a version may use: bytes on disk, and bytes of memory and seconds in its trial.

    `under_load`: for how many of these seconds it is called by many at once.
    """

    size: int = 10 * 2**30
    memory: int = 4 * 2**30
    seconds: float = 120.0
    frozen: bool = False  # a model without variables is meant
    network: bool = False  # the trial may go on where the network cannot be taken from it
    under_load: float = 1.5


@dataclass(frozen=True, slots=True)
class Validation:
    """All checks that were made, in their order, and the manifest once every file was read."""

    checks: tuple[Check, ...]
    manifest: Manifest | None
    answers: tuple[Answered, ...] = ()  # to the golden and the made-up requests that it always answers alike
    profile: Profile | None = None  # None where it was not loaded

    @property
    def result(self) -> Result:
        """The worst of all checks: refused before untried before ok."""
        results = {check.result for check in self.checks}
        return "refused" if "refused" in results else "untried" if "untried" in results else "ok"


def validate(
    folder: Path,
    *,
    served: Mapping[str, Signature] | None = None,
    golden: Sequence[bytes] = (),
    limits: Limits = Limits(),
) -> Validation:
    """Every check of the version directory `folder`, up to the first that is refused before the trial.

    `served` are the signatures that clients use today, None when nothing is
    compared; `golden` are serialized PredictRequests.
    """
    checks: list[Check] = []
    found = None
    try:
        files = listing(folder, most_bytes=limits.size)
        graph = read_graph(folder)
        check_graph(graph, folder, frozen=limits.frozen)
        signatures = signatures_in(graph)
        found = manifest(folder, files)
        checks.append(Check("files", "ok", f"{len(files)} files, {found.size:,} bytes, SHA-256 {found.digest}"))
        checks.append(Check("signatures", "ok", ", ".join(sorted(signatures))))
    except NotReleasable as error:
        return Validation((*checks, Check(error.check, "refused", str(error))), found)
    except OSError as error:
        return Validation((*checks, Check("files", "refused", f"{error.filename}: {error.strerror}")), found)
    if served is not None:
        broken = list(broken_promises(served, signatures))
        checks.append(Check("served", "refused" if broken else "ok", "; ".join(broken) or "as the version now served"))
    lines, ended = _trial(folder, sorted(operations(graph)), golden, limits)
    checks += told(lines, ended, golden=len(golden))
    return Validation(tuple(checks), found, tuple(_answers(lines)), profile_of(lines))


def profile_of(lines: Sequence[Mapping[str, Any]]) -> Profile | None:
    """What the trial's lines say that the version took; None where it was not loaded."""
    loaded = next((line for line in lines if line["step"] == "loaded"), None)
    calls = [line["seconds"] for line in lines if line["step"] == "again"]
    if loaded is None:
        return None
    many = next((_load(line) for line in lines if line["step"] == "under_load"), None)
    return Profile(loaded["seconds"], loaded["bytes"], median(calls) if calls else None, many)


def _load(line: Mapping[str, Any]) -> UnderLoad:
    return UnderLoad(**{key: value for key, value in line.items() if key != "step"})


def _answers(lines: Sequence[Mapping[str, Any]]) -> Iterator[Answered]:
    for line in lines:
        if line["step"] == "recorded":
            yield Answered(base64.b64decode(line["request"]), base64.b64decode(line["answer"]))


def _trial(
    folder: Path, used: list[str], golden: Sequence[bytes], limits: Limits
) -> tuple[Sequence[Mapping[str, Any]], str]:
    """Loads and runs it in another process: the lines it told, and how it ended."""
    asked = {
        "folder": str(folder.resolve()),
        "tag": TAG,
        "operations": used,
        "memory": limits.memory,
        "alarm": math.ceil(limits.seconds) + _GRACE_SECONDS,
        "network": limits.network,
        "under_load": limits.under_load,
        "golden": [base64.b64encode(body).decode() for body in golden],
    }
    with tempfile.TemporaryDirectory(prefix="haldane-trial-") as home:
        command = [sys.executable, "-m", "haldane.release.trial"]
        process = subprocess.Popen(
            command,
            cwd=home,
            env=_environment(home),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            out, errors = process.communicate(json.dumps(asked), timeout=limits.seconds)
            ended = _ending(process.returncode, errors, limits)
        except subprocess.TimeoutExpired:
            process.kill()
            out, _ = process.communicate()
            ended = f"it did not end within {limits.seconds:g} s; see --timeout"
    whole = out.rpartition("\n")[0].splitlines()  # the last line may have been cut when the process was
    return [json.loads(line) for line in whole], ended


def _environment(home: str) -> dict[str, str]:
    """What the trial may know: where Python is, and nothing of ours, credentials least of all."""
    passed = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH") if name in os.environ}
    return passed | {"HOME": home, "TMPDIR": home, "CUDA_VISIBLE_DEVICES": "-1", "PYTHONDONTWRITEBYTECODE": "1"}


def _ending(code: int, errors: str, limits: Limits) -> str:
    """Why the process ended before it was done, as far as can be seen."""
    if "MemoryError" in errors or "bad_alloc" in errors or "Cannot allocate memory" in errors:
        return f"it needs more than {limits.memory:,} bytes of memory; see --memory"
    last = errors.strip().splitlines()[-1][:300] if errors.strip() else "it said nothing"
    if code < 0:
        return (
            f"its process died of signal {-code}, as when memory is refused (--memory, {limits.memory:,} bytes): {last}"
        )
    return last


def told(lines: Sequence[Mapping[str, Any]], ended: str, *, golden: int) -> Iterator[Check]:
    """The checks that the trial's lines stand for; `ended` says how its process ended, `golden` counts requests."""
    steps = {line["step"]: line for line in lines}
    if "no_tensorflow" in steps:
        yield Check("load", "untried", f"{steps['no_tensorflow']['why']}; install haldane[sandbox]")
        return
    if "connected" in steps:
        why = f"the network cannot be taken from the trial ({steps['connected']['why']})"
        yield Check("network", "untried", f"{why}, so nothing was run; to run it all the same: --allow-network")
        return
    if "unknown_operations" in steps:
        names = ", ".join(steps["unknown_operations"]["operations"])
        yield Check("operations", "refused", f"custom operations, which Serving does not know: {names}")
        return
    if "loaded" not in steps:
        # Before "loading" the model was not touched: what failed is our side.
        yield Check("load", "refused" if "loading" in steps else "untried", ended)
        return
    loaded = steps["loaded"]
    took = f"in {loaded['seconds']:.3g} s, which adds {loaded['bytes']:,} bytes of memory"
    yield Check("load", "ok", f"loads, with its variables, under the tag {TAG}, {took}")
    yield from _runs(lines, golden)
    if "under_load" in steps:
        yield Check("under load", "ok", f"{with_callers(_load(steps['under_load']))}; on this machine, without Serving")
    if "overloaded" in steps:
        yield Check("under load", "refused", f"called by many at once: {steps['overloaded']['why']}")
    if "done" not in steps:
        yield Check("run", "refused", ended)


def _runs(lines: Sequence[Mapping[str, Any]], golden: int) -> Iterator[Check]:
    """One check for all golden requests, one for each signature that was run on made-up input."""
    runs = [line for line in lines if "signature" in line]
    wrong = [line for line in runs if line["row"] >= 0 and line["step"] != "ran"]
    if golden:
        first = f"{len(wrong)} of {golden:,}; request {wrong[0]['row']}: {_why(wrong[0])}" if wrong else ""
        yield Check("golden", "refused" if wrong else "ok", first or f"{golden:,} requests give finite answers")
    shown = {line["signature"] for line in runs if line["row"] >= 0 and line["step"] == "ran"}
    for line in runs:
        if line["row"] >= 0:
            continue
        name = f"run {line['signature']}"
        if line["step"] == "ran":
            yield Check(name, "ok", "made-up input gives finite answers")
        elif line["step"] in ("not_finite", "exhausted"):
            yield Check(name, "refused", f"on made-up input: {_why(line)}")
        elif line["signature"] in shown:
            yield Check(name, "ok", "golden requests are answered; made-up input does not suit it")
        else:
            yield Check(name, "untried", f"made-up input does not suit it ({_why(line)}); give --golden")


def _why(line: Mapping[str, Any]) -> str:
    if line["step"] == "not_finite":
        return f"NaN or infinity in {', '.join(line['outputs'])}"
    if line["step"] == "exhausted":
        return "it needs more memory than it may have; see --memory"
    return f"{line['signature']}: {line['why']}"
