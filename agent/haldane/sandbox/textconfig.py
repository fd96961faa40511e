"""The small text-format config files whose messages no pip package ships.

Belongs here: the shapes of SSLConfig, MonitoringConfig and BatchingParameters,
as real protobuf messages in a pool of their own, so that protobuf's own parser
reads them, and the reading of any such file with the real server's complaints.

Source: config/ssl_config.proto, config/monitoring_config.proto,
servables/tensorflow/session_bundle_config.proto.
"""

from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2

from haldane import wire
from haldane.sandbox import log
from haldane.sandbox.servable import StatusError

_FIELD = descriptor_pb2.FieldDescriptorProto
_PACKAGE = ".tensorflow.serving."
_KINDS = {"string": _FIELD.TYPE_STRING, "bool": _FIELD.TYPE_BOOL, "int64": _FIELD.TYPE_INT64}

_SHAPES: dict[str, dict[str, tuple[int, str]]] = {
    "SSLConfig": {
        "server_key": (1, "string"),
        "server_cert": (2, "string"),
        "custom_ca": (3, "string"),
        "client_verify": (4, "bool"),
    },
    "PrometheusConfig": {"enable": (1, "bool"), "path": (2, "string")},
    "MonitoringConfig": {"prometheus_config": (1, _PACKAGE + "PrometheusConfig")},
    "BatchingParameters": {
        "max_batch_size": (1, ".google.protobuf.Int64Value"),
        "batch_timeout_micros": (2, ".google.protobuf.Int64Value"),
        "max_enqueued_batches": (3, ".google.protobuf.Int64Value"),
        "num_batch_threads": (4, ".google.protobuf.Int64Value"),
        "thread_pool_name": (5, ".google.protobuf.StringValue"),
        "allowed_batch_sizes": (6, "repeated int64"),
        "pad_variable_length_inputs": (7, "bool"),
        "enable_large_batch_splitting": (8, ".google.protobuf.BoolValue"),
        "max_execution_batch_size": (9, ".google.protobuf.Int64Value"),
    },
}


def _pool() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    wrappers = descriptor_pb2.FileDescriptorProto()
    wrappers_pb2.DESCRIPTOR.CopyToProto(wrappers)
    pool.Add(wrappers)
    file = descriptor_pb2.FileDescriptorProto(
        name="sandbox_config.proto", package="tensorflow.serving", syntax="proto3", dependency=[wrappers.name]
    )
    for name, fields in _SHAPES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            word = kind.removeprefix("repeated ")
            label = _FIELD.LABEL_OPTIONAL if word == kind else _FIELD.LABEL_REPEATED
            added = message.field.add(name=field, number=number, label=label)
            added.type = _KINDS.get(word, _FIELD.TYPE_MESSAGE)
            if word not in _KINDS:
                added.type_name = word
    pool.Add(file)
    return pool


_POOL = _pool()


def message(name: str) -> Any:
    """An empty SSLConfig, MonitoringConfig or BatchingParameters."""
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName("tensorflow.serving." + name))()


def read_bytes(path: str) -> bytes:
    """The file's bytes; StatusError NOT_FOUND and the like with the real server's texts."""
    try:
        data = Path(path).read_bytes()
    except OSError as failure:
        missing = isinstance(failure, FileNotFoundError)
        code = grpc.StatusCode.NOT_FOUND if missing else grpc.StatusCode.UNKNOWN
        raise StatusError(code, f"{path}; {failure.strerror}") from failure
    if not data:  # the real server maps files into memory, which an empty one refuses
        raise StatusError(grpc.StatusCode.INVALID_ARGUMENT, f"{path}; Invalid argument")
    return data


def read(path: str, into: Any) -> Any:
    """The text-format message in a file; StatusError when it cannot be read or is not one."""
    data = read_bytes(path)
    try:
        text_format.Parse(data.decode("utf-8", "replace"), into, descriptor_pool=wire.POOL)
    except text_format.ParseError as failure:
        log.error(f"Error parsing text-format {into.DESCRIPTOR.full_name}: {failure}")
        code = grpc.StatusCode.INVALID_ARGUMENT
        raise StatusError(code, f"Invalid protobuf file: '{path}'") from failure
    return into
