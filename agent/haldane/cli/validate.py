"""`haldane release validate`: may a version be served."""

import asyncio
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from haldane.cli.exits import FAIL, INCONCLUSIVE, INFRASTRUCTURE, USAGE, leave

if TYPE_CHECKING:
    from haldane.release.validate import Validation
    from haldane.tensors import Signature

_GIB = 2**30


@dataclass(frozen=True, slots=True)
class Trial:
    """What a version is tried with, as the options say it; sizes in GiB, time in seconds."""

    golden: Path | None
    served: str | None
    junit: Path | None
    max_size: float
    memory: float
    timeout: float
    frozen: bool
    allow_network: bool


def trial_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options that say how a version is tried; the command takes `trial`."""

    @click.option("--golden", type=click.Path(path_type=Path), help="PredictionLog file (TFRecord) to run it on.")
    @click.option("--served", metavar="HOST:PORT", help="gRPC address of a server whose signatures of the model it"
                  " must keep: those of its label stable, or of its highest version.")  # fmt: skip
    @click.option("--junit", type=click.Path(path_type=Path), help="Write the checks as JUnit XML here.")
    @click.option("--max-size", type=click.FloatRange(min=0, min_open=True), default=10, show_default=True,
                  help="Largest directory, GiB.")  # fmt: skip
    @click.option("--memory", type=click.FloatRange(min=0.5), default=4, show_default=True, help="Of the trial, GiB.")
    @click.option("--timeout", type=click.FloatRange(min=0, min_open=True), default=120, show_default=True,
                  help="Of the trial, seconds.")  # fmt: skip
    @click.option("--frozen", is_flag=True, help="The model has no variables, and that is meant.")
    @click.option("--allow-network", is_flag=True, help="Run it even where the network cannot be taken from it.")
    @functools.wraps(command)
    def with_trial(
        golden: Path | None,
        served: str | None,
        junit: Path | None,
        max_size: float,
        memory: float,
        timeout: float,
        frozen: bool,
        allow_network: bool,
        **more: Any,
    ) -> Any:
        trial = Trial(golden, served, junit, max_size, memory, timeout, frozen, allow_network)
        return command(trial=trial, **more)

    return with_trial


@click.command("validate")
@click.argument("path")
@click.option("--model", help="With --served: the model's name there.")
@click.option("--manifest", type=click.Path(path_type=Path), help="Write the SHA-256 of every file here.")
@trial_options
def validate_(path: str, model: str | None, manifest: Path | None, trial: Trial) -> None:
    """May the SavedModel at PATH (one version's directory, or a file:// URI) be released?

    Looks at its files, size, graph and signatures, then loads and runs it in
    a process of its own, with limited time and memory and without network.
    That needs TensorFlow: pip install haldane[sandbox].

    \b
      haldane release validate export/4
      haldane release validate export/4 --junit validate.xml --manifest 4.sha256
      haldane release validate export/4 --golden requests.tfrecord
      haldane release validate export/4 --served 10.0.0.4:8500 --model credit_risk

    Exit codes: 0 fine, 1 refused, 2 usage, 3 something could not be tried,
    4 the server could not be asked.
    """
    if (trial.served is None) != (model is None):
        leave(USAGE, "--served and --model belong together: the address of a server, and the model's name there")
    found, _ = tried(path, trial, model)
    if manifest and found.manifest:
        _write(manifest, found.manifest.text)
    leave_unless_fine(path, found)
    click.echo(f"{path} may be released")


def tried(path: str, trial: Trial, model: str | None, *, err: bool = False) -> "tuple[Validation, int | None]":
    """Every check of the version at `path`, each told (`err`: on stderr); exit code 2 or 4 when it cannot begin.

    Also the version that was served where the trial says to look. `model`: its name there.
    """
    from haldane.release.junit import junit as xml
    from haldane.release.validate import Limits, validate

    folder = folder_of(path)
    requests = _requests(trial.golden) if trial.golden else []
    served, promised = asyncio.run(_promised(trial.served, model)) if trial.served and model else (None, None)
    limits = Limits(
        int(trial.max_size * _GIB), int(trial.memory * _GIB), trial.timeout, trial.frozen, trial.allow_network
    )
    found = validate(folder, served=promised, golden=requests, limits=limits)
    for check in found.checks:
        word = {"ok": "ok", "refused": "NO", "untried": "??"}[check.result]
        click.echo(f"{word}  {check.name}: {check.detail}", err=check.result != "ok" or err)
    if trial.junit:
        _write(trial.junit, xml(f"haldane release validate {path}", found))
    return found, served


def leave_unless_fine(path: str, found: "Validation") -> None:
    """Exit code 1 when something was refused, 3 when something could not be tried."""
    if found.result == "refused":
        leave(FAIL, f"{path} must not be released")
    if found.result == "untried":
        leave(INCONCLUSIVE, f"not everything could be tried, so nothing is said for {path}")


def folder_of(path: str) -> Path:
    """The directory that a path or a file:// URI names; exit code 2 when there is none."""
    from urllib.parse import unquote, urlsplit

    folder = Path(path)
    if "://" in path:
        parts = urlsplit(path)
        if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
            leave(USAGE, f"{path}: only a directory or a file:// URI can be read; copy the version here first")
        folder = Path(unquote(parts.path))
    if not folder.is_dir():
        leave(USAGE, f"{path} is not a directory; give the directory of one version, as in export/4")
    return folder


def _requests(file: Path) -> list[bytes]:
    """The Predict requests of a file; exit code 2, with file and record, for anything else."""
    from haldane.domain.traffic import Api
    from haldane.ports import Malformed, PortError
    from haldane.serving.records import read_prediction_logs

    bodies = []
    try:
        for request in read_prediction_logs(file):
            if isinstance(request, Malformed):
                raise request
            if request.api is not Api.PREDICT:
                leave(USAGE, f"--golden {file}: {request.id} is a {request.api} request; only Predict can be tried")
            bodies.append(request.body)
    except (PortError, OSError) as error:
        leave(USAGE, f"--golden {file}: {error}")
    if not bodies:
        leave(USAGE, f"--golden {file} holds no request")
    return bodies


async def _promised(address: str, model: str) -> "tuple[int | None, Mapping[str, Signature]]":
    """What clients use today: the version labelled stable, or else the highest; exit code 4 without an answer."""
    from haldane.domain.fleet import ModelName, Server, ServerName
    from haldane.ports import PortError
    from haldane.rollout.wanted import STABLE
    from haldane.serving.client import open_client

    try:
        async with open_client(Server(ServerName(address), address)) as client:
            name = ModelName(model)
            seen = (await client.look({name: (STABLE,)}, {})).models[name]
            stable = seen.labels.get(STABLE)
            version = max(seen.loaded, default=None) if stable is None else stable
            return version, await client.signatures(name, version)
    except PortError as error:
        leave(INFRASTRUCTURE, f"--served: {error}; is the address right, and the server up?")


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except OSError as error:
        leave(USAGE, f"{path} cannot be written: {error.strerror}")
