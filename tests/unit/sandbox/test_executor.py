"""The TensorFlow executor, warm-up and batching on real SavedModels."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.unit.sandbox.one_model import OneModel

from haldane import wire
from haldane.sandbox import batching, executor, tensors, textconfig, warmup
from haldane.sandbox.inference import Inference, Runner
from haldane.sandbox.metrics import Metrics
from haldane.sandbox.servable import Servable, StatusError

BUILDER = Path(__file__).parents[2] / "contract" / "serving" / "build_models.py"
RECIPES = (
    "affine(versions={1: 10.0})",
    "string_input(versions={2: 'v'})",
    "echo_types(versions={3: 0})",
    "slow_predict(versions={4: 10.0}, seconds=5)",
    "example_model(versions={5: 0.5})",
    "two_outputs(versions={6: 10.0})",
    "scalar_input(versions={7: 10.0})",
    "warmup(versions={8: 10.0}, kind='good', count=2)",
    "warmup(versions={9: 10.0}, kind='bad_signature')",
    "corrupt_pb(version=20)",
    "missing_variables(version=21)",
    "empty_dir(version=22)",
)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with one version per recipe."""
    base = tmp_path_factory.mktemp("models") / "toy"
    subprocess.run([sys.executable, str(BUILDER), str(base), *RECIPES], check=True, capture_output=True, timeout=240)
    return base


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def affine(models: Path, metrics: Metrics) -> Iterator[Servable]:
    servable = executor.TensorFlowExecutor(metrics=metrics).load("toy", str(models / "1"))
    yield servable
    servable.unload()


def _names(servable: Servable, signature: str = "serving_default") -> tuple[dict[str, str], dict[str, str]]:
    definition = servable.signatures[signature]
    inputs, outputs = (
        {alias: info.name for alias, info in part.items()} for part in (definition.inputs, definition.outputs)
    )
    return inputs, outputs


def test_a_loaded_version_runs(affine: Servable, models: Path, metrics: Metrics) -> None:
    inputs, outputs = _names(affine)
    result = affine.run({inputs["x"]: np.array([1, 2], np.float32)}, list(outputs.values()), timeout_seconds=5)
    assert result[outputs["y"]].tolist() == [10, 20]
    page = metrics.page()
    assert f'load_attempt_count{{model_path="{models}/1",status="success"}} 1\n' in page
    assert ":tensorflow:core:direct_session_runs{} 1\n" in page


def test_the_runtime_says_what_is_wrong_in_its_own_words(affine: Servable) -> None:
    inputs, outputs = _names(affine)
    with pytest.raises(StatusError, match=r"Expects arg\[0\] to be float but double is provided"):
        affine.run({inputs["x"]: np.array([1.0])}, list(outputs.values()), timeout_seconds=5)
    with pytest.raises(StatusError, match="was not found in the Graph"):
        affine.run({"nowhere:0": np.array([1.0])}, list(outputs.values()), timeout_seconds=5)


def test_the_initialiser_that_exports_list_as_a_signature_cannot_be_predicted(affine: Servable) -> None:
    request = wire.PredictRequest(model_spec={"name": "toy", "signature_name": "__saved_model_init_op"})
    with pytest.raises(StatusError, match=r"Node 'NoOp' \(type: 'NoOp', num of outputs: 0\) does not have output 0"):
        Inference(OneModel("toy", affine), Runner()).predict(request)


