"""Scorers as real SavedModels, and how long one call takes. The only module of the demo that imports TensorFlow.

Owns the graph and its calibration to this machine. Every version carries a loop
of matrix products that adds nothing to the score, so that a call costs some
milliseconds, as a real model's does; the slow version carries more of it.
"""

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from haldane.demo.data import NUMBERS, TEXTS, Applicants
from haldane.demo.learning import LOGGED, Scorer

BALLAST_SIDE = 160  # side of the loop's matrix: 51,200 operations a round, about 10 microseconds
CALL_SECONDS = 0.015  # of the ordinary versions; see docs/demo.md for why so long
SLOWDOWN = 1.29  # of the slow version; the promise is "at most 1.3"


class ServedScorer(tf.Module):  # type: ignore[misc]  # TensorFlow ships no types
    """A Scorer with raw columns as inputs: one tensor (n,) per column, `probability` (n,) of a bad loan out."""

    def __init__(self, scorer: Scorer, rounds: int) -> None:
        super().__init__()
        encoding = scorer.encoding
        self._fill, self._centre, self._scale = (
            tf.constant(part, tf.float32) for part in (encoding.fill, encoding.centre, encoding.scale)
        )
        self._logged = tf.constant([j in LOGGED for j in range(len(NUMBERS))])
        self._vocabulary = encoding.vocabulary
        self.inner = tf.Variable(scorer.inner, dtype=tf.float32)
        self.offset = tf.Variable(scorer.offset, dtype=tf.float32)
        self.outer = tf.Variable(scorer.outer[:, None], dtype=tf.float32)
        self.bias = tf.Variable(scorer.bias, dtype=tf.float32)
        # Orthogonal: the loop's numbers neither vanish nor explode, and take the same time in every round.
        mixing, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(BALLAST_SIDE, BALLAST_SIDE)))
        self._mixing = tf.constant(mixing, tf.float32)
        self._rounds = rounds
        specs = {name: tf.TensorSpec([None], tf.float32, name) for name in NUMBERS}
        specs |= {name: tf.TensorSpec([None], tf.string, name) for name in TEXTS}
        self.serve = tf.function(self._serve, input_signature=[specs])

    def _serve(self, columns: Any) -> Any:
        numbers = tf.stack([columns[name] for name in NUMBERS], axis=1)
        numbers = tf.where(tf.math.is_nan(numbers), self._fill, numbers)
        numbers = tf.where(self._logged, tf.math.log1p(tf.maximum(numbers, 0.0)), numbers)
        words = [
            tf.cast(tf.equal(columns[name][:, None], tf.constant(known)[None, :]), tf.float32)
            for name, known in zip(TEXTS, self._vocabulary, strict=True)
        ]
        encoded = tf.concat([(numbers - self._centre) / self._scale, *words], axis=1)
        hidden = tf.tanh(encoded @ self.inner + self.offset)
        score = (hidden @ self.outer)[:, 0] + self.bias
        return {"probability": tf.sigmoid(score) + self._ballast(hidden)}

    def _ballast(self, hidden: Any) -> Any:
        """Zero, after `rounds` matrix products that depend on the input and so cannot be folded away."""
        start = hidden[:1, :BALLAST_SIDE]
        _, end = tf.while_loop(
            lambda done, _: done < self._rounds,
            lambda done, state: (done + 1, state @ self._mixing),
            (tf.constant(0), start),
            shape_invariants=(tf.TensorShape([]), tf.TensorShape([None, BALLAST_SIDE])),
        )
        return tf.minimum(tf.reduce_sum(tf.abs(end)), 0.0)


def export(scorer: Scorer, rounds: int, path: Path) -> None:
    """Write the scorer as a SavedModel at `path`, aside first and then renamed, so that no server sees half of it."""
    aside = path.with_name(f".{path.name}.tmp")
    module = ServedScorer(scorer, rounds)
    tf.saved_model.save(module, str(aside), signatures=module.serve)
    aside.rename(path)


def truncate(path: Path) -> None:
    """Cut the graph file of a SavedModel in half, as an interrupted copy leaves it."""
    graph = path / "saved_model.pb"
    data = graph.read_bytes()
    graph.write_bytes(data[: len(data) // 2])


def copy(source: Path, path: Path) -> None:
    """The same SavedModel once more, byte for byte."""
    aside = path.with_name(f".{path.name}.tmp")
    shutil.copytree(source, aside)
    aside.rename(path)


def seconds_per_call(scorer: Scorer, rounds: int, applicant: Applicants, *, calls: int = 40) -> float:
    """The time of one undisturbed call in this process: the shortest of many. `applicant` is one row."""
    serve = ServedScorer(scorer, rounds).serve
    columns = feed(applicant)
    took = []
    for _ in range(calls + 10):  # the first calls trace and fill caches
        started = time.perf_counter()
        serve(columns)["probability"].numpy()
        took.append(time.perf_counter() - started)
    return min(took)


def feed(applicants: Applicants) -> dict[str, Any]:
    """These rows as the signature's inputs."""
    columns = {name: tf.constant(applicants.numbers[:, j]) for j, name in enumerate(NUMBERS)}
    return columns | {name: tf.constant(applicants.texts[:, j].tolist()) for j, name in enumerate(TEXTS)}


def calibrate(scorer: Scorer, applicant: Applicants) -> tuple[int, int, float]:
    """(rounds, slow rounds, predicted ratio of their call times): a call of CALL_SECONDS, one SLOWDOWN times that.

    Time is a + b * rounds; a and b come from two sizes, each short enough to fit
    into one time slice of a busy machine.
    """
    few, many = 50, 450
    short, long = (min(seconds_per_call(scorer, rounds, applicant) for _ in range(2)) for rounds in (few, many))
    per_round = max((long - short) / (many - few), 1e-6)
    fixed = max(short - few * per_round, 0.0)
    rounds = max(few, round((CALL_SECONDS - fixed) / per_round))
    call = fixed + rounds * per_round
    slow = rounds + round((SLOWDOWN - 1) * call / per_round)
    return rounds, slow, (fixed + slow * per_round) / call
