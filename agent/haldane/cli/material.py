"""What `haldane backtest` judges: recorded rollouts or a window of series, under one policy."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from haldane.cli.cases import case_from_file, case_of_rollout, rules_of_file
from haldane.cli.connection import Connection
from haldane.cli.exits import USAGE, leave

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


def cases_of(connection: Connection, sources: tuple[str, ...]) -> Iterator["CaseFile"]:
    """Those of the rollouts, archives and folders that a person named; leaves with what there is not."""
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
