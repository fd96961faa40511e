"""The whole validation with its trial: real SavedModels, real TensorFlow in a process of its own."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
import tensorflow as tf
from tests.unit.release import saved_models

from haldane import wire
from haldane.release.graph import read_graph, signatures_in
from haldane.release.junit import junit
from haldane.release.trial import leave_network
from haldane.release.validate import Check, Limits, Validation, told, validate
from haldane.tensors import decode, encode

# The trial with an import of TensorFlow that never ends.
SLOWLY = """
import sys, time
class Forever:
    def find_spec(self, name, *_):
        if name == "tensorflow":
            time.sleep(3600)
sys.meta_path.insert(0, Forever())
from haldane.release.trial import main
main()
"""
# Time to start is the machine's affair here; and where it cannot take the network away, the rest is still to be seen.
PATIENT = Limits(seconds=280, under_load=0.1, network=True)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return saved_models.linear(tmp_path_factory.mktemp("model") / "1", "age", "income")


def a_request(**columns):
    request = wire.PredictRequest()
    for name, (value, dtype) in columns.items():
        request.inputs[name].CopyFrom(encode(np.asarray(value), dtype))
    return request.SerializeToString()


def results(found):
    return {check.name: check.result for check in found.checks}


def detail(found, name):
    return next(check.detail for check in found.checks if check.name == name)


def test_a_good_model_passes_every_check(good):
    golden = [a_request(age=([1.0, 2.0], 1), income=([3.0, 4.0], 1))]
    found = validate(good, served=signatures_in(read_graph(good)), golden=golden, limits=PATIENT)
    assert found.result == "ok", found.checks
    assert list(results(found)) == [
        "files",
        "signatures",
        "served",
        "load",
        "golden",
        "run serving_default",
        "under load",
    ]
    assert found.manifest.digest in detail(found, "files")
    first, made_up = found.answers
    assert first.request == golden[0]
    response = wire.PredictResponse.FromString(first.answer)
    np.testing.assert_array_equal(decode(response.outputs["score"]), np.float32([8.0, 12.0]))
    assert wire.PredictRequest.FromString(made_up.request).model_spec.signature_name == "serving_default"


def test_what_a_model_takes_is_measured(tmp_path):
    module = tf.Module()
    module.weight = tf.Variable(tf.ones([25_000_000]))  # 100 MB
    spec = tf.TensorSpec([None], tf.float32, "x")
    module.serve = tf.function(lambda x: {"score": x * module.weight[0]}, input_signature=[spec])
    tf.saved_model.save(module, str(tmp_path / "1"), signatures=module.serve)
    found = validate(tmp_path / "1", limits=PATIENT)
    assert found.profile is not None
    assert 90e6 < found.profile.memory_bytes < 300e6
    assert found.profile.load_seconds > 0 and found.profile.call_seconds > 0
    assert f"adds {found.profile.memory_bytes:,} bytes" in detail(found, "load")
    load = found.profile.under_load
    assert load.calls >= load.callers == min(16, len(os.sched_getaffinity(0)))
    assert 0 < load.p50_seconds <= load.p99_seconds <= load.seconds
    assert f"{load.callers} caller" in detail(found, "under load") and "without Serving" in detail(found, "under load")


def test_a_model_that_answers_one_call_and_not_many_is_refused(tmp_path):
    """Its counter is for the calls that come one by one: each golden and each made-up request runs twice."""
    module = tf.Module()
    module.weight = tf.Variable(2.0)
    module.calls = tf.Variable(0, dtype=tf.int64)

    def score(x):
        with tf.control_dependencies([tf.debugging.assert_less(module.calls.assign_add(1), tf.constant(3, tf.int64))]):
            return {"score": x * module.weight}

    module.serve = tf.function(score, input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    tf.saved_model.save(module, str(tmp_path / "1"), signatures=module.serve)
    found = validate(tmp_path / "1", limits=PATIENT)
    assert results(found)["run serving_default"] == "ok"
    assert (found.result, results(found)["under load"]) == ("refused", "refused")
    assert "called by many at once: " in detail(found, "under load")
    assert found.profile.under_load is None


def test_answers_that_are_drawn_at_random_are_not_recorded(tmp_path):
    model = saved_models.linear(tmp_path / "1", "x", score=lambda x: x + tf.random.uniform(tf.shape(x)))
    found = validate(model, golden=[a_request(x=([1.0], 1))], limits=PATIENT)
    assert (found.result, found.answers) == ("ok", ())


def test_a_model_that_gives_nan_is_refused(tmp_path):
    model = saved_models.linear(tmp_path / "1", "age", score=lambda x: tf.math.log(-x))
    found = validate(model, limits=PATIENT)
    assert found.result == "refused"
    assert detail(found, "run serving_default") == "on made-up input: NaN or infinity in score"


def test_custom_operations_are_refused_by_name(good, tmp_path):
    model = shutil.copytree(good, tmp_path / "1")
    saved_models.edit(model, lambda graph: saved_models.rename_operations(graph, "Relu", "HomeMadeRelu"))
    found = validate(model, limits=PATIENT)
    assert found.checks[-1] == Check(
        "operations", "refused", "custom operations, which Serving does not know: HomeMadeRelu"
    )


def test_a_dropped_input_is_refused(good, tmp_path):
    model = saved_models.linear(tmp_path / "2", "age")
    found = validate(model, served=signatures_in(read_graph(good)), limits=PATIENT)
    assert found.result == "refused"
    assert detail(found, "served") == "serving_default: input income is gone"


def test_damaged_variables_are_refused_when_they_are_loaded(good, tmp_path):
    model = shutil.copytree(good, tmp_path / "1")
    (data,) = (model / "variables").glob("variables.data-*")
    data.write_bytes(b"")
    found = validate(model, limits=PATIENT)
    assert results(found)["load"] == "refused"


def test_a_model_that_wants_too_much_memory_is_refused(tmp_path):
    hungry = saved_models.linear(tmp_path / "1", "age", score=lambda x: tf.reduce_sum(tf.fill([30_000, 50_000], x[0])))
    found = validate(hungry, limits=Limits(seconds=280, network=True, memory=2 * 2**30))
    assert found.result == "refused"
    assert "--memory" in found.checks[-1].detail


def test_a_model_that_made_up_input_does_not_suit_is_untried_until_a_golden_request_is_given(tmp_path):
    model = saved_models.strings(tmp_path / "1")
    found = validate(model, limits=PATIENT)
    assert found.result == "untried"
    assert "give --golden" in detail(found, "run serving_default")
    good_row, bad_row = ([b"1.5"], 7), ([b"many"], 7)
    as_text = [a_request(text=(np.array(value, object), kind)) for value, kind in (good_row, bad_row)]
    assert validate(model, golden=as_text[:1], limits=PATIENT).result == "ok"
    found = validate(model, golden=as_text, limits=PATIENT)
    assert results(found)["golden"] == "refused"
    assert detail(found, "golden").startswith("1 of 2; request 1: ")


def test_a_trial_that_does_not_begin_in_time_says_nothing_of_the_model(good):
    found = validate(good, limits=Limits(seconds=0.001, network=True))
    assert found.result == "untried"
    assert detail(found, "load") == "it did not end within 0.001 s; see --timeout"


LOADED = [{"step": "loading"}, {"step": "loaded", "seconds": 0.5, "bytes": 1000}]


@pytest.mark.parametrize(
    ("lines", "name", "result"),
    [
        ([], "load", "untried"),
        (LOADED[:1], "load", "refused"),
        (LOADED, "run", "refused"),  # loaded, then ran without end or died
        ([{"step": "no_tensorflow", "why": "No module named 'tensorflow'"}], "load", "untried"),
        ([{"step": "connected", "why": "Operation not permitted"}], "network", "untried"),
    ],
)
def test_a_trial_that_ends_early_is_never_a_pass(lines, name, result):
    last = list(told(lines, "it did not end", golden=0))[-1]
    assert (last.name, last.result) == (name, result)


def test_the_trial_has_no_network():
    """A server that this process reaches is out of reach of one that has left the network, or it says why not."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        socket.create_connection(("127.0.0.1", port)).close()
        code = (
            f"import socket; from {leave_network.__module__} import leave_network; print(leave_network() or 'left')\n"
            f"try: socket.create_connection(('127.0.0.1', {port})); print('reached')\nexcept OSError: print('cut off')"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    said, came = done.stdout.split("\n")[:2]
    assert (said == "left") == (came == "cut off"), done.stdout


def test_junit_counts_refused_as_failures_and_untried_as_errors():
    found = Validation(
        (Check("a", "ok", "fine"), Check("b", "refused", "<bad>\x1b[0m"), Check("c", "untried", "why")), None
    )
    suite = ElementTree.fromstring(junit("export/4", found))
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("3", "1", "1")
    assert suite.find("testcase[@name='b']/failure").get("message") == "<bad> [0m"
    assert found.result == "refused"


def test_a_trial_that_nobody_waits_for_any_more_ends_by_itself():
    """As when the job that started it was cancelled: here it is asked to end while it waits for TensorFlow."""
    asked = {"alarm": 1, "memory": 4 * 2**30, "network": True, "operations": [], "folder": "/no/such", "golden": []}
    started = subprocess.Popen([sys.executable, "-c", SLOWLY], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    started.communicate(json.dumps(asked).encode())
    assert started.returncode == -signal.SIGALRM
