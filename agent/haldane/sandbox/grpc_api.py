"""The gRPC door: services, the thread quota, listeners and credentials.

Source: model_servers/server.cc, prediction_service_impl.cc,
model_service_impl.cc, grpc_status_util.cc.
"""

import re
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from haldane import wire
from haldane.sandbox import log, textconfig
from haldane.sandbox.core import ServerCore
from haldane.sandbox.faults import Faults
from haldane.sandbox.flags import CommandLine
from haldane.sandbox.inference import Inference
from haldane.sandbox.metrics import Metrics
from haldane.sandbox.servable import StatusError

_MESSAGE_LIMIT = 1024  # grpc_status_util.cc, kErrorMessageLimit
_SERVING = 1
_HEALTHY = ("", "ModelService", "PredictionService")
_SPARE_WORKERS = 8  # beyond the quota, so that refusals find a thread

Call = Callable[[Any, float | None], Any]


def truncated(message: str) -> str:
    """A message as gRPC carries it: cut after 1024 bytes."""
    data = message.encode()
    if len(data) <= _MESSAGE_LIMIT:
        return message
    return data[:_MESSAGE_LIMIT].decode("utf-8", "ignore") + "...TRUNCATED"


class Services(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """All unary methods of one server.

    A call that finds no free thread is refused at once and counted nowhere;
    one of `max_threads` is the server's own.
    """

    def __init__(
        self,
        core: ServerCore,
        inference: Inference,
        metrics: Metrics,
        *,
        max_threads: int,
        health: bool,
        faults: Faults,
    ) -> None:
        self._core, self._metrics, self._faults = core, metrics, faults
        self._threads = threading.Semaphore(max(0, max_threads - 1))
        self._calls: dict[str, tuple[wire.Method, Call]] = {}
        for method, api, call in (
            (wire.PREDICT, "Predict", inference.predict),
            (wire.CLASSIFY, "Classify", inference.classify),
            (wire.REGRESS, "Regress", inference.regress),
        ):
            self._calls[method.path] = method, self._counted(api, call)
        self._calls[wire.MULTI_INFERENCE.path] = wire.MULTI_INFERENCE, inference.multi_inference
        self._calls[wire.GET_MODEL_METADATA.path] = (
            wire.GET_MODEL_METADATA,
            lambda r, _: inference.get_model_metadata(r),
        )
        self._calls[wire.GET_MODEL_STATUS.path] = wire.GET_MODEL_STATUS, lambda r, _: core.model_status(r)
        self._calls[wire.RELOAD_CONFIG.path] = wire.RELOAD_CONFIG, lambda r, _: self._reload(r)
        self._health = health

    def service(self, handler_call_details: Any) -> Any:
        path = handler_call_details.method
        if self._health and path == wire.HEALTH_CHECK.path:
            return grpc.unary_unary_rpc_method_handler(_check_health)
        method, call = self._calls.get(path, (None, None))
        if method is None or call is None:
            return grpc.unary_unary_rpc_method_handler(_unimplemented)
        return grpc.unary_unary_rpc_method_handler(lambda data, context: self._serve(method, call, data, context))

    def _serve(self, method: wire.Method, call: Call, data: bytes, context: Any) -> bytes:
        if not self._threads.acquire(blocking=False):
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "Server Threadpool Exhausted")
        try:
            request = method.request.FromString(data)
            answer: bytes = call(request, context.time_remaining()).SerializeToString()
            return answer
        except DecodeError:
            context.abort(grpc.StatusCode.INTERNAL, "")
        except StatusError as failure:
            context.abort(failure.code, truncated(failure.message))
        finally:
            self._threads.release()
        raise AssertionError("abort raises")

    def _counted(self, api: str, call: Call) -> Call:
        """The call with its request counters; latency only where it succeeded."""
        metrics = self._metrics

        def counted(request: Any, timeout_seconds: float | None) -> Any:
            model, started = request.model_spec.name, time.perf_counter()
            try:
                response = call(request, timeout_seconds)
            except StatusError as failure:
                metrics.count_request(model, failure.code.name)
                raise
            metrics.count_request(model, "OK")
            metrics.observe_request_latency(model, api, "GRPC", (time.perf_counter() - started) * 1e6)
            return response

        return counted

    def _reload(self, request: Any) -> Any:
        """HandleReloadConfigRequest; the answer counts what the named metrics rose by meanwhile."""
        self._faults.on_reload()
        before = {name: self._metrics.first_value(name) for name in request.metric_names}
        if request.config.WhichOneof("config") != "model_config_list":
            failure = StatusError(
                grpc.StatusCode.INVALID_ARGUMENT,
                "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently "
                "supported",
            )
            log.error(f"ReloadConfig failed: {failure.message}")
            raise failure
        try:
            self._core.reload(request.config)
        except StatusError as failure:
            log.error(f"ReloadConfig failed: {failure.message}")
            raise
        response = wire.ReloadConfigResponse()
        response.status.SetInParent()
        for name in request.metric_names:
            response.metric.add(name=name, int64_value_increase=self._metrics.first_value(name) - before[name])
        return response


