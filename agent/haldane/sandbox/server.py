"""The process: flags, start-up order, file polling, exit codes.

Parse the config, load everything (labels, then sources, then wait), and only
then open the gRPC port, and after it the REST port. Any failure on the way is
one error line and exit status 255. There is no signal handler: SIGTERM kills at
once, requests in flight are lost.

Source: model_servers/main.cc, model_servers/server.cc.
"""

import signal
import sys
import threading
import time
from collections.abc import Sequence
from importlib import metadata
from typing import Any, NoReturn

import grpc

from haldane import wire
from haldane.sandbox import admin, execution, grpc_api, log, textconfig
from haldane.sandbox.core import ServerCore
from haldane.sandbox.faults import Faults, FaultyExecutor
from haldane.sandbox.flags import CommandLine, parse, usage
from haldane.sandbox.harness import Retries
from haldane.sandbox.http_server import HttpServer
from haldane.sandbox.inference import Inference, Runner
from haldane.sandbox.metrics import Metrics
from haldane.sandbox.rest import RestApi
from haldane.sandbox.servable import StatusError

FAILED = 255  # exit(-1)
DEFAULT_METRICS_PATH = "/monitoring/prometheus/metrics"  # util/prometheus_exporter.cc
_INVALID = grpc.StatusCode.INVALID_ARGUMENT


def main(argv: Sequence[str] | None = None) -> int:
    """Run a server in the foreground; returns only when it cannot start, with the exit status."""
    default_signals()
    flags = parse(sys.argv[1:] if argv is None else argv)
    for complaint in flags.complaints:
        log.error(complaint)
    if flags.complaints or flags.unknown[:1] == ("--help",):
        sys.stdout.write(usage())
        return FAILED
    if flags.version:
        sys.stdout.write(version_text())
        return 0
    if flags.unknown:
        sys.stdout.write(f"unknown argument: {flags.unknown[0]}\n{usage()}")
        sys.stdout.flush()
    try:
        server = Server(flags)
    except StatusError as failure:
        log.error(f"Failed to start server. Error: {failure}")
        return FAILED
    server.wait()


