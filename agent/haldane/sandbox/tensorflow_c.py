"""TensorFlow's C API, the few calls that serving a SavedModel needs.

TF Serving links the same C++ runtime; going through its C API gives the
runtime's own codes and texts, sessions that run without the interpreter lock,
and no `import tensorflow` (0.7 s instead of 4 s, 45 MB of memory of its own).
Nothing here creates a thread before the first session, so a process may load
the library and then fork.

Source: tensorflow/c/c_api.h, tensorflow/core/platform/ctstring.h.
"""

import ctypes
import functools
import importlib.util
import os
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from haldane.sandbox import tensors
from haldane.sandbox.servable import StatusError

CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}
_TSTRING_BYTES = 24
_POINTER = ctypes.c_void_p


class Buffer(ctypes.Structure):
    """TF_Buffer."""

    _fields_ = (("data", ctypes.c_void_p), ("length", ctypes.c_size_t), ("deallocator", ctypes.c_void_p))


class Output(ctypes.Structure):
    """TF_Output: one output of one operation."""

    _fields_ = (("operation", ctypes.c_void_p), ("index", ctypes.c_int))


_SLOW = {  # these may take long: called without the interpreter lock
    "TF_LoadSessionFromSavedModel": (
        _POINTER,
        [
            _POINTER,
            _POINTER,
            ctypes.c_char_p,
            ctypes.POINTER(ctypes.c_char_p),
            ctypes.c_int,
            _POINTER,
            ctypes.POINTER(Buffer),
            _POINTER,
        ],
    ),
    "TF_SessionRun": (
        None,
        [
            _POINTER,
            ctypes.POINTER(Buffer),
            ctypes.POINTER(Output),
            ctypes.POINTER(_POINTER),
            ctypes.c_int,
            ctypes.POINTER(Output),
            ctypes.POINTER(_POINTER),
            ctypes.c_int,
            _POINTER,
            ctypes.c_int,
            _POINTER,
            _POINTER,
        ],
    ),
    "TF_CloseSession": (None, [_POINTER, _POINTER]),
    "TF_DeleteSession": (None, [_POINTER, _POINTER]),
    "TF_DeleteGraph": (None, [_POINTER]),
}
_QUICK = {
    "TF_Version": (ctypes.c_char_p, []),
    "TF_NewStatus": (_POINTER, []),
    "TF_DeleteStatus": (None, [_POINTER]),
    "TF_GetCode": (ctypes.c_int, [_POINTER]),
    "TF_Message": (ctypes.c_char_p, [_POINTER]),
    "TF_NewGraph": (_POINTER, []),
    "TF_NewSessionOptions": (_POINTER, []),
    "TF_DeleteSessionOptions": (None, [_POINTER]),
    "TF_SetConfig": (None, [_POINTER, ctypes.c_char_p, ctypes.c_size_t, _POINTER]),
    "TF_NewBuffer": (ctypes.POINTER(Buffer), []),
    "TF_NewBufferFromString": (ctypes.POINTER(Buffer), [ctypes.c_char_p, ctypes.c_size_t]),
    "TF_DeleteBuffer": (None, [ctypes.POINTER(Buffer)]),
    "TF_GraphOperationByName": (_POINTER, [_POINTER, ctypes.c_char_p]),
    "TF_OperationOpType": (ctypes.c_char_p, [_POINTER]),
    "TF_OperationNumOutputs": (ctypes.c_int, [_POINTER]),
    "TF_AllocateTensor": (
        _POINTER,
        [ctypes.c_int, ctypes.POINTER(ctypes.c_int64), ctypes.c_int, ctypes.c_size_t],
    ),
    "TF_DeleteTensor": (None, [_POINTER]),
    "TF_TensorData": (_POINTER, [_POINTER]),
    "TF_TensorByteSize": (ctypes.c_size_t, [_POINTER]),
    "TF_TensorType": (ctypes.c_int, [_POINTER]),
    "TF_NumDims": (ctypes.c_int, [_POINTER]),
    "TF_Dim": (ctypes.c_int64, [_POINTER, ctypes.c_int]),
    "TF_StringInit": (None, [_POINTER]),
    "TF_StringCopy": (None, [_POINTER, ctypes.c_char_p, ctypes.c_size_t]),
    "TF_StringGetDataPointer": (_POINTER, [_POINTER]),
    "TF_StringGetSize": (ctypes.c_size_t, [_POINTER]),
}


