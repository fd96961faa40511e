"""PredictionService without its transport: request message in, response message out.

Both gRPC and REST call these; every refusal is a StatusError with TF Serving's
code and text. Independent of TensorFlow: the servable behind a handle may be
any executor's. Request counters belong to the callers, because they differ by
entry point; time spent in the session is counted here.

Source: servables/tensorflow/predict_util.cc, predict_impl.cc,
get_model_metadata_impl.cc; tensorflow/cc/saved_model/util.cc.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from haldane import wire
from haldane.sandbox import example_inference, tensors
from haldane.sandbox.metrics import Metrics
from haldane.sandbox.servable import Core, Servable, StatusError

DEFAULT_SIGNATURE = "serving_default"
PREDICT_METHOD = "tensorflow/serving/predict"
_KNOWN_METHODS = (PREDICT_METHOD, example_inference.CLASSIFY_METHOD, example_inference.REGRESS_METHOD)
_SIGNATURE_DEF = "signature_def"


def invalid(message: str) -> StatusError:
    """An INVALID_ARGUMENT with that text."""
    return StatusError(grpc.StatusCode.INVALID_ARGUMENT, message)


def _joined(names: Iterable[str]) -> str:
    return ",".join(sorted(names))


@dataclass(frozen=True, slots=True)
class Runner:
    """Runs requests on one servable; what warm-up and requests have in common."""

    metrics: Metrics | None = None
    tensor_content: bool = False  # outputs in tensor_content instead of their typed field
    check_method_names: bool = False

    def run(
        self,
        servable: Servable,
        feeds: Mapping[str, Any],
        fetches: Sequence[str],
        timeout_seconds: float | None,
        *,
        model: str,
        api: str,
    ) -> dict[str, Any]:
        """One run of the session, its time counted under `api` unless that is empty."""
        started = time.perf_counter()
        outputs = servable.run(feeds, fetches, timeout_seconds=timeout_seconds)
        if api and self.metrics is not None:
            self.metrics.observe_runtime_latency(model, api, (time.perf_counter() - started) * 1e6)
        return outputs

    def predict(self, servable: Servable, request: Any, version: int | None, timeout_seconds: float | None) -> Any:
        """The PredictResponse of one servable."""
        spec = request.model_spec
        name = spec.signature_name or DEFAULT_SIGNATURE
        signature = servable.signatures.get(name)
        if signature is None:
            raise StatusError(grpc.StatusCode.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
        self._check_method(signature)
        feeds = _feeds(signature, request.inputs)
        aliases = _output_aliases(signature, request.output_filter)
        names = [signature.outputs[alias].name for alias in aliases]
        values = self.run(servable, feeds, list(dict.fromkeys(names)), timeout_seconds, model=spec.name, api="Predict")
        response = wire.PredictResponse()
        fill_model_spec(response.model_spec, spec.name, version, name)
        for alias, tensor_name in zip(aliases, names, strict=True):
            tensors.encode(values[tensor_name], response.outputs[alias], as_content=self.tensor_content)
        return response

    def _check_method(self, signature: Any) -> None:
        if self.check_method_names and signature.method_name not in _KNOWN_METHODS:
            raise StatusError(
                grpc.StatusCode.INTERNAL,
                "Expected prediction signature method_name to be one of {"
                + ", ".join(_KNOWN_METHODS)
                + "}. Was: "
                + signature.method_name,
            )

    def classify(self, servable: Servable, request: Any, version: int | None, timeout_seconds: float | None) -> Any:
        """The ClassificationResponse of one servable."""
        return example_inference.classify(self, servable, request, version, timeout_seconds)

    def regress(self, servable: Servable, request: Any, version: int | None, timeout_seconds: float | None) -> Any:
        """The RegressionResponse of one servable."""
        return example_inference.regress(self, servable, request, version, timeout_seconds)

    def multi_inference(
        self, servable: Servable, request: Any, version: int | None, timeout_seconds: float | None
    ) -> Any:
        """The MultiInferenceResponse of one servable."""
        return example_inference.multi_inference(self, servable, request, version, timeout_seconds)


def fill_model_spec(spec: Any, model: str, version: int | None, signature: str) -> None:
    """What comes back in every response: name, the version that answered, the signature; never a label."""
    spec.name = model
    if version is not None:
        spec.version.value = version
        spec.version.SetInParent()
    if signature:
        spec.signature_name = signature


def _feeds(signature: Any, inputs: Any) -> dict[str, tensors.Array]:
    """Feed name -> values, defaults of the signature filled in."""
    if len(inputs) > len(signature.inputs) or (len(inputs) < len(signature.inputs) and not signature.defaults):
        raise _wrong_number_of_inputs(set(inputs), set(signature.inputs))
    feeds = {}
    for alias in sorted(signature.inputs):
        info = signature.inputs[alias]
        proto = inputs[alias] if alias in inputs else _default(signature, alias, info.name, inputs)
        try:
            feeds[info.name] = tensors.decode(proto)
        except ValueError:
            raise invalid(f"tensor parsing error: {alias}") from None
    used = [alias for alias in inputs if alias in signature.inputs]
    if len(used) != len(inputs):
        raise invalid(
            f"Inputs contains invalid name. Used request inputs: {_joined(used)}, request input: {_joined(inputs)}"
        )
    return feeds


def _wrong_number_of_inputs(sent: set[str], wanted: set[str]) -> StatusError:
    return invalid(
        f"input size does not match signature: {len(sent)}!={len(wanted)} len({{{_joined(sent)}}}) != "
        f"len({{{_joined(wanted)}}}). Sent extra: {{{_joined(sent - wanted)}}}. "
        f"Missing but required: {{{_joined(wanted - sent)}}}."
    )


def _default(signature: Any, alias: str, feed_name: str, inputs: Any) -> Any:
    if alias not in signature.defaults:
        raise invalid(
            f"Signature input alias: {alias}(feed name: {feed_name}) not found in request and no default value "
            f"provided. Inputs expected to be in the request {{{_joined(inputs)}}}, or default input alias set: "
            f"{_joined(signature.defaults)}"
        )
    return signature.defaults[alias]


def _output_aliases(signature: Any, output_filter: Sequence[str]) -> list[str]:
    aliases: list[str] = []
    for alias in output_filter:
        if alias not in signature.outputs:
            raise invalid(
                f"output tensor alias not found in signature: {alias} Outputs expected to be in the set "
                f"{{{_joined(signature.outputs)}}}."
            )
        if alias in aliases:
            raise invalid(f"duplicate output tensor alias: {alias}")
        aliases.append(alias)
    return aliases or list(signature.outputs)


class Inference:
    """PredictionService over a core: resolves the model spec, holds the version while it runs."""

    def __init__(self, core: Core, runner: Runner) -> None:
        self._core, self._runner = core, runner

    def predict(self, request: Any, timeout_seconds: float | None = None) -> Any:
        """PredictRequest -> PredictResponse."""
        with self._core.acquire(_model_spec(request)) as handle:
            return self._runner.predict(handle.servable, request, handle.version, timeout_seconds)

    def classify(self, request: Any, timeout_seconds: float | None = None) -> Any:
        """ClassificationRequest -> ClassificationResponse."""
        with self._core.acquire(_model_spec(request)) as handle:
            return self._runner.classify(handle.servable, request, handle.version, timeout_seconds)

    def regress(self, request: Any, timeout_seconds: float | None = None) -> Any:
        """RegressionRequest -> RegressionResponse."""
        with self._core.acquire(_model_spec(request)) as handle:
            return self._runner.regress(handle.servable, request, handle.version, timeout_seconds)

    def multi_inference(self, request: Any, timeout_seconds: float | None = None) -> Any:
        """MultiInferenceRequest -> MultiInferenceResponse; the first task's spec decides the version for all."""
        spec = request.tasks[0].model_spec if request.tasks else wire.ModelSpec()
        with self._core.acquire(spec) as handle:
            return self._runner.multi_inference(handle.servable, request, handle.version, timeout_seconds)

    def get_model_metadata(self, request: Any) -> Any:
        """GetModelMetadataRequest -> GetModelMetadataResponse; no inference runs."""
        spec = _model_spec(request)
        if not request.metadata_field:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != _SIGNATURE_DEF:
                raise invalid(f"Metadata field {field} is not supported")
        response, signatures = wire.GetModelMetadataResponse(), wire.SignatureDefMap()
        with self._core.acquire(spec) as handle:
            fill_model_spec(response.model_spec, handle.model, handle.version, "")
            for name, signature in handle.servable.signatures.items():
                signatures.signature_def[name].CopyFrom(signature)
        response.metadata[_SIGNATURE_DEF].Pack(signatures)
        return response

    def input_infos(self, model_spec: Any, signature_name: str) -> Mapping[str, Any]:
        """Input alias -> TensorInfo of a signature, as the REST API looks it up to read JSON."""
        name = signature_name or DEFAULT_SIGNATURE
        with self._core.acquire(model_spec) as handle:
            signature = handle.servable.signatures.get(name)
        if signature is None:
            raise invalid(f'Serving signature name: "{name}" not found in signature def')
        infos: Mapping[str, Any] = signature.inputs
        return infos


def _model_spec(request: Any) -> Any:
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    return request.model_spec