def test_strings_and_all_kinds_of_numbers_come_back(models: Path) -> None:
    loaded = executor.TensorFlowExecutor().load("toy", str(models / "2"))
    inputs, outputs = _names(loaded)
    texts = np.array([b"", b"\xff\x00", b"x" * 5000], object)
    result = loaded.run({inputs["x"]: texts}, list(outputs.values()), timeout_seconds=5)
    assert result[outputs["y_bytes"]].tolist() == texts.tolist()
    loaded.unload()
    echo = executor.TensorFlowExecutor().load("toy", str(models / "3"))
    inputs, outputs = _names(echo)
    feeds = {
        inputs["i"]: np.array([-(2**63)]),
        inputs["j"]: np.array([7], np.int32),
        inputs["b"]: np.array([True]),
        inputs["d"]: np.array([0.1]),
    }
    result = echo.run(feeds, list(outputs.values()), timeout_seconds=5)
    assert {alias: result[name].tolist() for alias, name in outputs.items()} == {
        "i_out": [-(2**63)],
        "j_out": [7],
        "b_out": [True],
        "d_out": [0.1],
    }
    echo.unload()


def test_a_session_that_takes_too_long_is_given_up(models: Path) -> None:
    slow = executor.TensorFlowExecutor().load("toy", str(models / "4"))
    inputs, outputs = _names(slow)
    with pytest.raises(StatusError) as caught:
        slow.run({inputs["x"]: np.zeros(1, np.float32)}, list(outputs.values()), timeout_seconds=0.2)
    assert caught.value.code.name == "DEADLINE_EXCEEDED"
    slow.unload()


@pytest.mark.parametrize(
    ("version", "code", "text", "counted"),
    [
        ("20", "DATA_LOSS", "Can't parse .* as binary proto", True),
        ("22", "NOT_FOUND", "does not appear to contain a SavedModel bundle", False),
        ("99", "NOT_FOUND", "does not appear to contain a SavedModel bundle", False),
    ],
)
def test_what_cannot_be_loaded_says_why(models: Path, version: str, code: str, text: str, *, counted: bool) -> None:
    metrics = Metrics()
    with pytest.raises(StatusError, match=text) as caught:
        executor.TensorFlowExecutor(metrics=metrics).load("toy", str(models / version))
    assert caught.value.code.name == code
    assert ('status="fail"} 1' in metrics.page()) is counted


def test_a_model_without_variables_loads_and_cannot_answer(models: Path) -> None:
    loaded = executor.TensorFlowExecutor().load("toy", str(models / "21"))
    inputs, outputs = _names(loaded)
    with pytest.raises(StatusError, match="Could not find variable k") as caught:
        loaded.run({inputs["x"]: np.zeros(1, np.float32)}, list(outputs.values()), timeout_seconds=5)
    assert caught.value.code.name == "FAILED_PRECONDITION"
    loaded.unload()


def test_a_missing_tag_is_named(models: Path) -> None:
    with pytest.raises(StatusError, match=r"supplied tags: \{ gpu serve \}"):
        executor.TensorFlowExecutor(tags=("serve", "gpu")).load("toy", str(models / "1"))


def test_examples_are_classified_regressed_and_both_at_once(models: Path, metrics: Metrics) -> None:
    loaded = executor.TensorFlowExecutor().load("toy", str(models / "5"))
    inference = Inference(OneModel("toy", loaded), Runner(metrics))
    example = {"features": {"feature": {"x": {"float_list": {"value": [0.5]}}}}}
    tasks = [
        {"model_spec": {"name": "toy", "signature_name": kind}, "method_name": f"tensorflow/serving/{kind}"}
        for kind in ("classify", "regress")
    ]
    request = wire.MultiInferenceRequest(tasks=tasks, input={"example_list": {"examples": [example, example]}})
    classified, regressed = inference.multi_inference(request).results
    assert [one.label for one in classified.classification_result.classifications[1].classes] == ["a", "b"]
    assert [one.value for one in regressed.regression_result.regressions] == [0.25, 0.25]
    context = {"example_list_with_context": {"context": example, "examples": [{}]}}
    answer = inference.regress(wire.RegressionRequest(model_spec=tasks[1]["model_spec"], input=context))
    assert answer.result.regressions[0].value == 0.25
    page = metrics.page()
    assert ':tensorflow:serving:request_example_count_total{model="toy"} 2\n' in page
    assert 'runtime_latency_count{model_name="toy",API="Regress",runtime="TF1"} 1\n' in page
    loaded.unload()


