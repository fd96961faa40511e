"""`haldane backtest`: a policy held against recorded pairs, or against a past window of Prometheus."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from haldane.cli.cases import case_from_file, case_of_rollout, rules_of_file
from haldane.cli.connection import Connection, agent_options
from haldane.cli.exits import FAIL, INFRASTRUCTURE, PASS, USAGE, leave
from haldane.cli.rollout import output_option

if TYPE_CHECKING:
    from haldane.domain.traffic import Batch
    from haldane.judge.replay import CaseFile, Opinion
    from haldane.judge.rules import Rules


@dataclass(frozen=True, slots=True)
class Material:
    """What is judged: the policy, and per source its name, what would have been said, and its pairs."""

    rules: "Rules"
    names: tuple[str, ...]
    recorded: tuple[str, ...]  # verdicts; "" where there was none
    opinions: "tuple[Opinion, ...]"
    tables: "tuple[Batch, ...]"


@click.command()
@click.argument("sources", nargs=-1, metavar="[ROLLOUT|FILE|DIR]...")
@click.option(
    "--policy", metavar="FILE", type=click.Path(path_type=Path), help="Rules to try: a config, or rules.json."
)
@click.option("--stable", metavar="EXPR", help="Judge a past window of two series instead: PromQL of this one,")
@click.option("--canary", metavar="EXPR", help="and of this one.")
@click.option("--prometheus", metavar="URL", help="Where they are.  [default: of --config]")
@click.option("--margin", metavar="RATIO", default="+10%", show_default=True, help="Harm accepted, relative to stable.")
@click.option("--worse", type=click.Choice(["higher", "lower"]), default="higher", show_default=True)
@click.option("--last", metavar="TIME", default="6h", show_default=True, help="Length of the window.")
@click.option("--end", metavar="TIME", help="Its end: ISO 8601 or seconds since 1970.  [default: now]")
@click.option("--step", metavar="TIME", default="15s", show_default=True, help="Between two readings.")
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
    prometheus: str | None,
    stable: str | None,
    canary: str | None,
    margin: str,
    worse: str,
    last: str,
    end: str | None,
    step: str,
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
    if bool(sources) == any((prometheus, stable, canary)):
        leave(
            USAGE, "give either rollouts or archives, or --stable EXPR and --canary EXPR; see haldane backtest --help"
        )
    if not sources:
        from haldane.cli.window import Asked, material_of_window

        if stable is None or canary is None:
            leave(USAGE, "a window of Prometheus needs both --stable EXPR and --canary EXPR")
        asked = Asked(prometheus, connection.config, stable, canary, margin, worse == "lower", last, end, step)
        material = material_of_window(asked, policy)
    else:
        material = material_of_cases(list(_cases(connection, sources)), policy)
    if plot is not None:
        _draw(material, plot)
    from haldane.cli.trials import run_trials

    found = run_trials(material, streams=streams, seed=seed)
    found.show(output)
    raise SystemExit(FAIL if found.broken() else PASS)


def _cases(connection: Connection, sources: tuple[str, ...]) -> Iterator["CaseFile"]:
    for source in sources:
        path = Path(source)
        if path.is_dir():
            inside = sorted(path.glob("*.npz"))
            if not inside:
                leave(USAGE, f"there is no .npz file in {path}; haldane replay ROLLOUT --save writes one")
            yield from map(case_from_file, inside)
        elif path.exists():
            yield case_from_file(path)
        elif path.suffix == ".npz":
            leave(USAGE, f"there is no file {path}; haldane replay ROLLOUT --save {path.name} writes one")
        else:
            yield case_of_rollout(connection, source)


def material_of_cases(cases: "list[CaseFile]", policy: Path | None) -> Material:
    """Recorded rollouts under the policy, by default under the rules of the last of them."""
    from haldane.judge.replay import opinion, retold
    from haldane.judge.resample import paired

    models = sorted({case.rollout.model for case in cases})
    if len(models) > 1:
        leave(USAGE, f"these are rollouts of {', '.join(models)}; noise is a model's own, so give those of one model")
    try:
        told = [case.rules for case in cases]
    except ValueError as error:
        leave(USAGE, f"frozen rules cannot be read: {error}")
    rules = rules_of_file(policy, model=models[0], rate_per_second=told[-1].rate_per_second) if policy else told[-1]
    rules = replace(rules, extensions=0)
    logs = [tuple(retold(case.entries, told=frozen, asked=rules)) for case, frozen in zip(cases, told, strict=True)]
    return Material(
        rules=rules,
        names=tuple(case.rollout.id for case in cases),
        recorded=tuple(case.recorded[-1].verdict if case.recorded else "" for case in cases),
        opinions=tuple(
            opinion(rules, log, seconds=case.lasted, servers=case.rollout.servers)
            for case, log in zip(cases, logs, strict=True)
        ),
        tables=tuple(paired(log) for log in logs),
    )


def _draw(material: Material, path: Path) -> None:
    from haldane.web.trails import drawn

    trails = {name: one.trail for name, one in zip(material.names, material.opinions, strict=True)}
    try:
        path.write_text(drawn(trails, alpha=material.rules.alpha), encoding="utf-8")
    except OSError as error:
        leave(INFRASTRUCTURE, f"cannot write {path}: {error.strerror}")
