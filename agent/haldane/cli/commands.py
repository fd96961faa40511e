"""`haldane`: the commands put together."""

import traceback
from typing import Any

import click

from haldane import __version__
from haldane.cli.adopt import adopt
from haldane.cli.audit import audit
from haldane.cli.backtest import backtest
from haldane.cli.check import check
from haldane.cli.exits import INFRASTRUCTURE, leave
from haldane.cli.explain import explain
from haldane.cli.forecast import forecast_
from haldane.cli.labels import labels
from haldane.cli.rehearse import demo, sandbox
from haldane.cli.release import release
from haldane.cli.render import render
from haldane.cli.replay import replay
from haldane.cli.rollout import rollout
from haldane.cli.run import run
from haldane.cli.status import status
from haldane.cli.tap import tap

EXAMPLES = """Canary analysis for TensorFlow Serving.

\b
  haldane demo                                see it work on real models
  haldane run --server 127.0.0.1:8500         watch one server, touch nothing
  haldane check config haldane.yaml --online  before the first real run
  haldane release validate export/4           may this SavedModel be served
  haldane release publish export/4 --model credit_risk --to s3://models
  haldane run --config haldane.yaml           the agent
  haldane tap haldane.yaml                    requests from a mirror
  haldane rollout start credit_risk 4 --why "retrained on October" --wait
  haldane status -w
  haldane explain credit_risk-4-1a2b
  haldane replay credit_risk-4-1a2b           judge it again from its evidence
  haldane backtest credit_risk-4-1a2b         how often would this policy err

\b
Exit codes: 0 ok or pass, 1 fail verdict, 2 usage or config, 3 inconclusive
or no data, 4 something could not be reached, 5 refused, 6 a replay differs.
"""


class Commands(click.Group):
    """The top group. Python would leave with 1 on a bug of ours, which here means that a canary is harmful."""

    def main(self, *arguments: Any, **more: Any) -> Any:
        try:
            return super().main(*arguments, **more)
        except Exception:
            traceback.print_exc()
            leave(INFRASTRUCTURE, "that is a mistake in Haldane itself; please report it with the lines above")


@click.group(
    cls=Commands, help=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="haldane")
def main() -> None:
    pass


for command in (
    run,
    status,
    rollout,
    explain,
    replay,
    backtest,
    forecast_,
    labels,
    tap,
    check,
    release,
    audit,
    adopt,
    render,
    sandbox,
    demo,
):
    main.add_command(command)
