"""`haldane tap`: takes mirrored calls, for the agent and for files."""

from pathlib import Path

import click

from haldane.cli.exits import config_errors
from haldane.cli.run import leave_for


@click.command()
@click.argument("config", metavar="FILE", type=click.Path(path_type=Path))
def tap(config: Path) -> None:
    """Take calls that a proxy mirrors, answer them at once, and hand a share to the agent or into files.

    FILE is the agent's own config: its top-level `tap` says where to listen,
    `traffic.tap` and `traffic.record` of a model what share is used. It is a
    process of its own, so that no flood of calls can hold up the agent.

    \b
      haldane tap haldane.yaml

    Exit codes: 0 told to stop, 2 usage or config, 4 something could not be
    reached, 5 refused.
    """
    import asyncio

    from haldane.app.tap import run
    from haldane.config import load_config
    from haldane.ports import PortError
    from haldane.telemetry import set_up_logs

    set_up_logs()
    try:
        with config_errors():
            asyncio.run(run(load_config(config)))
    except KeyboardInterrupt:
        raise SystemExit(0) from None
    except (PortError, BaseExceptionGroup) as error:
        leave_for(error)
