"""Serving's messages without TensorFlow: the same bytes, no clash, and little to load."""

import subprocess
import sys
import textwrap

import pytest

from haldane import wire

pytest.importorskip("tensorflow_serving", reason="tensorflow-serving-api is not installed: install haldane[sandbox]")

FILL = """
def fill(request, Tensor):
    request.model_spec.name = "risk"
    request.model_spec.version_label = "canary"
    request.model_spec.signature_name = "serving_default"
    request.output_filter.append("probabilities")
    for name, values in (("age", [31.0, 62.5]), ("amount", [1000.0, float("nan")])):
        tensor = Tensor(dtype=1)
        tensor.tensor_shape.dim.add(size=2)
        tensor.float_val.extend(values)
        request.inputs[name].CopyFrom(tensor)
    return request.SerializeToString(deterministic=True)
"""

STUB = """
import importlib.util, sys, types
spec = importlib.util.find_spec("tensorflow")
stub = types.ModuleType("tensorflow")
stub.__path__ = list(spec.submodule_search_locations)
sys.modules["tensorflow"] = stub
"""


def run_python(*parts: str) -> str:
    """What a fresh interpreter prints when it runs these pieces one after the other."""
    code = "\n".join(textwrap.dedent(part) for part in parts)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_predict_request_has_the_bytes_of_the_official_package():
    official = run_python(
        STUB,
        FILL,
        """
        from tensorflow.core.framework.tensor_pb2 import TensorProto
        from tensorflow_serving.apis.predict_pb2 import PredictRequest
        print(fill(PredictRequest(), TensorProto).hex())
        """,
    )
    scope: dict[str, object] = {}
    exec(FILL, scope)
    fill = scope["fill"]
    assert callable(fill)
    assert fill(wire.PredictRequest(), wire.TensorProto).hex() == official


def test_our_pool_lives_beside_full_tensorflow_in_one_process():
    said = run_python(
        FILL,
        """
        import os
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
        from haldane import wire
        from tensorflow_serving.apis.predict_pb2 import PredictRequest
        from tensorflow.core.framework.tensor_pb2 import TensorProto
        import tensorflow as tf
        ours, theirs = fill(wire.PredictRequest(), wire.TensorProto), fill(PredictRequest(), TensorProto)
        assert wire.PredictRequest is not PredictRequest
        again = PredictRequest.FromString(ours)
        print(ours == theirs, again.model_spec.version_label, tf.make_ndarray(again.inputs["age"]).tolist())
        """,
    )
    assert said == "True canary [31.0, 62.5]"


def test_importing_the_messages_imports_no_tensorflow():
    said = run_python(
        """
        import sys
        import haldane.wire
        print(sorted(name for name in sys.modules if name.split(".")[0].startswith("tensorflow")))
        """
    )
    assert said == "[]"


@pytest.mark.parametrize(
    "method",
    [
        wire.PREDICT,
        wire.CLASSIFY,
        wire.REGRESS,
        wire.MULTI_INFERENCE,
        wire.GET_MODEL_METADATA,
        wire.GET_MODEL_STATUS,
        wire.RELOAD_CONFIG,
        wire.HEALTH_CHECK,
    ],
    ids=lambda method: method.path.rpartition("/")[2],
)
def test_every_method_path_is_declared_with_the_messages_we_send(method):
    service, _, name = method.path.lstrip("/").partition("/")
    declared = wire.POOL.FindServiceByName(service).FindMethodByName(name)
    assert declared.input_type is method.request.DESCRIPTOR
    assert declared.output_type is method.response.DESCRIPTOR


def test_an_unknown_message_is_a_key_error():
    with pytest.raises(KeyError):
        wire.message("tensorflow.serving.NoSuchMessage")
