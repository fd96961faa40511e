"""The REST API and the metrics page: one HTTP request in, one response out.

Owns paths, methods, bodies and counters; `http_server` owns connections.

Source: model_servers/http_server.cc, http_rest_api_handler.cc,
http_rest_api_util.cc; util/net_http/server/internal/evhttp_server.cc.
"""

import re
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes

import grpc

from haldane import wire
from haldane.sandbox import json_examples, json_predictions, json_tensor, json_write
from haldane.sandbox.inference import Inference
from haldane.sandbox.metrics import Metrics
from haldane.sandbox.servable import StatusError

_API_PATH = re.compile(r"(?is)/v1/.*")
_MODEL = r"(?i)/v1/models"
_CHOICE = r"(?:(?:/versions/([0-9]+))|(?:/labels/([^/:]+)))?"
_PREDICTION = re.compile(rf"{_MODEL}/([^/:]+){_CHOICE}:(classify|regress|predict)")
_STATUS = re.compile(rf"{_MODEL}(?:/([^/:]+))?{_CHOICE}(?:/(metadata))?")
_PCHARS = r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/{}]|%[0-9A-Fa-f]{{2}})*"
_URI = re.compile(
    rf"(?:[A-Za-z][A-Za-z0-9+.\-]*:)?(?://[^/?#]*)?({_PCHARS.format('')})"
    rf"(\?{_PCHARS.format('?')})?(#{_PCHARS.format('?')})?"
)
_METHODS = ("GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH")
_MAX_UNCOMPRESSED = 100 << 20
_INT64_MAX = 2**63 - 1

_JSON = ("Content-Type", "application/json")
_CORS = (
    ("Access-Control-Allow-Origin", "*"),
    ("Access-Control-Allow-Methods", "POST, GET"),
    ("Access-Control-Allow-Headers", "Content-Type"),
)
_HTTP_STATUS = {
    grpc.StatusCode.OK: 200,
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.UNKNOWN: 500,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DATA_LOSS: 500,
    grpc.StatusCode.UNAUTHENTICATED: 401,
}
# libevent's phrases; what it has none for is named after its class.
_REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    409: "Conflict",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
    504: "Gateway Time-out",
}


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request; header names in lower case."""

    method: str
    target: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Response:
    """One HTTP response; `close` ends the connection after it."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    close: bool = False

    @property
    def reason(self) -> str:
        return _REASONS.get(self.status, "Client Error" if self.status < 500 else "Server Error")


def html_error(status: int) -> Response:
    """libevent's own error page, for what never reaches the API."""
    reason = Response(status, (), b"").reason
    page = f"<HTML><HEAD>\n<TITLE>{status} {reason}</TITLE>\n</HEAD><BODY>\n<H1>{reason}</H1>\n</BODY></HTML>\n"
    return Response(status, (("Content-Type", "text/html"),), page.encode(), close=True)


def _malformed(request: Request, target: str) -> StatusError:
    return json_tensor.invalid(f"Malformed request: {request.method} {target}")


class _Unanswered(Exception):
    """A refusal without a body."""

    def __init__(self, cause: StatusError) -> None:
        super().__init__(cause.message)
        self.cause = cause


@dataclass(slots=True)
class _Call:
    """What became known of a request on the way, for its counters."""

    model: str = ""
    api: str = ""


