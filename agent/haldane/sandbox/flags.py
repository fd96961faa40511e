"""The real server's command line: same names, syntax, defaults and manners.

`--name=value`; booleans also bare `--name`. An argument nobody knows is named
on standard output and the server starts all the same; only a value that cannot
be read ends it. Besides the real flags there are two of the sandbox's own,
`--executor` and `--admin_port`.

Source: model_servers/main.cc, tensorflow/core/util/command_line_flags.cc.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Value = bool | int | float | str
_CPUS = os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag: its type is that of its default."""

    name: str
    default: Value
    text: str
    bits: int = 32  # of an integer

    @property
    def kind(self) -> str:
        if isinstance(self.default, bool):
            return "bool"
        if isinstance(self.default, int):
            return f"int{self.bits}"
        return "float" if isinstance(self.default, float) else "string"


FLAGS = (
    Flag("port", 8500, "TCP port to listen on for gRPC/HTTP API. Disabled if port set to zero."),
    Flag("grpc_socket_path", "", "If non-empty, listen to a UNIX socket for gRPC API on the given path."),
    Flag("rest_api_port", 0, "Port to listen on for HTTP/REST API. If set to zero HTTP/REST API will not be exported."),
    Flag("rest_api_num_threads", 4 * _CPUS, "Number of threads for HTTP/REST API processing."),
    Flag("rest_api_timeout_in_ms", 30000, "Timeout for HTTP/REST API calls."),
    Flag("rest_api_enable_cors_support", False, "Enable CORS headers in response."),
    Flag("enable_batching", False, "enable batching"),
    Flag("allow_version_labels_for_unavailable_models", False, "Labels may name versions that are not available yet."),
    Flag("batching_parameters_file", "", "If non-empty, read an ascii BatchingParameters protobuf from the file."),
    Flag("enable_per_model_batching_parameters", False, "Read batching_params.pbtxt from the version directory."),
    Flag("model_config_file", "", "If non-empty, read an ascii ModelServerConfig protobuf from the file."),
    Flag("model_config_file_poll_wait_seconds", 0, "Interval between re-reads of model_config_file; 0: read once."),
    Flag("model_name", "default", "name of model (ignored if --model_config_file flag is set)"),
    Flag("model_base_path", "", "path to export (ignored if --model_config_file flag is set, otherwise required)"),
    Flag("num_load_threads", 0, "Threads used to load servables; 0: load in the manager's own thread."),
    Flag("num_unload_threads", 0, "Threads used to unload servables; 0: unload in the manager's own thread."),
    Flag("max_num_load_retries", 5, "maximum number of times it retries loading a model after the first failure"),
    Flag("load_retry_interval_micros", 60_000_000, "The interval, in microseconds, between load retries.", bits=64),
    Flag("file_system_poll_wait_seconds", 1, "Interval between polls of the file system; 0: poll once."),
    Flag("flush_filesystem_caches", True, "accepted; there is nothing to flush"),
    Flag("tensorflow_session_parallelism", 0, "Threads of a session, within and between operations.", bits=64),
    Flag("tensorflow_intra_op_parallelism", 0, "Threads within one operation.", bits=64),
    Flag("tensorflow_inter_op_parallelism", 0, "Threads between operations.", bits=64),
    Flag("use_alts_credentials", False, "accepted; ALTS is not available here"),
    Flag("ssl_config_file", "", "If non-empty, read an ascii SSLConfig protobuf from the file: secure gRPC."),
    Flag("platform_config_file", "", "If non-empty, read an ascii PlatformConfigMap protobuf from the file."),
    Flag("per_process_gpu_memory_fraction", 0.0, "accepted; CPU only"),
    Flag("saved_model_tags", "serve", "Comma-separated set of tags of the meta graph def to load."),
    Flag("grpc_channel_arguments", "", "Comma separated arguments for the gRPC server (grpc.so_reuseport=0)."),
    Flag("grpc_max_threads", 4 * _CPUS, "Max gRPC server threads to handle gRPC messages."),
    Flag("enable_model_warmup", True, "Enables model warmup by assets.extra/tf_serving_warmup_requests."),
    Flag("num_request_iterations_for_warmup", 0, "Times a warmup request is repeated; used only if > 0."),
    Flag("version", False, "Display version"),
    Flag("monitoring_config_file", "", "If non-empty, read an ascii MonitoringConfig protobuf from the file."),
    Flag("remove_unused_fields_from_bundle_metagraph", True, "accepted; no effect"),
    Flag("prefer_tflite_model", False, "accepted; no TFLite here"),
    Flag("num_tflite_pools", 1, "accepted; no TFLite here"),
    Flag("num_tflite_interpreters_per_pool", 1, "accepted; no TFLite here"),
    Flag("enable_signature_method_name_check", False, "Predict insists on a signature's method name."),
    Flag("enable_profiler", True, "accepted; there is no profiler service here"),
    Flag("enable_grpc_healthcheck_service", False, "Enable grpc.health.v1.Health."),
    Flag("enable_serialization_as_tensor_content", False, "Return outputs as tensor_content."),
    Flag("xla_cpu_compilation_enabled", False, "accepted; no effect"),
    Flag("xla_gpu_compilation_enabled", False, "accepted; no effect"),
    Flag("thread_pool_factory_config_file", "", "accepted; no effect"),
    Flag("tensorflow_session_config_file", "", "accepted; no effect"),
    Flag("mixed_precision", "", "accepted; no effect"),
    Flag("skip_initialize_tpu", False, "accepted; no effect"),
    # The sandbox's own.
    Flag("executor", "tensorflow", "sandbox only: what runs the models, tensorflow or toy"),
    Flag("admin_port", 0, "sandbox only: port for faults on request, on 127.0.0.1; 0: none"),
)


