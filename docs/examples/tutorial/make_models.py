"""Export three versions of a tiny credit model, 4,000 rows with their right answers, and Serving's config files.

    python make_models.py DIRECTORY

Version 1 is what users have. Version 2 takes the two features for each other: it loads, it answers, and it is wrong.
Version 3 weighs debt better than version 1. Needs haldane[sandbox].
"""

import csv
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

MODELS_CONFIG = """\
model_config_list {{
  config {{
    name: "risk"
    base_path: "{base_path}"
    model_platform: "tensorflow"
    model_version_policy {{ specific {{ versions: 1 }} }}
  }}
}}
"""


class Risk(tf.Module):
    """Probability that a loan goes bad, from debt and income."""

    def __init__(self, debt: float, income: float, bias: float) -> None:
        super().__init__()
        self.weights = tf.Variable([[debt], [income]], dtype=tf.float32)
        self.bias = tf.Variable(bias, dtype=tf.float32)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.float32, name="debt"),
            tf.TensorSpec([None], tf.float32, name="income"),
        ]
    )
    def __call__(self, debt: tf.Tensor, income: tf.Tensor) -> dict[str, tf.Tensor]:
        rows = tf.stack([debt, income], axis=1)
        return {"probability": tf.sigmoid(rows @ self.weights + self.bias)[:, 0]}


def main(directory: Path) -> None:
    versions = {1: Risk(1.0, -3.0, 0.0), 2: Risk(-3.0, 1.0, 0.0), 3: Risk(2.0, -3.0, 0.0)}
    for number, model in versions.items():
        # Version 1 is served from the start; 2 and 3 wait outside until the tutorial moves them in.
        home = directory / "models" / "risk" if number == 1 else directory / "later"
        tf.saved_model.save(model, str(home / str(number)), signatures={"serving_default": model.__call__})
    write_rows(directory / "holdout.csv")
    base_path = (directory / "models" / "risk").resolve()
    (directory / "models.config").write_text(MODELS_CONFIG.format(base_path=base_path))
    (directory / "monitoring.config").write_text("prometheus_config { enable: true }\n")


def write_rows(path: Path) -> None:
    chance = np.random.default_rng(7)
    debt, income = chance.normal(size=(2, 4000))
    bad = chance.random(4000) < 1 / (1 + np.exp(-(2.0 * debt - 3.0 * income)))
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["debt", "income", "bad"])
        out.writerows([f"{d:.4f}", f"{i:.4f}", int(b)] for d, i, b in zip(debt, income, bad, strict=True))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
