"""The recipe: which mistake costs how much on rows nobody learnt from."""

import numpy as np
import pytest

from haldane.demo import data, learning


@pytest.fixture(scope="module", params=range(5))
def accuracies(request: pytest.FixtureRequest) -> dict[int, float]:
    chance = np.random.default_rng(request.param)
    training, held_out = data.split(data.load_applicants(), chance)
    scorers = {
        1: learning.learn(training, chance, numbers_only=True),
        2: learning.learn(learning.shuffled_rows(training, chance), chance),
        3: learning.learn(training, chance),
    }
    return {version: scorer.accuracy(held_out) for version, scorer in scorers.items()}


def test_shuffled_rows_cost_far_more_than_the_margin(accuracies: dict[int, float]) -> None:
    assert accuracies[1] - accuracies[2] > 0.10


def test_more_columns_make_a_better_model(accuracies: dict[int, float]) -> None:
    assert accuracies[3] - accuracies[1] > 0.02


def test_shuffling_keeps_every_applicant_and_every_label() -> None:
    training, _ = data.split(data.load_applicants(), np.random.default_rng(0))
    shuffled = learning.shuffled_rows(training, np.random.default_rng(1))
    assert shuffled.bad.tolist() == training.bad.tolist()
    assert sorted(map(tuple, shuffled.texts.tolist())) == sorted(map(tuple, training.texts.tolist()))
    assert shuffled.texts.tolist() != training.texts.tolist()


def test_the_encoding_is_measured_on_training_rows_only() -> None:
    training, held_out = data.split(data.load_applicants(), np.random.default_rng(0))
    encoding = learning.Encoding.of(training)
    scaled = encoding.matrix(training)[:, : len(data.NUMBERS)]
    assert np.allclose(scaled.mean(axis=0), 0, atol=1e-9)
    assert np.isfinite(encoding.matrix(held_out)).all()


def test_a_word_never_seen_in_training_encodes_as_zeros() -> None:
    training, held_out = data.split(data.load_applicants(), np.random.default_rng(0))
    encoding = learning.Encoding.of(training)
    stranger = held_out.take(np.array([0]))
    stranger.texts[:] = "castle"
    assert not encoding.matrix(stranger)[:, len(data.NUMBERS) :].any()
