"""`haldane release publish` and `sync`: a version into the storage, and from there to a server's disk."""

import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from haldane.cli.exits import USAGE, leave
from haldane.cli.shelf import failures, shelf_at, storage_option
from haldane.cli.validate import Trial, folder_of, leave_unless_fine, trial_options, tried

if TYPE_CHECKING:
    from haldane.release.shelf import Shelf
    from haldane.release.validate import Validation

_MOST_METADATA = 64 * 1024  # bytes; it is read whole and shown to people


@click.command("publish")
@click.argument("path")
@click.option("--model", required=True, help="The model's name; its versions lie in a folder of that name.")
@click.option("--to", "where", required=True, metavar="URI", help="Where models are kept: a path, file:// or s3://.")
@click.option("--metadata", type=click.Path(path_type=Path), help="YAML mapping to keep with it: owner, data version.")
@click.option("--mlflow-run", "run", metavar="ID", help="Keep what this MLflow run says: parameters, metrics, data.")
@click.option("--mlflow", "tracking", metavar="URL", envvar="MLFLOW_TRACKING_URI", show_envvar=True,
              help="Address of MLflow's tracking server.")  # fmt: skip
@click.option("--by", default=getpass.getuser, show_default="your user name", help="Who publishes.")
@click.option("--again", is_flag=True, help="Under a new number even if the newest version has the same files.")
@trial_options
def publish_(
    path: str,
    model: str,
    where: str,
    metadata: Path | None,
    run: str | None,
    tracking: str | None,
    by: str,
    again: bool,
    trial: Trial,
) -> None:
    """Validate the SavedModel at PATH and store it as the next version of --model.

    Prints the version's number, and nothing else, on stdout. Whoever looks
    meanwhile never sees half of it. Files that an earlier version has are not
    sent again. The same files again give the same number again.

    \b
      haldane release publish export/run-7 --model credit_risk --to s3://models
      haldane release publish export/run-7 --model credit_risk --to /models \\
          --metadata release.yaml --served 10.0.0.4:8500
      haldane release publish export/run-7 --model credit_risk --to /models \\
          --mlflow http://mlflow:5000 --mlflow-run 0af6b1c4e2

    Exit codes: as of `release validate`; 4 also when the storage or MLflow
    fails, 5 when what arrived is not what was validated, or the run is no good.
    """
    from datetime import UTC, datetime

    from haldane.release.publish import Origin, already, publish

    with failures():
        notes = _notes(metadata, run, tracking)
        shelf = shelf_at(where, model)
        found, served = tried(path, trial, model.rpartition("/")[2], err=True)  # Serving knows no namespaces
        leave_unless_fine(path, found)
        assert found.manifest is not None
        if not again and (same := already(shelf, found.manifest)):
            click.echo(f"version {same.version} has exactly these files already", err=True)
            click.echo(same.version)
            return
        _beside(shelf, found, served)
        checks = {check.name: check.detail for check in found.checks}
        origin = Origin(by, datetime.now(UTC), checks, notes, found.answers, found.profile)
        made = publish(folder_of(path), found.manifest, shelf, origin)
    click.echo(f"published {model} {made.version} ({made.size_bytes:,} bytes) to {where}", err=True)
    click.echo(made.version)


def _beside(shelf: "Shelf", found: "Validation", served: int | None) -> None:
    """Tells the latency under load beside that of the version `served`, None: the newest in the storage."""
    from haldane.judge.profile import beside
    from haldane.ports import PortError

    load = found.profile and found.profile.under_load
    version = next(iter(shelf.published()), None) if served is None else served
    if not load or version is None:
        return
    try:
        told = beside(load, version, shelf.release(version).profile)
    except PortError:  # nobody published it, or its record cannot be read: nothing to compare with
        return
    if told:
        click.echo(told, err=True)


@click.command("sync")
@storage_option
@click.option("--model", required=True, help="The model's name.")
@click.option("--to", "disk", required=True, type=click.Path(path_type=Path), help="Where the server's models lie.")
@click.option("--version", "versions", type=int, multiple=True, help="Which; may be repeated.  [default: the newest]")
def sync_(where: str, model: str, disk: Path, versions: tuple[int, ...]) -> None:
    """Bring a published version from the storage to a server's disk.

    Stock Serving cannot read s3://. Every file is checked against the manifest
    before the version is renamed into place; one that is there is only checked.

    \b
      haldane release sync --from s3://models --model credit_risk --to /models
      haldane release sync --from s3://models --model credit_risk --to /models --version 4

    Exit codes: 0 it is there, 2 usage, 4 the storage or the disk fails, 5 what
    is stored or lies there is not what was published.
    """
    from haldane.release.publish import sync
    from haldane.release.storage import Disk

    with failures():
        shelf = shelf_at(where, model)
        for version in versions or [shelf.newest()]:
            arrived = sync(shelf, Disk(disk), version)
            click.echo(f"{model} {version} {'is now' if arrived else 'was already'} in {disk}")


def _notes(metadata: Path | None, run: str | None, tracking: str | None) -> dict[str, Any]:
    """What is to be kept with the release; the publisher's own words count more than MLflow's."""
    import json

    notes = _metadata(metadata) if metadata else {}
    if run is not None:
        from haldane.adapters.mlflow import run_notes

        if tracking is None:
            leave(USAGE, "--mlflow-run wants the tracking server's address: --mlflow URL, or MLFLOW_TRACKING_URI")
        notes = {"mlflow": run_notes(tracking, run)} | notes
    if len(json.dumps(notes)) > _MOST_METADATA:
        leave(USAGE, f"what is to be kept with it is larger than {_MOST_METADATA:,} bytes; name a place where it lies")
    return notes


def _metadata(path: Path) -> dict[str, Any]:
    """The publisher's own notes; exit code 2 when they are no YAML mapping of plain values."""
    import json

    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        found = yaml.safe_load(text)
        json.dumps(found, allow_nan=False)  # so that every reader of a record, in any language, can hold it
    except OSError as error:
        leave(USAGE, f"--metadata {path}: {error.strerror}")
    except UnicodeDecodeError:
        leave(USAGE, f"--metadata {path}: is not UTF-8 text")
    except (yaml.YAMLError, TypeError, ValueError) as error:
        leave(USAGE, f"--metadata {path}: {error}", 'Dates want quotes: data_version: "2026-10-31"')
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        leave(USAGE, f"--metadata {path}: wants a mapping of names to values, as in  owner: risk-team")
    return found