def test_warm_up_runs_each_record_before_the_version_is_served(models: Path, metrics: Metrics) -> None:
    warm = warmup.WarmUp(Runner(metrics), iterations=3)
    executor.TensorFlowExecutor(metrics=metrics, warm_up=warm).load("toy", str(models / "8")).unload()
    page = metrics.page()
    assert f'model_warmup_records_read{{model_path="{models}/8",status="OK"}} 2\n' in page
    assert 'runtime_latency_count{model_name="toy",API="Predict",runtime="TF1"} 6\n' in page


def test_a_warm_up_record_that_fails_fails_the_load(models: Path) -> None:
    loader = executor.TensorFlowExecutor(warm_up=warmup.WarmUp(Runner()))
    with pytest.raises(StatusError, match='Serving signature key "nope" not found'):
        loader.load("toy", str(models / "9"))


def test_a_bad_frame_is_data_loss_wherever_it_is() -> None:
    frame = warmup._HEADER.pack(1, warmup.masked_crc((1).to_bytes(8, "little"))) + b"x"
    good = frame + warmup._FOOTER.pack(warmup.masked_crc(b"x"))
    assert list(warmup.records(good * 2)) == [b"x", b"x"]
    assert list(warmup.records(good + b"tail")) == [b"x"], "too short for a header: the end"
    for bad in (good[:-1], frame + b"\0\0\0\0", b"not a record file"):
        with pytest.raises(StatusError) as caught:
            list(warmup.records(bad))
        assert caught.value.code.name == "DATA_LOSS"


def _batched(models: Path, version: str, metrics: Metrics, text: str) -> Servable:
    parameters = textconfig.message("BatchingParameters")
    for name, value in (word.split("=") for word in text.split()):
        field = getattr(parameters, name)
        if hasattr(field, "extend"):
            field.extend(map(int, value.split(",")))
        elif isinstance(field, bool):
            setattr(parameters, name, value == "1")
        else:
            field.value = int(value)
    settings = batching.settings_from(parameters, cpus=1)
    threads = batching.BatchThreads(settings.batch_threads)

    def prepare(inner: Servable, path: str) -> Servable:
        return batching.BatchingServable(inner, settings, threads, metrics)

    return executor.TensorFlowExecutor(prepare=prepare).load("toy", str(models / version))


def _run(servable: Servable, *values: float) -> list[float]:
    inputs, outputs = _names(servable)
    feeds = {inputs["x"]: np.array(values, np.float32)}
    result: list[float] = servable.run(feeds, list(outputs.values()), timeout_seconds=20)[outputs["y"]].tolist()
    return result


