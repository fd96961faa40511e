"""The labelled set: what is held out was never learnt from."""

from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from haldane.demo import data


@pytest.fixture(scope="module")
def applicants() -> data.Applicants:
    return data.load_applicants()


def as_rows(applicants: data.Applicants) -> set[tuple[str, ...]]:
    return {
        (*(repr(float(number)) for number in numbers), *texts)
        for numbers, texts in zip(applicants.numbers, applicants.texts.tolist(), strict=True)
    }


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_applicant_is_on_both_sides_of_the_split(applicants: data.Applicants, seed: int) -> None:
    training, held_out = data.split(applicants, np.random.default_rng(seed))
    assert len(training) == data.TRAINING_ROWS
    assert len(training) + len(held_out) == len(applicants)
    assert not as_rows(training) & as_rows(held_out)


def test_enough_rows_are_held_out_for_the_margins(applicants: data.Applicants) -> None:
    _, held_out = data.split(applicants, np.random.default_rng(0))
    assert len(held_out) >= 2900


def test_another_seed_splits_otherwise(applicants: data.Applicants) -> None:
    one, _ = data.split(applicants, np.random.default_rng(0))
    other, _ = data.split(applicants, np.random.default_rng(1))
    assert as_rows(one) != as_rows(other)


def test_no_text_is_empty(applicants: data.Applicants) -> None:
    assert not np.isin(applicants.texts, ["", "nan", "None"]).any()


def test_the_labelled_set_holds_inputs_and_answer(applicants: data.Applicants, tmp_path: Path) -> None:
    some = applicants.take(np.arange(50))
    data.write_labelled_set(some, tmp_path / "rows.parquet")
    table = parquet.read_table(tmp_path / "rows.parquet")
    assert set(table.column_names) == {*data.NUMBERS, *data.TEXTS, data.LABEL}
    assert table.column(data.LABEL).to_pylist() == some.bad.tolist()
    assert all(table.column(name).null_count == 0 for name in table.column_names)
