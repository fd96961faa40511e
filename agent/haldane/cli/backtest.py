"""`haldane backtest`: a policy held against recorded pairs, or against a past window of Prometheus."""

from pathlib import Path

import click

from haldane.cli.connection import Connection, agent_options
from haldane.cli.exits import FAIL, INFRASTRUCTURE, PASS, USAGE, leave
from haldane.cli.material import Material, cases_of, material_of_cases
from haldane.cli.rollout import output_option
from haldane.cli.window import Asked, material_of_window, window_options


@click.command()
@click.argument("sources", nargs=-1, metavar="[ROLLOUT|FILE|DIR]...")
@click.option(
    "--policy", metavar="FILE", type=click.Path(path_type=Path), help="Rules to try: a config, or rules.json."
)
@window_options
@click.option(
    "--streams", type=click.IntRange(20, 100_000), default=200, show_default=True, help="Trials per question."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of all chance in it.")
@click.option("--plot", metavar="FILE", type=click.Path(path_type=Path), help="Draw the evidence over time as SVG.")
@output_option
@agent_options
def backtest(
    connection: Connection,
    sources: tuple[str, ...],
    policy: Path | None,
    window: Asked | None,
    streams: int,
    seed: int,
    plot: Path | None,
    output: str,
) -> None:
    """Hold a policy against evidence that is there already.

    Takes rollouts (of the agent, or of its store with --config), archives that
    `haldane replay --save` wrote, or a folder of them; by default under the
    rules of the last. Says what the verdicts would have been, how often the
    policy errs on this noise, and the smallest harm it finds.

    \b
      haldane backtest credit_risk-4-1a2b credit_risk-5-77f0 --policy new.yaml
      haldane backtest cases/ --plot evidence.svg
      haldane backtest --prometheus http://prometheus:9090 --last 1d \\
        --stable 'sum(rate(cpu{track="stable"}[1m]))' \\
        --canary 'sum(rate(cpu{track="canary"}[1m]))'

    Exit codes: 0 nothing contradicts its error rates, 1 one is shown to be
    above what was promised, 2 usage, 3 too little data, 4 something could not
    be reached.
    """
    if bool(sources) == bool(window):
        leave(
            USAGE, "give either rollouts or archives, or --stable EXPR and --canary EXPR; see haldane backtest --help"
        )
    if window is None:
        material = material_of_cases(list(cases_of(connection, sources)), policy)
    else:
        material = material_of_window(window, connection.config, policy)
    if plot is not None:
        _draw(material, plot)
    from haldane.cli.trials import run_trials

    found = run_trials(material, streams=streams, seed=seed)
    found.show(output)
    raise SystemExit(FAIL if found.broken() else PASS)


def _draw(material: Material, path: Path) -> None:
    from haldane.web.trails import drawn

    trails = {name: one.trail for name, one in zip(material.names, material.opinions, strict=True)}
    try:
        path.write_text(drawn(trails, alpha=material.rules.alpha), encoding="utf-8")
    except OSError as error:
        leave(INFRASTRUCTURE, f"cannot write {path}: {error.strerror}")