class RestApi:
    """Answers requests; safe from any thread.

    `model_status` is the GetModelStatus call; `metrics_path` is None when
    monitoring is not enabled.
    """

    def __init__(
        self,
        inference: Inference,
        model_status: Callable[[Any], Any],
        metrics: Metrics,
        *,
        metrics_path: str | None = None,
        timeout_seconds: float = 30,
        cors: bool = False,
    ) -> None:
        self._inference, self._model_status, self._metrics = inference, model_status, metrics
        self._metrics_path, self._timeout, self._cors = metrics_path, timeout_seconds, cors

    def handle(self, request: Request) -> Response:
        """The response to any request whatever."""
        if request.method not in _METHODS:
            return html_error(501)
        parts = _URI.fullmatch(request.target)
        if parts is None:
            return html_error(400)
        path = parts[1] or "/"
        target = path + (parts[2] or "") + (parts[3] or "")
        if path == self._metrics_path:
            return self._metrics_page(target)
        if _API_PATH.fullmatch(target):
            return self._answer(request, target)
        return html_error(404)

    def _metrics_page(self, target: str) -> Response:
        headers = (("Content-Type", "text/plain"),)
        if target != self._metrics_path:
            text = f"Unexpected path: {target}. Should be {self._metrics_path}"
            return Response(400, headers, text.encode())
        return Response(200, headers, self._metrics.page().encode())

    def _answer(self, request: Request, target: str) -> Response:
        call, started = _Call(), time.perf_counter()
        headers: tuple[tuple[str, str], ...] = (_JSON,)
        code, body = grpc.StatusCode.OK, b""
        try:
            if request.method == "OPTIONS":
                headers = (("Content-Type", "text/html; charset=ISO-8859-1"),)
                raise _Unanswered(_malformed(request, target))
            body = self._process(request, target, call)
        except _Unanswered as refusal:
            code = refusal.cause.code
        except StatusError as failure:
            code, body = failure.code, json_write.error(failure.message)
        self._count(call, code, started)
        return Response(_HTTP_STATUS.get(code, 500), (*headers, *(_CORS if self._cors else ())), body)

    def _count(self, call: _Call, code: grpc.StatusCode, started: float) -> None:
        if code is grpc.StatusCode.OK:
            micros = (time.perf_counter() - started) * 1e6
            self._metrics.observe_request_latency(call.model, call.api, "REST", micros)
        self._metrics.count_request(call.model, code.name)

    def _process(self, request: Request, target: str, call: _Call) -> bytes:
        pattern = {"POST": _PREDICTION, "GET": _STATUS}.get(request.method)
        match = pattern.fullmatch(target) if pattern else None
        if match is None:
            raise _malformed(request, target)
        spec = wire.ModelSpec(name=_decoded(match[1] or ""))
        call.model = spec.name
        _choose(spec, match[2], match[3])
        if request.method == "GET":
            return self._look_up(spec, match[4])
        call.api = match[4]
        if call.api not in ("predict", "classify", "regress"):  # the path matches in any case, the verb does not
            raise _malformed(request, target)
        body = _plain_body(request)
        run = {"predict": self._predict, "classify": self._classify, "regress": self._regress}[call.api]
        return run(spec, body)

    def _look_up(self, spec: Any, subresource: str | None) -> bytes:
        if not spec.name:
            raise json_tensor.invalid("Missing model name in request.")
        if subresource == "metadata":  # in another case it matches the path, but asks for the status
            return self._metadata(spec)
        return json_write.message(self._model_status(wire.GetModelStatusRequest(model_spec=spec))).encode()

    def _metadata(self, spec: Any) -> bytes:
        request = wire.GetModelMetadataRequest(model_spec=spec, metadata_field=["signature_def"])
        response = self._inference.get_model_metadata(request)
        signatures = wire.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        return (
            f'{{\n"model_spec":{json_write.message(response.model_spec)},\n'
            f'"metadata": {{"signature_def": {json_write.message(signatures)}}}\n}}\n'
        ).encode()

    def _predict(self, spec: Any, body: bytes) -> bytes:
        request = wire.PredictRequest(model_spec=spec)
        layout = json_tensor.fill_predict_request(
            body, request, lambda signature: self._inference.input_infos(spec, signature)
        )
        response = self._inference.predict(request, self._timeout)
        return json_predictions.predict_body(response.outputs, layout)

    def _classify(self, spec: Any, body: bytes) -> bytes:
        request = wire.ClassificationRequest(model_spec=spec)
        json_examples.fill_examples_request(body, request)
        return json_examples.classification_body(self._inference.classify(request, self._timeout).result)

    def _regress(self, spec: Any, body: bytes) -> bytes:
        request = wire.RegressionRequest(model_spec=spec)
        json_examples.fill_examples_request(body, request)
        return json_examples.regression_body(self._inference.regress(request, self._timeout).result)


def _decoded(text: str) -> str:
    return unquote_to_bytes(text).decode("utf-8", "replace")


def _choose(spec: Any, version: str | None, label: str | None) -> None:
    if version:
        number = int(version) if len(version) < 40 else _INT64_MAX + 1
        if number > _INT64_MAX:
            raise _Unanswered(json_tensor.invalid(f"Failed to convert version: {version} to numeric."))
        spec.version.value = number
        spec.version.SetInParent()
    if label:
        spec.version_label = _decoded(label)


def _plain_body(request: Request) -> bytes:
    """The body, uncompressed; empty when it claims to be gzip and is not, or grows too long."""
    if "gzip" not in request.headers.get("content-encoding", ""):
        return request.body
    expander = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        plain = expander.decompress(request.body, _MAX_UNCOMPRESSED)
    except zlib.error:
        return b""
    return plain if expander.eof else b""
