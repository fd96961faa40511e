"""Where a command gets recorded evidence from: a running agent, its store, or a file."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from haldane.cli.connection import Connection
from haldane.cli.exits import INFRASTRUCTURE, USAGE, config_errors, leave

if TYPE_CHECKING:
    from haldane.judge.replay import CaseFile
    from haldane.judge.rules import Rules


def case_from_file(path: Path) -> "CaseFile":
    """The case file at that path; leaves with the right exit code when there is none."""
    from haldane.adapters.archive import unpacked
    from haldane.ports import PortError, Unavailable

    try:
        return unpacked(path)
    except PortError as error:
        leave(INFRASTRUCTURE if isinstance(error, Unavailable) else USAGE, str(error))


def case_of_rollout(connection: Connection, rollout: str, *, save: Path | None = None) -> "CaseFile":
    """The rollout's case file from the agent, or from its store where the agent does not run and its config is known.

    `save` keeps the archive; leaves with the right exit code when there is none.
    """
    if save is not None and save.exists():
        leave(USAGE, f"{save} is there already; give another name")
    if save is not None and not save.absolute().parent.is_dir():
        leave(USAGE, f"there is no folder {save.absolute().parent} to write {save.name} in")
    with tempfile.TemporaryDirectory(dir=None if save is None else save.absolute().parent) as folder:
        path = Path(folder) / "case.npz"
        _fetch(connection, rollout, path)
        case = case_from_file(path)
        if save is not None:
            path.rename(save)
    return case


def _fetch(connection: Connection, rollout: str, path: Path) -> None:
    from urllib.parse import quote

    silence = connection.download(f"/v1/rollouts/{quote(rollout, safe='')}/evidence", path)
    if not silence:
        return
    if connection.config is None:
        leave(INFRASTRUCTURE, silence, "With --config FILE of the agent its store is read instead.")
    click.echo(f"note: {silence} Its store is read instead.", err=True)
    _from_store(connection.config, rollout, path)


def _from_store(config: Path, rollout: str, path: Path) -> None:
    from haldane.adapters.archive import case_of, packed
    from haldane.adapters.sql import open_store
    from haldane.config import load_config
    from haldane.domain.rollout import RolloutId
    from haldane.ports import PortError

    with config_errors():
        settings = load_config(config)
    try:
        store = open_store(settings.store_url.get_secret_value(), new=False)
        try:
            found = store.rollout(RolloutId(rollout))
            if found is None:
                known = ", ".join(one.id for one in store.rollouts(5)) or "none"
                leave(USAGE, f"there is no rollout {rollout!r} in the store; the newest are: {known}")
            with path.open("wb") as file:
                file.writelines(packed(case_of(store, found[0])))
        finally:
            store.close()
    except PortError as error:
        leave(INFRASTRUCTURE, str(error))


def rules_of_file(path: Path, *, model: str, rate_per_second: float) -> "Rules":
    """The rules in that file: `rules.json` of an archive, or a config with an `analysis:` block.

    The rate, of which blocks of latency are made, is of the evidence. Leaves
    with all mistakes when the rules are not right.
    """
    from haldane.config import load_analysis
    from haldane.judge.rules import Rules

    if path.suffix == ".json":
        try:
            return Rules.from_json(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            leave(USAGE, f"{path}: {error.strerror if isinstance(error, OSError) else error}")
    with config_errors():
        return load_analysis(path, model).rules(rate_per_second=rate_per_second)