def default_signals() -> None:
    """Every ending signal kills at once, as a process without handlers."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def version_text() -> str:
    """What --version prints."""
    try:
        library = metadata.version("tensorflow")
    except metadata.PackageNotFoundError:
        library = "not installed"
    return f"TensorFlow ModelServer: haldane-sandbox {metadata.version('haldane')}\nTensorFlow Library: {library}\n"


def check(flags: CommandLine) -> None:
    """StatusError for combinations that the real server refuses before it does anything."""
    if flags.port == 0 and not flags.grpc_socket_path:
        raise StatusError(
            _INVALID,
            "At least one of server_options.grpc_port or server_options.grpc_socket_path must be set.",
        )
    if flags.use_alts_credentials and flags.ssl_config_file:
        raise StatusError(_INVALID, "Either use_alts_credentials must be false or ssl_config_file must be empty.")
    if not flags.model_base_path and not flags.model_config_file:
        raise StatusError(
            _INVALID, "Both server_options.model_base_path and server_options.model_config_file are empty!"
        )


def check_batching(flags: CommandLine) -> None:
    """StatusError for batching parameters without batching; looked at only after the model config."""
    if flags.batching_parameters_file and not flags.enable_batching and not flags.platform_config_file:
        raise StatusError(
            _INVALID,
            "server_options.batching_parameters_file is set without setting server_options.enable_batching to true.",
        )


def check_sessions(flags: CommandLine) -> None:
    """StatusError when session parallelism is given as a whole and in both parts."""
    parts = (flags.tensorflow_intra_op_parallelism, flags.tensorflow_inter_op_parallelism)
    if min(*parts, flags.tensorflow_session_parallelism) > 0 and not flags.platform_config_file:
        raise StatusError(
            _INVALID,
            "Either configure server_options.tensorflow_session_parallelism or "
            "(server_options.tensorflow_intra_op_parallelism, server_options.tensorflow_inter_op_parallelism) "
            "separately. You cannot configure all.",
        )


def model_config(flags: CommandLine) -> Any:
    """The ModelServerConfig that the flags give or point to."""
    if flags.model_config_file:
        return textconfig.read(flags.model_config_file, wire.ModelServerConfig())
    log.info(
        f"Building single TensorFlow model file config:  model_name: {flags.model_name} "
        f"model_base_path: {flags.model_base_path}"
    )
    config = wire.ModelServerConfig()
    config.model_config_list.config.add(
        name=flags.model_name, base_path=flags.model_base_path, model_platform="tensorflow"
    )
    return config


def metrics_path(monitoring_config_file: str) -> str | None:
    """Where the metrics page is; None when monitoring is not enabled."""
    if not monitoring_config_file:
        return None
    config = textconfig.read(monitoring_config_file, textconfig.message("MonitoringConfig")).prometheus_config
    return (config.path or DEFAULT_METRICS_PATH) if config.enable else None


class Server:
    """One running server; making it blocks until every configured model has settled."""

    def __init__(self, flags: CommandLine) -> None:
        check(flags)
        config = model_config(flags)
        check_batching(flags)
        check_sessions(flags)
        known_platforms = execution.platforms(flags)
        self.metrics = Metrics()
        self.faults = Faults(flags.port)
        self._flags = flags
        self._runner = Runner(
            metrics=self.metrics,
            tensor_content=flags.enable_serialization_as_tensor_content,
            check_method_names=flags.enable_signature_method_name_check,
        )
        executor = execution.make_executor(flags, self.metrics, self._runner)
        if flags.admin_port:
            # Before the models load, so that loads too can be disturbed.
            _open_admin(flags.admin_port, self.faults)
            executor = FaultyExecutor(executor, self.faults)
        self.core = ServerCore(
            executor,
            retries=Retries(flags.max_num_load_retries, flags.load_retry_interval_micros / 1e6),
            load_threads=flags.num_load_threads,
            unload_threads=flags.num_unload_threads,
            poll_seconds=flags.file_system_poll_wait_seconds,
            allow_unavailable_labels=flags.allow_version_labels_for_unavailable_models,
            platforms=known_platforms,
        )
        self.inference = Inference(self.core, self._runner)
        self.core.reload(config)
        if flags.model_config_file and flags.model_config_file_poll_wait_seconds > 0:
            threading.Thread(target=self._poll_config, name="config_poll", daemon=True).start()
        self._open_ports()

    def _open_ports(self) -> None:
        flags = self._flags
        services = grpc_api.Services(
            self.core,
            self.inference,
            self.metrics,
            max_threads=flags.grpc_max_threads,
            health=flags.enable_grpc_healthcheck_service,
            faults=self.faults,
        )
        self._grpc = grpc_api.start([services], flags, grpc_api.credentials(flags.ssl_config_file))
        self._rest = self._open_rest()

    def _open_rest(self) -> Any:
        """The REST server, or None when it is off or cannot be opened, which the real server only logs."""
        flags = self._flags
        if not flags.rest_api_port:
            return None
        if flags.rest_api_port == flags.port:
            log.error(
                "server_options.http_port cannot be same as grpc_port. Please use a different port for HTTP/REST API. "
                "Skipped exporting HTTP/REST API."
            )
            return None
        api = RestApi(
            self.inference,
            self.core.model_status,
            self.metrics,
            metrics_path=metrics_path(flags.monitoring_config_file),
            timeout_seconds=flags.rest_api_timeout_in_ms / 1000,
            cors=flags.rest_api_enable_cors_support,
        )
        try:
            return HttpServer(api.handle, port=flags.rest_api_port, threads=flags.rest_api_num_threads)
        except OSError:
            log.error(f"Failed to start HTTP Server at localhost:{flags.rest_api_port}")
            return None

    def _poll_config(self) -> None:
        """Apply the config file every period, changed or not; failures are logged and forgotten."""
        path, period = self._flags.model_config_file, self._flags.model_config_file_poll_wait_seconds
        while True:
            started = time.monotonic()
            self._apply_config_file(path)
            time.sleep(max(0.0, period - (time.monotonic() - started)))

    def _apply_config_file(self, path: str) -> None:
        try:
            config = textconfig.read(path, wire.ModelServerConfig())
        except StatusError as failure:
            log.error(f"PollFilesystemAndReloadConfig failed to ReadProtoFile: {path} with status {failure}")
            return
        try:
            self.core.reload(config)
        except StatusError as failure:
            log.error(f"PollFilesystemAndReloadConfig failed to ReloadConfig: {failure}")

    def wait(self) -> NoReturn:
        """Serve until a signal ends the process."""
        while True:
            signal.pause()


def _open_admin(port: int, faults: Faults) -> None:
    try:
        admin.start(port, faults)
    except OSError as failure:
        raise StatusError(_INVALID, f"--admin_port={port} cannot be opened: {failure.strerror}") from failure