def test_requests_that_wait_together_run_as_one(models: Path, metrics: Metrics) -> None:
    servable = _batched(models, "1", metrics, "max_batch_size=4 batch_timeout_micros=5000000 num_batch_threads=1")
    answers: dict[float, list[float]] = {}
    threads = [threading.Thread(target=lambda x=x: answers.update({x: _run(servable, x, x)})) for x in (1.0, 2.0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert answers == {1.0: [10, 10], 2.0: [20, 20]}
    assert ":tensorflow:serving:batching_session:wrapped_run_count{} 1\n" in metrics.page()
    servable.unload()


def test_a_batch_is_padded_to_an_allowed_size(models: Path, metrics: Metrics) -> None:
    servable = _batched(models, "1", metrics, "max_batch_size=4 allowed_batch_sizes=2,4")
    assert _run(servable, 1, 2, 3) == [10, 20, 30]
    assert 'padding_size_count{execution_batch_size="4"} 1\n' in metrics.page()
    servable.unload()


def test_a_large_request_is_split_when_that_is_on_and_refused_when_not(models: Path, metrics: Metrics) -> None:
    servable = _batched(
        models,
        "1",
        metrics,
        "max_batch_size=10 enable_large_batch_splitting=1 max_execution_batch_size=2 max_enqueued_batches=10",
    )
    assert _run(servable, 1, 2, 3, 4, 5) == [10, 20, 30, 40, 50]
    with pytest.raises(StatusError, match="Task size 11 is larger than maximum input batch size 10"):
        _run(servable, *range(11))
    servable.unload()


def test_only_a_whole_signature_is_batched(models: Path, metrics: Metrics) -> None:
    servable = _batched(models, "6", metrics, "max_batch_size=4")
    inputs, outputs = _names(servable)
    feeds = {inputs["x"]: np.array(3, np.float32)}
    assert servable.run(feeds, [outputs["z"]], timeout_seconds=5)[outputs["z"]] == 13
    with pytest.raises(StatusError, match="must have at least one dimension"):
        servable.run(feeds, list(outputs.values()), timeout_seconds=5)
    servable.unload()


def test_an_empty_request_waits_until_another_joins_it(models: Path, metrics: Metrics) -> None:
    servable = _batched(models, "1", metrics, "max_batch_size=4 batch_timeout_micros=1000")
    empty: list[list[float]] = []
    waiting = threading.Thread(target=lambda: empty.append(_run(servable)))
    waiting.start()
    while "batching_session:input_batch_size_count{} 1" not in metrics.page():
        time.sleep(0.001)
    assert _run(servable, 1) == [10]
    waiting.join(20)
    assert empty == [[]]
    servable.unload()


def test_a_full_queue_refuses_in_the_words_of_its_kind(models: Path, metrics: Metrics) -> None:
    plain = "max_batch_size=2 batch_timeout_micros=5000000 max_enqueued_batches=1"
    servable = _batched(models, "4", metrics, plain)
    waiting = threading.Thread(target=lambda: _run(servable, 1), daemon=True)
    waiting.start()
    while "input_batch_size_count{} 1" not in metrics.page():
        time.sleep(0.001)
    with pytest.raises(StatusError, match="currently 1 batches enqueued and max_enqueued_batches is 1") as caught:
        _run(servable, 1, 2)
    assert caught.value.code.name == "UNAVAILABLE"
    split = _batched(
        models,
        "4",
        metrics,
        "max_batch_size=9 enable_large_batch_splitting=1 max_execution_batch_size=2 max_enqueued_batches=2",
    )
    with pytest.raises(StatusError, match=r"task size is 5 but scheduling capacity is only 4 \(num_enqueued_batches=1"):
        _run(split, *range(5))


def test_contradicting_batch_sizes_are_refused() -> None:
    parameters = textconfig.message("BatchingParameters")
    parameters.allowed_batch_sizes.extend([2, 3])
    with pytest.raises(StatusError, match="Last entry in allowed_batch_sizes must match max_batch_size"):
        batching.settings_from(parameters, cpus=1)


def test_the_runtime_can_be_loaded_before_a_fork_and_used_after(models: Path) -> None:
    script = f"""
import os, sys
import numpy as np
from haldane.sandbox import executor
executor.preload()
assert len(os.listdir("/proc/self/task")) == 1, "a thread before the fork"
assert "tensorflow" not in sys.modules
pid = os.fork()
if not pid:
    servable = executor.TensorFlowExecutor().load("toy", {str(models / "1")!r})
    signature = servable.signatures["serving_default"]
    fetch = signature.outputs["y"].name
    result = servable.run({{signature.inputs["x"].name: np.ones(1, np.float32)}}, [fetch], timeout_seconds=5)
    os._exit(int(result[fetch][0]))
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 10
"""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr


def test_encoded_outputs_equal_what_the_session_gave(affine: Servable) -> None:
    values = np.arange(1000, dtype=np.float32)
    inputs, outputs = _names(affine)
    result = affine.run({inputs["x"]: values}, list(outputs.values()), timeout_seconds=5)[outputs["y"]]
    assert tensors.decode(tensors.encode(result)).tolist() == (values * 10).tolist()
