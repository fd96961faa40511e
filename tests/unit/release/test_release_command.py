"""`haldane release validate` as CI calls it: exit codes, files written, a real server to keep promises to."""

from xml.etree import ElementTree

import pytest
from click.testing import CliRunner
from tests.unit.release import saved_models

from haldane import wire
from haldane.cli import main
from haldane.serving.records import frame
from haldane.tensors import encode
from haldane.testing.sandboxes import Sandbox, affine_request, free_port


def validate(*arguments):
    return CliRunner().invoke(main, ["release", "validate", *map(str, arguments), "--allow-network"])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The same input and output as the toy models of the sandbox have."""
    return saved_models.linear(tmp_path_factory.mktemp("my model") / "1", "x")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Sandbox(tmp_path_factory.mktemp("sandbox")) as sandbox:
        sandbox.add("pair", 1, "two_inputs")
        sandbox.start(sandbox.config(sandbox.entry("pair")))
        yield sandbox.server.address


def a_log(path, *requests):
    records = []
    for request in requests:
        log = wire.PredictionLog()
        log.predict_log.request.ParseFromString(request.body)
        records.append(frame(log.SerializeToString()))
    path.write_bytes(b"".join(records))
    return path


def test_a_good_model_exits_with_0_and_writes_what_was_asked_for(model, tmp_path):
    golden = a_log(tmp_path / "golden.tfrecord", affine_request(1.0), affine_request(2.0, 3.0))
    result = validate(
        model.as_uri(), "--golden", golden, "--timeout", "280",
        "--junit", tmp_path / "junit.xml", "--manifest", tmp_path / "1.sha256",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "ok  golden: 2 requests give finite answers" in result.stdout
    assert result.stdout.endswith("may be released\n")
    assert ElementTree.parse(tmp_path / "junit.xml").getroot().get("failures") == "0"
    assert "  saved_model.pb\n" in (tmp_path / "1.sha256").read_text()


def test_a_signature_that_todays_clients_could_not_use_exits_with_1(model, server, tmp_path):
    arguments = ("--served", server, "--model", "pair", "--timeout", "280", "--junit", tmp_path / "junit.xml")
    result = validate(model, *arguments)
    assert result.exit_code == 1, result.output
    assert "NO  served: serving_default: input a is gone; serving_default: input b is gone" in result.stderr
    assert ElementTree.parse(tmp_path / "junit.xml").getroot().get("failures") == "1"


def test_a_directory_that_is_too_large_exits_with_1(model, tmp_path):
    result = validate(model, "--max-size", "0.000001", "--junit", tmp_path / "junit.xml")
    assert result.exit_code == 1
    assert "NO  size: " in result.stderr
    assert ElementTree.parse(tmp_path / "junit.xml").getroot().find("testcase").get("name") == "size"


def test_what_could_not_be_tried_exits_with_3(model):
    result = validate(model, "--timeout", "0.001")
    assert result.exit_code == 3
    assert "??  load: it did not end within 0.001 s; see --timeout" in result.stderr
    assert "may be released" not in result.output


@pytest.mark.parametrize("model_name", ["pair", "other"])
def test_a_server_that_cannot_be_asked_exits_with_4(model, server, model_name):
    address = server if model_name == "other" else f"127.0.0.1:{free_port()}"
    result = validate(model, "--served", address, "--model", model_name)
    assert result.exit_code == 4
    assert "--served: " in result.stderr


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("s3://models/credit/4", "only a directory or a file:// URI can be read"),
        ("file://elsewhere/models/4", "only a directory or a file:// URI can be read"),
        ("/no/such/4", "is not a directory"),
    ],
)
def test_a_path_that_cannot_be_read_exits_with_2(path, said):
    result = validate(path)
    assert result.exit_code == 2
    assert said in result.stderr


def test_an_address_without_a_model_exits_with_2(model):
    assert validate(model, "--served", "127.0.0.1:1").exit_code == 2


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "No such file"), (b"", "holds no request"), (b"not records, but longer than a header", "golden.tfrecord")],
)
def test_a_golden_file_that_cannot_be_used_exits_with_2(model, tmp_path, content, said):
    golden = tmp_path / "golden.tfrecord"
    if content is not None:
        golden.write_bytes(content)
    result = validate(model, "--golden", golden)
    assert result.exit_code == 2
    assert said in result.stderr


def test_a_golden_request_for_another_model_exits_with_1(model, tmp_path):
    request = wire.PredictRequest()
    request.inputs["income"].CopyFrom(encode(saved_models.ONE, 1))
    log = wire.PredictionLog()
    log.predict_log.request.CopyFrom(request)
    golden = tmp_path / "golden.tfrecord"
    golden.write_bytes(frame(log.SerializeToString()))
    result = validate(model, "--golden", golden, "--timeout", "280")
    assert result.exit_code == 1
    assert "1 of 1; request 0: serving_default: there is no input income" in result.stderr
