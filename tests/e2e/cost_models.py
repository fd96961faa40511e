"""Scorers of one accuracy and different cost, as real SavedModels: `python cost_models.py PATH ROUNDS MEGABYTES`."""

import sys
from typing import Any

import numpy as np
import tensorflow as tf

SIDE = 160  # of the matrix: some 10 microseconds a round


def export(path: str, rounds: int, megabytes: int) -> None:
    """`y` (n,) is 10 `x` (n,), after `rounds` matrix products that add nothing; so many MB of weights beside."""
    module = tf.Module()
    mixing, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(SIDE, SIDE)))
    module.mixing = tf.Variable(mixing, dtype=tf.float32)
    module.weights = tf.Variable(np.ones((megabytes, 250_000)), dtype=tf.float32)

    def serve(x: Any) -> dict[str, Any]:
        start = tf.ones([1, SIDE]) * (x[0] + module.weights[0, 0])
        _, end = tf.while_loop(
            lambda done, _: done < rounds, lambda done, state: (done + 1, state @ module.mixing), (0, start)
        )
        return {"y": 10.0 * x + tf.minimum(tf.reduce_sum(tf.abs(end)), 0.0)}

    module.serve = tf.function(serve, input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    tf.saved_model.save(module, path, signatures=module.serve)


if __name__ == "__main__":
    export(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