@dataclass(frozen=True)
class CommandLine:
    """What was asked for: a value per flag, what nobody knew, and the complaints about values."""

    values: dict[str, Value]
    unknown: tuple[str, ...]
    complaints: tuple[str, ...]

    def __getattr__(self, name: str) -> Any:
        try:
            return self.values[name]
        except KeyError:
            raise AttributeError(name) from None


def parse(argv: Sequence[str]) -> CommandLine:
    """Read arguments (without the program's name) as the real server does. Later flags win."""
    values: dict[str, Value] = {flag.name: flag.default for flag in FLAGS}
    unknown: list[str] = []
    complaints: list[str] = []
    arguments = list(argv)
    while arguments:
        argument = arguments.pop(0)
        if argument == "--":
            unknown += [argument, *arguments]
            break
        flag, text = _split(argument)
        if flag is None:
            unknown.append(argument)
            continue
        value = _read(flag, text)
        if value is None:
            complaints.append(f"Couldn't interpret value {text or ''} for flag {flag.name}.")
        else:
            values[flag.name] = value
    return CommandLine(values, tuple(unknown), tuple(complaints))


def _split(argument: str) -> tuple[Flag | None, str | None]:
    match = re.fullmatch(r"--([^=]*)(?:=(.*))?", argument, re.DOTALL)
    flag = next((flag for flag in FLAGS if match and flag.name == match[1]), None)
    if match is None or flag is None or (match[2] is None and flag.kind != "bool"):
        return None, None
    return flag, match[2]


def _read(flag: Flag, text: str | None) -> Value | None:
    if flag.kind == "string":
        return text
    if flag.kind == "bool":
        return {"true": True, "1": True, "false": False, "0": False}.get("true" if text is None else text.lower())
    text = text or ""
    if flag.kind == "float":
        return _read_float(text)
    if not re.fullmatch(r"\s*[+-]?\d+\s*", text, re.ASCII):
        return None
    value = int(text)
    return value if -(2 ** (flag.bits - 1)) <= value < 2 ** (flag.bits - 1) else None


def _read_float(text: str) -> float | None:
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


def usage() -> str:
    """The list of flags, in the real server's layout."""
    lines = ["usage: ./tensorflow_model_server", "Flags:"]
    for flag in FLAGS:
        default = str(flag.default).lower() if isinstance(flag.default, bool) else str(flag.default)
        if flag.kind == "string":
            default = f'"{default}"'
        lines.append(f"\t{f'--{flag.name}={default}':<33}\t{flag.kind}\t{flag.text}")
    return "\n".join(lines) + "\n"
