"""`haldane sandbox` and `haldane demo`: the real job without a real server."""

import os
import sys
from pathlib import Path

import click

from haldane.cli.exits import USAGE, leave

_EXTRA = "it needs TensorFlow: pip install 'haldane[{extra}]'"


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def sandbox(arguments: tuple[str, ...]) -> None:
    """A TensorFlow-Serving-compatible server, with the real server's flags.

    \b
      haldane sandbox --port=8500 --rest_api_port=8501 --model_config_file=models.config
    """
    try:
        from haldane.sandbox.server import main as serve
    except ModuleNotFoundError as error:
        leave(USAGE, f"sandbox: {error.name} is not installed; " + _EXTRA.format(extra="sandbox"))
    status = serve(list(arguments))
    sys.stdout.flush()
    os._exit(status)  # loader and gRPC threads may be busy, and a real server's exit waits for none of them


@click.command()
@click.option("--seed", type=int, help="Repeat the run of that seed.  [default: a fresh one, printed]")
@click.option("--json", "json_file", metavar="FILE", type=click.Path(path_type=Path), help="Write the table as JSON.")
@click.option("--report", metavar="FILE", type=click.Path(path_type=Path), help="Where the HTML report goes.")
@click.option("--keep", is_flag=True, help="Leave everything running, to explore.")
@click.option(
    "--with-prometheus",
    is_flag=True,
    help="Run a real Prometheus with rules/ beside it, and leave everything running.",
)
def demo(seed: int | None, json_file: Path | None, report: Path | None, keep: bool, with_prometheus: bool) -> None:
    """Watch Haldane judge five canaries on real models, in one to two minutes.

    \b
      haldane demo
      haldane demo --seed 7 --json table.json --report report.html
      haldane demo --keep
      haldane demo --with-prometheus

    Exit codes: 0 every verdict was right, 1 one was not, 2 something is not
    installed, 4 a server or the agent could not be started.
    """
    try:
        from haldane.demo import main as show
    except ModuleNotFoundError as error:
        leave(USAGE, f"demo: {error.name} is not installed; " + _EXTRA.format(extra="demo"))
    raise SystemExit(show(seed=seed, json_file=json_file, report=report, keep=keep, prometheus=with_prometheus))