class Library:
    """The functions above, as attributes without their TF_ prefix."""

    def __init__(self, path: Path) -> None:
        slow, quick = ctypes.CDLL(str(path)), ctypes.PyDLL(str(path))
        for handle, functions in ((slow, _SLOW), (quick, _QUICK)):
            for name, (result, arguments) in functions.items():
                function = getattr(handle, name)
                function.restype, function.argtypes = result, arguments
                setattr(self, name.removeprefix("TF_"), function)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


@functools.cache
def library() -> Library:
    """The installed TensorFlow's runtime, loaded once; ImportError when it is not installed."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    spec = importlib.util.find_spec("tensorflow")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("TensorFlow is not installed: install haldane[sandbox], or use the toy executor")
    path = Path(next(iter(spec.submodule_search_locations))) / "libtensorflow_cc.so.2"
    if not path.exists():
        raise ImportError(f"no TensorFlow runtime at {path}: install a TensorFlow wheel for Linux")
    return Library(path)


def check(lib: Library, status: int) -> None:
    """Raises StatusError with the runtime's own code and text unless the status is OK."""
    code = lib.GetCode(status)
    if code:
        message = (lib.Message(status) or b"").decode("utf-8", "replace")
        raise StatusError(CODES.get(code, grpc.StatusCode.UNKNOWN), message)


def to_tensor(lib: Library, array: tensors.Array) -> int:
    """A TF_Tensor holding a copy of the array; delete it with DeleteTensor."""
    number = tensors.type_number(array)
    shape = array.shape
    dims = (ctypes.c_int64 * len(shape))(*shape)
    if number == tensors.DT_STRING:
        return _to_strings(lib, array, dims)
    size = array.nbytes
    tensor: int = lib.AllocateTensor(number, dims, len(shape), size)
    if size:
        contiguous = array if array.flags.c_contiguous else np.ascontiguousarray(array)
        ctypes.memmove(lib.TensorData(tensor), contiguous.ctypes.data, size)
    return tensor


def _to_strings(lib: Library, array: tensors.Array, dims: Any) -> int:
    tensor: int = lib.AllocateTensor(tensors.DT_STRING, dims, array.ndim, array.size * _TSTRING_BYTES)
    at = lib.TensorData(tensor) or 0
    for value in array.ravel().tolist():
        data = value if isinstance(value, bytes) else str(value).encode()
        lib.StringInit(at)
        lib.StringCopy(at, data, len(data))
        at += _TSTRING_BYTES
    return tensor


def from_tensor(lib: Library, tensor: int) -> tensors.Array:
    """A copy of a TF_Tensor's values."""
    number = lib.TensorType(tensor)
    dtype = tensors.DTYPES.get(number)
    if dtype is None:
        name = tensors.TYPE_NAMES.get(number, number)
        raise StatusError(grpc.StatusCode.UNIMPLEMENTED, f"the sandbox cannot return tensors of type {name}")
    shape = tuple(lib.Dim(tensor, axis) for axis in range(lib.NumDims(tensor)))
    if number == tensors.DT_STRING:
        return _from_strings(lib, tensor, shape)
    size = lib.TensorByteSize(tensor)
    if not size:
        return np.zeros(shape, dtype)
    return np.frombuffer(ctypes.string_at(lib.TensorData(tensor), size), dtype).reshape(shape)


def _from_strings(lib: Library, tensor: int, shape: tuple[int, ...]) -> tensors.Array:
    array = np.empty(int(np.prod(shape, dtype=np.int64)), object)
    at = lib.TensorData(tensor) or 0
    for index in range(array.size):
        array[index] = ctypes.string_at(lib.StringGetDataPointer(at), lib.StringGetSize(at))
        at += _TSTRING_BYTES
    return array.reshape(shape)
