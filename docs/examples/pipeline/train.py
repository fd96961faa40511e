"""Train a small credit model with Keras, check it, and export it as TensorFlow Serving reads it.

    python train.py OUT --seed 1

writes OUT/export (a SavedModel: `debt` and `income` in, `probability` out), OUT/run.json (parameters, metrics, the
data's digest) and OUT/holdout.csv (4,000 rows that were not trained on). Exit code 1 when the model is no good: then
nothing is exported. Needs haldane[sandbox], which brings TensorFlow and Keras.
"""

import argparse
import csv
import hashlib
import json
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

ROWS, HOLDOUT = 8000, 4000
LEAST_ACCURACY = 0.75  # of at most some 0.87: the rows are noisy


def loans(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(debt and income of each row, whether the loan went bad); the same rows for the same seed."""
    chance = np.random.default_rng(seed)
    features = chance.normal(size=(rows, 2)).astype(np.float32)
    bad = chance.random(rows) < 1 / (1 + np.exp(-(2.0 * features[:, 0] - 3.0 * features[:, 1])))
    return features, bad.astype(np.float32)


def train(features: np.ndarray, bad: np.ndarray, epochs: int, seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(8, "tanh"), keras.layers.Dense(1, "sigmoid")])
    model.compile(keras.optimizers.Adam(0.02), "binary_crossentropy")
    model.fit(features, bad, batch_size=256, epochs=epochs, verbose=0)
    return model


def export(model: keras.Model, path: Path) -> None:
    """One column per input, so that rows of a table can be sent as they are."""

    def serve(debt: tf.Tensor, income: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probability": model(tf.stack([debt, income], axis=1))[:, 0]}

    archive = keras.export.ExportArchive()
    archive.track(model)
    column = {name: tf.TensorSpec([None], tf.float32, name) for name in ("debt", "income")}
    archive.add_endpoint("serving_default", serve, input_signature=list(column.values()))
    archive.write_out(str(path), verbose=False)


def write_rows(path: Path, features: np.ndarray, bad: np.ndarray) -> None:
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["debt", "income", "bad"])
        out.writerows([f"{d:.4f}", f"{i:.4f}", int(b)] for (d, i), b in zip(features, bad, strict=True))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=5)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    features, bad = loans(ROWS, given.seed)
    held, truth = loans(HOLDOUT, 1_000_000)
    model = train(features, bad, given.epochs, given.seed)
    accuracy = float(np.mean((model.predict(held, batch_size=HOLDOUT, verbose=0)[:, 0] > 0.5) == (truth == 1)))
    run = {
        "params": {"epochs": given.epochs, "seed": given.seed, "layers": 2},
        "metrics": {"accuracy": accuracy},
        "data": {"name": "loans", "digest": hashlib.sha256(features.tobytes()).hexdigest()[:12]},
    }
    (given.out / "run.json").write_text(json.dumps(run, indent=2))
    write_rows(given.out / "holdout.csv", held, truth)
    print(f"accuracy {accuracy:.3f} on {HOLDOUT} rows that were held out", file=sys.stderr)
    if accuracy < LEAST_ACCURACY:
        print(f"that is less than {LEAST_ACCURACY}: nothing is released", file=sys.stderr)
        return 1
    export(model, given.out / "export")
    return 0


if __name__ == "__main__":
    sys.exit(main())
