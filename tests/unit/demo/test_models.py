"""The SavedModels: real, right, and slow only where they are meant to be."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from haldane.demo import data, learning
from haldane.demo.prepare import LABELLED_SET, Prepared

pytestmark = pytest.mark.xdist_group("tensorflow")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Prepared]]:
    """What `haldane.demo.prepare` leaves and says, run as the demo runs it."""
    out = tmp_path_factory.mktemp("models")
    command = [sys.executable, "-m", "haldane.demo.prepare", "--seed", "11", "--out", str(out)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return out, [Prepared.read(line) for line in done.stdout.splitlines()]


def load(path: Path) -> Any:
    import tensorflow as tf

    return tf.saved_model.load(str(path)).signatures["serving_default"]


def held_out_and_scorer(seed: int) -> tuple[data.Applicants, learning.Scorer]:
    chance = np.random.default_rng(seed)
    training, held_out = data.split(data.load_applicants(), chance)
    learning.learn(training, chance, numbers_only=True)
    learning.learn(learning.shuffled_rows(training, chance), chance)
    return held_out, learning.learn(training, chance)


def test_a_served_score_is_the_score_that_was_learnt(made: tuple[Path, list[Prepared]]) -> None:
    from haldane.demo import models

    held_out, scorer = held_out_and_scorer(11)
    some = held_out.take(np.arange(200))
    for version in (3, 4, 6):
        served = load(made[0] / str(version))(**models.feed(some))["probability"].numpy()
        assert np.allclose(served, scorer.score(some), atol=1e-5)


def test_the_truncated_model_cannot_be_loaded(made: tuple[Path, list[Prepared]]) -> None:
    with pytest.raises(Exception, match=r"(?i)parse|SavedModel"):
        load(made[0] / "5")


def test_the_last_version_is_version_3_byte_for_byte(made: tuple[Path, list[Prepared]]) -> None:
    three, six = made[0] / "3", made[0] / "6"
    files = sorted(path.relative_to(three) for path in three.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(six) for path in six.rglob("*") if path.is_file())
    assert all((three / file).read_bytes() == (six / file).read_bytes() for file in files)


def test_it_says_how_good_each_version_is(made: tuple[Path, list[Prepared]]) -> None:
    accuracy = {step.version: step.accuracy for step in made[1] if step.accuracy is not None}
    assert set(accuracy) == {1, 2, 3, 4, 6}
    assert accuracy[2] < accuracy[1] < accuracy[3] == accuracy[4] == accuracy[6]


def test_the_labelled_set_lies_beside_the_models(made: tuple[Path, list[Prepared]]) -> None:
    assert (made[0] / LABELLED_SET).is_file()


def test_the_slow_version_is_predicted_to_keep_its_promise() -> None:
    from haldane.demo import models

    held_out, scorer = held_out_and_scorer(11)
    rounds, slow, ratio = models.calibrate(scorer, held_out.take(np.array([0])))
    assert rounds < slow < 1.5 * rounds
    assert 1.2 < ratio <= 1.3
