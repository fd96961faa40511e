"""TensorFlow Serving's messages, without TensorFlow.

`tensorflow_serving.apis` imports all of TensorFlow (about 4 s and 550 MB). This
module builds the same message classes from a descriptor set in a descriptor
pool of its own (0.1 s, 15 MB), so they do not clash with TensorFlow's when both
are in one process. It owns the messages and the method paths; no I/O beyond
reading its package data.

Source: tensorflow-serving-api (Apache-2.0, see NOTICE); regenerate with
tools/make_descriptor_set.py.
"""

from importlib import resources
from typing import Any, NamedTuple

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory


def _load_pool() -> descriptor_pool.DescriptorPool:
    data = resources.files("haldane").joinpath("serving_protos.binpb").read_bytes()
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(data).file:
        pool.Add(file)
    pool.Add(_outer_file())
    return pool


def _outer_file() -> descriptor_pb2.FileDescriptorProto:
    """`haldane.Head` and `haldane.Reply`: the outermost fields of a message, as bytes.

    Every request of PredictionService, and the answer to GetModelMetadata, has
    its ModelSpec in field 1; every answer to a prediction has its outputs in
    field 1 and the ModelSpec in field 2. What they cost does not depend on what
    the tensors hold. A message that occurs twice is merged by joining its bytes.
    """
    kind = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="haldane/outer.proto", package="haldane", syntax="proto3")
    head, reply = file.message_type.add(name="Head"), file.message_type.add(name="Reply")
    for message, name, number in ((head, "model_spec", 1), (reply, "outputs", 1), (reply, "model_spec", 2)):
        message.field.add(name=name, number=number, type=kind.TYPE_BYTES, label=kind.LABEL_REPEATED)
    return file


POOL = _load_pool()


def message(full_name: str) -> Any:
    """The message class of that full name, e.g. "tensorflow.serving.PredictRequest"; KeyError when unknown."""
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(full_name))


def _serving(name: str) -> Any:
    return message("tensorflow.serving." + name)


ModelSpec = _serving("ModelSpec")
PredictRequest, PredictResponse = _serving("PredictRequest"), _serving("PredictResponse")
ClassificationRequest, ClassificationResponse = _serving("ClassificationRequest"), _serving("ClassificationResponse")
RegressionRequest, RegressionResponse = _serving("RegressionRequest"), _serving("RegressionResponse")
MultiInferenceRequest, MultiInferenceResponse = _serving("MultiInferenceRequest"), _serving("MultiInferenceResponse")
GetModelMetadataRequest = _serving("GetModelMetadataRequest")
GetModelMetadataResponse = _serving("GetModelMetadataResponse")
GetModelStatusRequest, GetModelStatusResponse = _serving("GetModelStatusRequest"), _serving("GetModelStatusResponse")
ReloadConfigRequest, ReloadConfigResponse = _serving("ReloadConfigRequest"), _serving("ReloadConfigResponse")
ModelServerConfig, ModelConfig = _serving("ModelServerConfig"), _serving("ModelConfig")
SignatureDefMap, PredictionLog = _serving("SignatureDefMap"), _serving("PredictionLog")
Input, StatusProto = _serving("Input"), _serving("StatusProto")
TensorProto, Example = message("tensorflow.TensorProto"), message("tensorflow.Example")
SavedModel, SignatureDef = message("tensorflow.SavedModel"), message("tensorflow.SignatureDef")
HealthCheckRequest = message("grpc.health.v1.HealthCheckRequest")
HealthCheckResponse = message("grpc.health.v1.HealthCheckResponse")
Head, Reply = message("haldane.Head"), message("haldane.Reply")


class Method(NamedTuple):
    """One unary gRPC method: its full path and its two message classes."""

    path: str
    request: Any
    response: Any


_PREDICTION = "/tensorflow.serving.PredictionService/"
_MODEL = "/tensorflow.serving.ModelService/"
PREDICT = Method(_PREDICTION + "Predict", PredictRequest, PredictResponse)
CLASSIFY = Method(_PREDICTION + "Classify", ClassificationRequest, ClassificationResponse)
REGRESS = Method(_PREDICTION + "Regress", RegressionRequest, RegressionResponse)
MULTI_INFERENCE = Method(_PREDICTION + "MultiInference", MultiInferenceRequest, MultiInferenceResponse)
GET_MODEL_METADATA = Method(_PREDICTION + "GetModelMetadata", GetModelMetadataRequest, GetModelMetadataResponse)
GET_MODEL_STATUS = Method(_MODEL + "GetModelStatus", GetModelStatusRequest, GetModelStatusResponse)
RELOAD_CONFIG = Method(_MODEL + "HandleReloadConfigRequest", ReloadConfigRequest, ReloadConfigResponse)
HEALTH_CHECK = Method("/grpc.health.v1.Health/Check", HealthCheckRequest, HealthCheckResponse)
