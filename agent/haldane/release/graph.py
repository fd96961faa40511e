"""What a SavedModel says of itself, read without TensorFlow: tags, signatures, operations, assets.

Source: tensorflow/core/protobuf/saved_model.proto and meta_graph.proto.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from google.protobuf.message import DecodeError

from haldane import wire
from haldane.release.manifest import NotReleasable
from haldane.tensors import Signature, TensorSpec, signatures

TAG = "serve"  # the tag that Serving loads by (saved_model_tags of its flags)
_VARIABLES = frozenset({"VarHandleOp", "VariableV2", "Variable"})
# They call back into the Python program that traced them, which does not exist in Serving.
_PYTHON = frozenset({"PyFunc", "PyFuncStateless", "EagerPyFunc"})
_SavedModel = wire.message("tensorflow.SavedModel")


def read_graph(folder: Path) -> Any:
    """The MetaGraphDef that Serving would load; NotReleasable ("graph") when there is none."""
    file = folder / "saved_model.pb"
    if not file.is_file():
        raise NotReleasable("graph", f"{folder} has no saved_model.pb; is it the directory of one version?")
    try:
        graphs = _SavedModel.FromString(file.read_bytes()).meta_graphs
    except DecodeError:
        raise NotReleasable("graph", "saved_model.pb is not a SavedModel; was it copied to its end?") from None
    for graph in graphs:
        if set(graph.meta_info_def.tags) == {TAG}:
            return graph
    tags = ", ".join("{" + ", ".join(sorted(graph.meta_info_def.tags)) + "}" for graph in graphs) or "no graph at all"
    raise NotReleasable("graph", f"no graph has the one tag {TAG}, by which Serving loads; there is {tags}")


def operations(graph: Any) -> set[str]:
    """The names of all operations, those inside functions too; functions that are called by name are none."""
    functions = graph.graph_def.library.function
    found = {node.op for node in graph.graph_def.node} | {node.op for each in functions for node in each.node_def}
    return found - {function.signature.name for function in functions}


def check_graph(graph: Any, folder: Path, *, frozen: bool) -> None:
    """NotReleasable when Serving would fail to load or run it, or it reaches out of its directory.

    `frozen`: the model has no variables, and that is meant.
    """
    _check_assets(graph)
    used = operations(graph)
    if python := sorted(used & _PYTHON):
        raise NotReleasable("operations", f"the graph calls back into Python ({', '.join(python)}); Serving has none")
    if used & _VARIABLES:
        if not (folder / "variables" / "variables.index").is_file():
            raise NotReleasable("variables", "the graph has variables, but there is no variables/variables.index")
    elif not frozen:
        raise NotReleasable("variables", "the graph has no variables, so nothing learned; if that is meant: --frozen")


def _check_assets(graph: Any) -> None:
    for asset in graph.asset_file_def:
        path = PurePosixPath(asset.filename)
        if path.is_absolute() or ".." in path.parts:
            raise NotReleasable("paths", f"the graph names the asset {asset.filename!r}, outside of its directory")


def signatures_in(graph: Any) -> dict[str, Signature]:
    """The signatures by name; NotReleasable ("signatures") when there is none to call."""
    found = signatures(graph.signature_def)
    if not found:
        raise NotReleasable("signatures", "there is no signature to call; save it with signatures=")
    return found


def broken_promises(served: Mapping[str, Signature], new: Mapping[str, Signature]) -> Iterator[str]:
    """Sentences on what clients of the version now served would miss in the new one. An added output breaks nobody."""
    for name, old in served.items():
        if name not in new:
            yield f"signature {name} is gone"
            continue
        yield from _broken(f"{name}: input", old.inputs, new[name].inputs, given=True)
        yield from _broken(f"{name}: output", old.outputs, new[name].outputs, given=False)
        for key in sorted(set(new[name].inputs) - set(old.inputs)):
            yield f"{name}: input {key} is new, and today's clients do not send it"


def _broken(what: str, old: Mapping[str, TensorSpec], new: Mapping[str, TensorSpec], *, given: bool) -> Iterator[str]:
    for key, before in old.items():
        if key not in new:
            yield f"{what} {key} is gone"
        elif new[key].dtype != before.dtype:
            yield f"{what} {key} was {before.type_name}, now {new[key].type_name}"
        elif not (_fits(before.shape, new[key].shape) if given else _fits(new[key].shape, before.shape)):
            yield f"{what} {key} had shape {_shape(before)}, now {_shape(new[key])}"


def _fits(narrow: tuple[int, ...] | None, wide: tuple[int, ...] | None) -> bool:
    """Whether every tensor of the first shape is one of the second; None is any rank, -1 any size."""
    if wide is None:
        return True
    if narrow is None or len(narrow) != len(wide):
        return False
    return all(there in (-1, here) for here, there in zip(narrow, wide, strict=True))


def _shape(spec: TensorSpec) -> str:
    return "unknown" if spec.shape is None else str(tuple("?" if size == -1 else size for size in spec.shape))