def _unimplemented(_: bytes, context: Any) -> bytes:
    context.abort(grpc.StatusCode.UNIMPLEMENTED, "")
    raise AssertionError("abort raises")


def _check_health(data: bytes, context: Any) -> bytes:
    request = wire.HealthCheckRequest.FromString(data)
    if request.service not in _HEALTHY:
        context.abort(grpc.StatusCode.NOT_FOUND, "service name unknown")
    answer: bytes = wire.HealthCheckResponse(status=_SERVING).SerializeToString()
    return answer


def channel_arguments(text: str) -> list[tuple[str, int | str]]:
    """`--grpc_channel_arguments`: "k=v,k=v", 32 bit integers recognised. Items without "=" are skipped."""
    options: list[tuple[str, int | str]] = []
    for item in text.split(","):
        key, *values = item.split("=")
        if values:
            options.append((key, _integer_or_text(values[0])))
    return options


def _integer_or_text(value: str) -> int | str:
    if not re.fullmatch(r"-?[0-9]{1,10}", value):
        return value
    number = int(value)
    return number if -(2**31) <= number < 2**31 else value


def credentials(ssl_config_file: str) -> Any:
    """Server credentials from an SSLConfig file, None for plaintext. An unreadable file ends the process."""
    if not ssl_config_file:
        return None
    try:
        config = textconfig.read(ssl_config_file, textconfig.message("SSLConfig"))
    except StatusError as failure:
        log.fatal(f"Non-OK-status: ParseProtoTextFile<SSLConfig>(file, &ssl_config) Status: {failure}")
    # Without a CA nobody's certificate can be verified. The real server then starts and turns every client away;
    # Python's gRPC insists on roots, and the server's own certificate vouches for no client either.
    roots = config.custom_ca or (config.server_cert if config.client_verify else "")
    return grpc.ssl_server_credentials(
        [(config.server_key.encode(), config.server_cert.encode())],
        root_certificates=roots.encode() or None,
        require_client_auth=config.client_verify,
    )


def start(services: Iterable[Services], flags: CommandLine, credential: Any) -> grpc.Server:
    """Open the listeners that the flags ask for; StatusError when one cannot be opened."""
    server = grpc.server(
        ThreadPoolExecutor(max(1, flags.grpc_max_threads) + _SPARE_WORKERS, thread_name_prefix="grpc"),
        handlers=list(services),
        options=[
            ("grpc.max_receive_message_length", 2**31 - 1),
            ("grpc.max_send_message_length", -1),
            *channel_arguments(flags.grpc_channel_arguments),
        ],
    )
    addresses = [f"0.0.0.0:{flags.port}"] if flags.port else []
    addresses += [f"unix:{flags.grpc_socket_path}"] if flags.grpc_socket_path else []
    for address in addresses:
        try:
            if credential is None:
                server.add_insecure_port(address)
            else:
                server.add_secure_port(address, credential)
        except RuntimeError as failure:
            log.error(str(failure))
            code = grpc.StatusCode.INVALID_ARGUMENT
            raise StatusError(code, "Failed to BuildAndStart gRPC server") from failure
    server.start()
    for address in addresses:
        log.info(f"Running gRPC ModelServer at {address} ...")
    return server
