"""How the demo's models learn: rows to numbers, a random layer, and a logistic fit. numpy only.

Owns the recipe, the same for every version; `models` writes what was learnt as
a SavedModel that does the same arithmetic.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from haldane.demo.data import NUMBERS, TEXTS, Applicants

Matrix = NDArray[np.float64]

HIDDEN = 256  # random features; a wider layer won nothing on held-out rows
SHRINKAGE = 1e-3  # best of 1e-2, 1e-3, 1e-4 on held-out rows
NEWTON_STEPS = 15  # the loss stops changing after about 8
LOGGED = (0, 3, 4, 5)  # seniority, income, assets, debt: long right tails


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a row becomes `width` numbers; measured on training rows only."""

    fill: Matrix  # (8,) the median, for an empty number
    centre: Matrix  # (8,) mean after filling and logs
    scale: Matrix  # (8,) standard deviation after filling and logs
    vocabulary: tuple[tuple[str, ...], ...]  # per text column, sorted; others encode as zeros

    @property
    def width(self) -> int:
        return len(NUMBERS) + sum(len(words) for words in self.vocabulary)

    @classmethod
    def of(cls, training: Applicants) -> "Encoding":
        fill = np.nanmedian(training.numbers.astype(np.float64), axis=0)
        numbers = _filled(training, fill)
        vocabulary = tuple(tuple(sorted(set(training.texts[:, j].tolist()))) for j in range(len(TEXTS)))
        return cls(fill, numbers.mean(axis=0), numbers.std(axis=0), vocabulary)

    def matrix(self, applicants: Applicants) -> Matrix:
        """Shape (n, width): scaled numbers, then one column per known word."""
        words = [applicants.texts[:, j, None] == np.array(known)[None, :] for j, known in enumerate(self.vocabulary)]
        scaled = (_filled(applicants, self.fill) - self.centre) / self.scale
        return np.concatenate([scaled, *(word.astype(np.float64) for word in words)], axis=1)


def _filled(applicants: Applicants, fill: Matrix) -> Matrix:
    numbers = np.where(np.isnan(applicants.numbers), fill, applicants.numbers.astype(np.float64))
    numbers[:, LOGGED] = np.log1p(numbers[:, LOGGED])
    return numbers


@dataclass(frozen=True, slots=True)
class Scorer:
    """P(bad) = sigmoid(tanh(row @ inner + offset) @ outer + bias)."""

    encoding: Encoding
    inner: Matrix  # (width, HIDDEN), drawn at random and kept
    offset: Matrix  # (HIDDEN,)
    outer: Matrix  # (HIDDEN,), learnt
    bias: float

    def score(self, applicants: Applicants) -> Matrix:
        """Shape (n,): the probability that the loan goes bad."""
        hidden = np.tanh(self.encoding.matrix(applicants) @ self.inner + self.offset)
        return np.asarray(1 / (1 + np.exp(-(hidden @ self.outer + self.bias))))

    def accuracy(self, applicants: Applicants) -> float:
        return float(np.mean((self.score(applicants) > 0.5) == (applicants.bad == 1)))


def learn(training: Applicants, chance: np.random.Generator, *, numbers_only: bool = False) -> Scorer:
    """A scorer fitted with both classes weighted alike. `numbers_only` leaves home, records and job out."""
    encoding = Encoding.of(training)
    inner = chance.normal(0.0, 1.5 / np.sqrt(encoding.width), (encoding.width, HIDDEN))
    if numbers_only:
        inner[len(NUMBERS) :] = 0.0
    offset = chance.uniform(-1.0, 1.0, HIDDEN)
    hidden = np.tanh(encoding.matrix(training) @ inner + offset)
    # Hidden units are scaled to unit order, so that SHRINKAGE means the same at every width.
    weights = _fit_logistic(hidden * (4 / np.sqrt(HIDDEN)), training.bad)
    return Scorer(encoding, inner, offset, weights[:-1] * (4 / np.sqrt(HIDDEN)), float(weights[-1]))


def shuffled_rows(training: Applicants, chance: np.random.Generator) -> Applicants:
    """The same features and the same labels, but no longer of the same applicants: a broken join."""
    order = chance.permutation(len(training))
    return Applicants(training.numbers[order], training.texts[order], training.bad)


def _fit_logistic(features: Matrix, bad: NDArray[np.int64]) -> Matrix:
    """Newton's method on the ridge-penalised, class-balanced log loss; the last weight is the bias."""
    share = bad.mean()
    weight = np.where(bad == 1, 0.5 / share, 0.5 / (1 - share)) / len(bad)
    columns = np.concatenate([features, np.ones((len(features), 1))], axis=1)
    weights = np.zeros(columns.shape[1])
    for _ in range(NEWTON_STEPS):
        chance_bad = 1 / (1 + np.exp(-columns @ weights))
        slope = columns.T @ (weight * (chance_bad - bad)) + SHRINKAGE * weights
        bend = (columns * (weight * chance_bad * (1 - chance_bad))[:, None]).T @ columns
        weights -= np.linalg.solve(bend + SHRINKAGE * np.eye(len(weights)), slope)
    return weights
