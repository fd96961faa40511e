#!/usr/bin/env python3
"""Write agent/haldane/serving_protos.binpb from the installed tensorflow-serving-api.

The agent speaks TensorFlow Serving's messages without TensorFlow: it reads
this descriptor set into a pool of its own. Run this after raising the pinned
version; a test fails while the file and the package differ.

    python tools/make_descriptor_set.py [FILE]
"""

import importlib
import importlib.util
import sys
import types
from pathlib import Path

OUT = Path(__file__).resolve().parent.parent / "agent" / "haldane" / "serving_protos.binpb"
ROOTS = (
    "tensorflow_serving.apis.prediction_service_pb2",
    "tensorflow_serving.apis.model_service_pb2",
    "tensorflow_serving.apis.prediction_log_pb2",
    "tensorflow_serving.config.model_server_config_pb2",
    "tensorflow.core.protobuf.saved_model_pb2",
    "grpc_health.v1.health_pb2",
)


def without_tensorflow() -> None:
    """Let `tensorflow.core.*_pb2` be imported without running tensorflow/__init__.py (4 s, 550 MB)."""
    spec = importlib.util.find_spec("tensorflow")
    if spec is None or spec.submodule_search_locations is None:
        sys.exit("tensorflow is not installed; install haldane[sandbox]")
    stub = types.ModuleType("tensorflow")
    stub.__path__ = list(spec.submodule_search_locations)
    sys.modules["tensorflow"] = stub


def descriptor_set() -> bytes:
    """Every root file after the files it imports, as a serialized FileDescriptorSet."""
    from google.protobuf import descriptor_pb2

    without_tensorflow()
    files: dict[str, descriptor_pb2.FileDescriptorProto] = {}

    def add(descriptor: object) -> None:
        if descriptor.name not in files:  # type: ignore[attr-defined]
            for dependency in descriptor.dependencies:  # type: ignore[attr-defined]
                add(dependency)
            proto = descriptor_pb2.FileDescriptorProto()
            descriptor.CopyToProto(proto)  # type: ignore[attr-defined]
            files[proto.name] = proto

    for root in ROOTS:
        add(importlib.import_module(root).DESCRIPTOR)
    return descriptor_pb2.FileDescriptorSet(file=files.values()).SerializeToString(deterministic=True)


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else OUT
    target.write_bytes(descriptor_set())
    print(f"wrote {target} ({target.stat().st_size} bytes)")
