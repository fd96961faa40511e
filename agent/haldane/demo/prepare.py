"""Makes everything the demo plays with, in a process of its own: the labelled set and six versions of a model.

Run as `python -m haldane.demo.prepare --seed N --out DIR`. Says on standard
output what is done, one JSON object a line (`Prepared.line`); DIR then holds
`held_out.parquet` and the SavedModels `1` to `6`.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from haldane.demo import data, learning

LABELLED_SET = "held_out.parquet"


@dataclass(frozen=True, slots=True)
class Prepared:
    """One thing that is done. `accuracy` is on held-out rows, None where it makes no sense."""

    what: str
    seconds: float
    version: int | None = None
    accuracy: float | None = None

    def line(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, line: str) -> "Prepared":
        return cls(**json.loads(line))


class Diary:
    """Prints each step with the seconds it took."""

    def __init__(self) -> None:
        self._since = time.monotonic()

    def done(self, what: str, *, version: int | None = None, accuracy: float | None = None) -> None:
        now = time.monotonic()
        print(Prepared(what, round(now - self._since, 2), version, accuracy).line(), flush=True)
        self._since = now


def prepare(seed: int, out: Path, diary: Diary) -> None:
    """Write the labelled set and versions 1 to 6 below `out`. The same seed gives the same scores."""
    chance = np.random.default_rng(seed)
    training, held_out = data.split(data.load_applicants(), chance)
    data.write_labelled_set(held_out, out / LABELLED_SET)
    diary.done(f"{len(training):,} applicants to learn from, {len(held_out):,} held out")
    scorers = {
        1: learning.learn(training, chance, numbers_only=True),
        2: learning.learn(learning.shuffled_rows(training, chance), chance),
        3: learning.learn(training, chance),
    }
    diary.done("three scorers learnt")
    from haldane.demo import models  # TensorFlow: seconds of import, so it comes after the first news

    diary.done("TensorFlow imported")
    rounds, slow_rounds, ratio = models.calibrate(scorers[3], held_out.take(np.array([0])))
    diary.done(f"a call calibrated to {models.CALL_SECONDS * 1000:.0f} ms, the slow one to {ratio:.2f} times that")
    for version, scorer in scorers.items():
        models.export(scorer, rounds, out / str(version))
        diary.done("exported", version=version, accuracy=scorer.accuracy(held_out))
    models.export(scorers[3], slow_rounds, out / "4")
    diary.done("exported", version=4, accuracy=scorers[3].accuracy(held_out))
    models.copy(out / "3", out / "5")
    models.truncate(out / "5")
    diary.done("exported and truncated", version=5)
    models.copy(out / "3", out / "6")
    diary.done("copied from version 3", version=6, accuracy=scorers[3].accuracy(held_out))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args(argv)
    asked.out.mkdir(parents=True, exist_ok=True)
    prepare(asked.seed, asked.out, Diary())
    return 0


if __name__ == "__main__":
    sys.exit(main())
