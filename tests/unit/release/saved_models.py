"""Small real SavedModels, good ones and each bad in one way."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from haldane import wire

ONE = np.ones(1, np.float32)
_SavedModel = wire.message("tensorflow.SavedModel")


def linear(path: Path, *names: str, score: Callable[[Any], Any] = tf.nn.relu, learned: bool = True) -> Path:
    """A model of the float inputs `names`, each (n,), that gives `score` (n,) of their weighted sum."""
    module = tf.Module()
    module.weight = tf.Variable(2.0) if learned else tf.constant(2.0)
    specs = {name: tf.TensorSpec([None], tf.float32, name) for name in names}
    serve = tf.function(
        lambda columns: {"score": score(module.weight * tf.add_n(list(columns.values())))}, input_signature=[specs]
    )
    module.serve = serve
    tf.saved_model.save(module, str(path), signatures=serve)
    return path


def affine(path: Path) -> Path:
    """`x` (n,) in, `y` (n,) out, as the sandbox's toy model of that name."""
    module = tf.Module()
    module.weight = tf.Variable(10.0)
    module.serve = tf.function(
        lambda x: {"y": module.weight * x}, input_signature=[tf.TensorSpec([None], tf.float32, "x")]
    )
    tf.saved_model.save(module, str(path), signatures=module.serve)
    return path


def strings(path: Path) -> Path:
    """A model that reads a number from the text of its one input `text` (n,), and so cannot read "" ."""
    module = tf.Module()
    module.weight = tf.Variable(2.0)
    module.serve = tf.function(
        lambda text: {"score": module.weight * tf.strings.to_number(text)},
        input_signature=[tf.TensorSpec([None], tf.string, "text")],
    )
    tf.saved_model.save(module, str(path), signatures=module.serve)
    return path


def edit(path: Path, change: Callable[[Any], object]) -> Path:
    """Lets `change` edit the MetaGraphDef of a SavedModel in place."""
    file = path / "saved_model.pb"
    saved = _SavedModel.FromString(file.read_bytes())
    change(saved.meta_graphs[0])
    file.write_bytes(saved.SerializeToString())
    return path


def rename_operations(graph: Any, old: str, new: str) -> None:
    """Gives every operation `old`, inside functions too, another name."""
    for nodes in (graph.graph_def.node, *(each.node_def for each in graph.graph_def.library.function)):
        for node in nodes:
            if node.op == old:
                node.op = new
