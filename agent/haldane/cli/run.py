"""`haldane run`: the agent itself."""

from pathlib import Path
from typing import NoReturn

import click

from haldane.cli.exits import INFRASTRUCTURE, REFUSED, USAGE, config_errors, leave


@click.command()
@click.option("--config", metavar="FILE", type=click.Path(path_type=Path), help="The config file.")
@click.option("--server", metavar="HOST:PORT", help="Watch this one server without a config; touches nothing.")
@click.option("--metrics-url", metavar="URL", help="Its metrics page, with --server; by default on the next port.")
@click.option("--mode", type=click.Choice(["observe", "enforce"]), help="Replaces the config's mode.")
def run(config: Path | None, server: str | None, metrics_url: str | None, mode: str | None) -> None:
    """Run the agent until it is told to stop.

    In observe mode (the default) it watches, judges and recommends; in enforce
    mode it also loads, labels and withdraws versions. Started again after any
    end, it goes on from what is stored and seen.

    \b
      haldane run --config haldane.yaml
      haldane run --config haldane.yaml --mode observe
      haldane run --server 127.0.0.1:8500
    """
    if (config is None) == (server is None):
        leave(USAGE, "give either --config FILE or --server HOST:PORT, see haldane run --help")
    import asyncio

    from haldane.config import load_config, zero_config
    from haldane.domain.rollout import Mode
    from haldane.ports import PortError
    from haldane.serving.modelconfig import parse

    if server is not None and mode == "enforce":
        leave(REFUSED, "enforce needs a config: without it the agent does not know which models a server should have")
    with config_errors():
        if config is not None:
            chosen = Mode(mode) if mode else None
            settings = load_config(config, parse_models=lambda text, source: parse(text, source=source), mode=chosen)
        else:
            settings = zero_config(str(server), metrics_url)
    from haldane.app.process import run as run_agent
    from haldane.telemetry import set_up_logs

    set_up_logs()
    try:
        asyncio.run(run_agent(settings))
    except KeyboardInterrupt:
        raise SystemExit(0) from None
    except (PortError, BaseExceptionGroup) as error:
        leave_for(error)


def leave_for(error: BaseException) -> NoReturn:
    """Say why a process of ours cannot go on and exit; a bug is raised again, to keep its traceback."""
    from haldane.ports import PortError, Refused

    expected = [one for one in flat(error) if isinstance(one, PortError)]
    if len(expected) != len(flat(error)):
        raise error
    code = REFUSED if any(isinstance(one, Refused) for one in expected) else INFRASTRUCTURE
    leave(code, *map(str, expected))


def flat(error: BaseException) -> list[BaseException]:
    """The single errors of an error or of nested groups."""
    if isinstance(error, BaseExceptionGroup):
        return [one for inner in error.exceptions for one in flat(inner)]
    return [error]
