"""`haldane replay`: a rollout judged again from its evidence, under its own rules or under others."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from haldane.cli.cases import case_from_file, case_of_rollout, rules_of_file
from haldane.cli.connection import Connection, agent_options
from haldane.cli.exits import DIFFERENT, FAIL, INCONCLUSIVE, PASS, USAGE, leave
from haldane.cli.rollout import output_option

if TYPE_CHECKING:
    from haldane.domain.evidence import Finding, Ruling
    from haldane.judge.replay import CaseFile, Opinion, Reproduction
    from haldane.judge.rules import Rules

CODES = {"pass": PASS, "fail": FAIL}
MOST_CHANGES = 12  # of a difference, on a terminal


@click.command()
@click.argument("rollout_id", required=False)
@click.option("--rules", metavar="FILE", type=click.Path(path_type=Path), help="Other rules: a config, or rules.json.")
@click.option("--margin", "margins", metavar="METRIC=MARGIN", multiple=True, help='Another margin: latency="+10%".')
@click.option("--from", "source", metavar="FILE", type=click.Path(path_type=Path), help="Read a saved archive instead.")
@click.option("--save", metavar="FILE", type=click.Path(path_type=Path), help="Keep evidence, rules and rulings here.")
@output_option
@agent_options
def replay(
    connection: Connection,
    rollout_id: str | None,
    rules: Path | None,
    margins: tuple[str, ...],
    source: Path | None,
    save: Path | None,
    output: str,
) -> None:
    """Judge ROLLOUT_ID again from its evidence log.

    Under the rules it was frozen with, every recorded ruling must come out
    again, bit for bit. With --rules or --margin: what others would have said.
    The agent is asked; with --config, its store is read when it does not run.

    \b
      haldane replay credit_risk-4-1a2b
      haldane replay credit_risk-4-1a2b --margin latency=+5%
      haldane replay credit_risk-4-1a2b --save case.npz
      haldane replay --from case.npz --rules stricter.yaml

    Exit codes: 0 all came out as recorded, 6 something did not, 3 nothing was
    ruled; with other rules 0 they pass it, 1 they fail it, 3 neither.
    """
    case = _case(connection, rollout_id, source, save)
    from haldane.judge.replay import reproduce

    frozen = _frozen(case)
    case = replace(case, entries=tuple(case.entries))
    if not rules and not margins:
        again = reproduce(frozen, case.entries, case.recorded, case.rollout.servers)
        _show_reproduction(case, again, output)
        raise SystemExit(DIFFERENT if again.difference else PASS if again.compared else INCONCLUSIVE)
    asked = rules_of_file(rules, model=case.rollout.model, rate_per_second=frozen.rate_per_second) if rules else frozen
    then, now = _opinions(case, frozen, with_margins(asked, margins))
    _show_opinions(case, then, now, output)
    raise SystemExit(CODES.get(now.ruling.verdict, INCONCLUSIVE))


def _case(connection: Connection, rollout: str | None, source: Path | None, save: Path | None) -> "CaseFile":
    if source is not None and save is not None:
        leave(USAGE, f"--save would only copy {source}; give one of --from and --save")
    if source is not None:
        case = case_from_file(source)
        if rollout not in (None, case.rollout.id):
            leave(USAGE, f"{source} holds rollout {case.rollout.id}, not {rollout}")
        return case
    if rollout is None:
        leave(USAGE, "give a rollout, or --from FILE; see haldane replay --help")
    return case_of_rollout(connection, rollout, save=save)


def _frozen(case: "CaseFile") -> "Rules":
    try:
        return case.rules
    except ValueError as error:
        leave(USAGE, f"{case.rollout.id}: its frozen rules cannot be read: {error}")


def with_margins(rules: "Rules", margins: tuple[str, ...]) -> "Rules":
    """The rules with other margins, each given as METRIC=MARGIN; leaves with what would be right."""
    from haldane.judge.margin import parse_margin

    metrics = {rule.name: rule for rule in rules.metrics}
    for text in margins:
        name, equals, margin = text.rpartition("=")
        if not equals or name not in metrics:
            leave(USAGE, f"--margin {text}: write METRIC=MARGIN with one of {', '.join(metrics)}")
        try:
            margin_ = parse_margin(margin, metrics[name].measures)
            metrics[name] = replace(metrics[name], margin=margin_)
        except ValueError as error:
            leave(USAGE, f"--margin {text}: {error}")
    return replace(rules, metrics=tuple(metrics.values()))


def _opinions(case: "CaseFile", frozen: "Rules", asked: "Rules") -> tuple["Opinion", "Opinion"]:
    from haldane.judge.replay import opinion, retold

    extended = replace(frozen, extensions=case.rollout.extensions)
    told = retold(case.entries, told=frozen, asked=asked)
    return (
        opinion(extended, case.entries, seconds=case.lasted, servers=case.rollout.servers),
        opinion(asked, told, seconds=case.lasted, servers=case.rollout.servers),
    )


# --- shown ----------------------------------------------------------------------------------------------------------


def _show_reproduction(case: "CaseFile", again: "Reproduction", output: str) -> None:
    if output == "json":
        from dataclasses import asdict

        from haldane.cli.shown import print_json

        print_json({"rollout": case.rollout.id, "rules": case.rules.digest, **asdict(again)})
        return
    name = case.rollout.id
    click.echo(f"{name}: {again.pairs:,} pairs in {again.entries:,} entries, judged again under the frozen rules")
    if again.unplaced:
        click.echo(f"{again.unplaced} rulings were recorded by an older release, without their place in the log")
    if again.difference:
        _show_difference(again)
    elif again.compared:
        last = case.recorded[-1]
        click.echo(f"every recorded ruling came out again, bit for bit: {again.compared} of {again.compared}")
        click.echo(f"verdict: {last.verdict}, {last.ruling['why']}")
    else:
        click.echo("no data: no ruling of this rollout is on record with its place in the log")
        if case.rollout.reverts is not None:
            click.echo(
                f"It takes back a promotion, and rests on that one's evidence: haldane replay {case.rollout.reverts}"
            )


def _show_difference(again: "Reproduction") -> None:
    found = again.difference
    assert found is not None
    click.echo(
        f"DIFFERS at entry {found.entries:,}, in the ruling of record {found.seq}; "
        f"{again.compared} rulings up to entry {found.agreed:,} came out as recorded"
    )
    for change in found.changes[:MOST_CHANGES]:
        click.echo(f"  {change.path}: recorded {change.then!r:.100}, now {change.now!r:.100}")
    if len(found.changes) > MOST_CHANGES:
        click.echo(f"  and {len(found.changes) - MOST_CHANGES} more values; see --output json")
    click.echo("The log was changed after it was judged, or another release of Haldane judges otherwise.")


def _show_opinions(case: "CaseFile", then: "Opinion", now: "Opinion", output: str) -> None:
    from haldane.cli.shown import console, print_json, table

    if output == "json":
        from haldane.web.jsonform import as_json

        both = {"then": then, "now": now}
        print_json({"rollout": case.rollout.id} | {key: as_json(_told(one)) for key, one in both.items()})
        return
    rows = [
        ["verdict", then.ruling.verdict, now.ruling.verdict],
        ["decided", _when(then), _when(now)],
        ["at the end of the log", then.end.verdict, now.end.verdict],
        *_finding_rows(then.ruling, now.ruling),
    ]
    marked = [[*row, "" if row[1] == row[2] else "changed"] for row in rows]
    console().print(table(case.rollout.id, ("", "then", "now", ""), marked))
    click.echo(f"then: {then.ruling.why}\nnow:  {now.ruling.why}")
    if now.decided is None:
        click.echo("The recorded evidence ends before these rules would have decided.")


def _told(one: "Opinion") -> dict[str, Any]:
    return {"decided": one.decided, "end": one.end}


def _when(one: "Opinion") -> str:
    if one.decided is None:
        return f"not within {one.end.pairs:,} pairs, {one.end.seconds:,.1f} s"
    return f"after {one.decided.pairs:,} pairs, {one.decided.seconds:,.1f} s"


def _finding_rows(then: "Ruling", now: "Ruling") -> list[list[str]]:
    names = dict.fromkeys(found.metric for ruling in (then, now) for found in ruling.findings)
    return [[name, _found(then, name), _found(now, name)] for name in names]


def _found(ruling: "Ruling", name: str) -> str:
    from haldane.judge.verdict import measured

    finding: Finding | None = next((one for one in ruling.findings if one.metric == name), None)
    return "not judged" if finding is None else f"{finding.state}: {measured(finding)}"
