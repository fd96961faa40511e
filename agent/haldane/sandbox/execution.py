"""What runs the models, as the flags ask for it: executor, batching, warm-up, platforms.

Source: model_servers/server.cc, model_servers/platform_config_util.cc.
"""

import importlib.util
import os
import re
from typing import Any

import grpc

from haldane.sandbox import textconfig
from haldane.sandbox.flags import CommandLine
from haldane.sandbox.inference import Runner
from haldane.sandbox.metrics import Metrics
from haldane.sandbox.servable import Executor, StatusError
from haldane.sandbox.tensors import varint

_INVALID = grpc.StatusCode.INVALID_ARGUMENT


def platforms(flags: CommandLine) -> tuple[str, ...]:
    """The platforms models may ask for; the keys of --platform_config_file, when given."""
    if not flags.platform_config_file:
        return ("tensorflow",)
    text = textconfig.read_bytes(flags.platform_config_file).decode("utf-8", "replace")
    return tuple(re.findall(r'\bkey\s*:\s*"([^"]*)"', text))


def make_executor(flags: CommandLine, metrics: Metrics, runner: Runner) -> Executor:
    """What runs the models; StatusError for an unknown name. Only "tensorflow" loads TensorFlow."""
    if flags.executor == "toy":
        from haldane.sandbox.toy import ToyExecutor

        return ToyExecutor(metrics, _batching(flags, metrics))
    if flags.executor != "tensorflow":
        raise StatusError(_INVALID, f"--executor must be tensorflow or toy, got {flags.executor!r}")
    if importlib.util.find_spec("tensorflow") is None:  # said now, not at the first load
        fix = "pip install 'haldane[sandbox]', or use --executor=toy"
        raise StatusError(grpc.StatusCode.FAILED_PRECONDITION, f"TensorFlow is not installed: {fix}")
    from haldane.sandbox.executor import TensorFlowExecutor

    return TensorFlowExecutor(
        metrics=metrics,
        tags=flags.saved_model_tags.split(","),
        session_config=session_config(flags),
        prepare=_batching(flags, metrics),
        warm_up=_warm_up(flags, runner),
    )


def session_config(flags: CommandLine) -> bytes:
    """A serialized ConfigProto with the parallelism asked for, where a part outdoes the whole; empty when none was."""
    intra, inter = flags.tensorflow_intra_op_parallelism, flags.tensorflow_inter_op_parallelism
    if intra <= 0 and inter <= 0:
        intra = inter = flags.tensorflow_session_parallelism
    numbers = ((b"\x10", intra), (b"\x28", inter))  # intra_op_parallelism_threads, inter_op_parallelism_threads
    return b"".join(tag + varint(number) for tag, number in numbers if number > 0)


def _batching(flags: CommandLine, metrics: Metrics) -> Any:
    """What puts batching before a loaded version, None without --enable_batching."""
    if not flags.enable_batching:
        return None
    from haldane.sandbox import batching

    return batching.from_files(
        flags.batching_parameters_file,
        metrics,
        cpus=os.cpu_count() or 1,
        per_model=flags.enable_per_model_batching_parameters,
    )


def _warm_up(flags: CommandLine, runner: Runner) -> Any:
    if not flags.enable_model_warmup:
        return None
    from haldane.sandbox.warmup import WarmUp

    return WarmUp(runner, iterations=flags.num_request_iterations_for_warmup)
