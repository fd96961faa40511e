"""The command line is read as the real server reads it."""

import pytest

from haldane.sandbox.execution import session_config
from haldane.sandbox.flags import parse, usage
from haldane.sandbox.servable import StatusError
from haldane.sandbox.server import check_sessions


@pytest.mark.parametrize(
    ("argument", "name", "value"),
    [
        ("--port=9000", "port", 9000),
        ("--port= 7", "port", 7),
        ("--port=7 ", "port", 7),
        ("--enable_batching", "enable_batching", True),
        ("--enable_batching=1", "enable_batching", True),
        ("--flush_filesystem_caches=false", "flush_filesystem_caches", False),
        ("--flush_filesystem_caches=0", "flush_filesystem_caches", False),
        ("--model_name=a=b", "model_name", "a=b"),
        ("--model_name=", "model_name", ""),
        ("--load_retry_interval_micros=9000000000", "load_retry_interval_micros", 9_000_000_000),
        ("--file_system_poll_wait_seconds=-1", "file_system_poll_wait_seconds", -1),
        ("--per_process_gpu_memory_fraction=.5", "per_process_gpu_memory_fraction", 0.5),
        ("--per_process_gpu_memory_fraction=inf", "per_process_gpu_memory_fraction", float("inf")),
    ],
)
def test_a_flag_is_name_equals_value(argument: str, name: str, value: object) -> None:
    line = parse([argument])
    assert (line.values[name], line.unknown, line.complaints) == (value, (), ())


@pytest.mark.parametrize(
    "argument",
    [
        "--no_such_flag=1",
        "positional",
        "-port=1",
        "--noenable_batching",
        "--model_name",
        "--port",
        "--version_labels=a=1",
    ],
)
def test_what_nobody_knows_is_kept_aside_and_nothing_is_refused(argument: str) -> None:
    line = parse([argument, "--port=1"])
    assert (line.unknown, line.complaints, line.port) == ((argument,), (), 1)


def test_a_value_after_a_blank_belongs_to_no_flag() -> None:
    assert parse(["--port", "9000"]).unknown == ("--port", "9000")


def test_after_two_dashes_nothing_is_a_flag() -> None:
    line = parse(["--port=1", "--", "--port=2"])
    assert (line.port, line.unknown) == (1, ("--", "--port=2"))


def test_a_later_flag_wins() -> None:
    assert parse(["--port=1", "--port=2"]).port == 2


@pytest.mark.parametrize(
    ("argument", "complaint"),
    [
        ("--port=abc", "Couldn't interpret value abc for flag port."),
        ("--port=", "Couldn't interpret value  for flag port."),
        ("--port=0x10", "Couldn't interpret value 0x10 for flag port."),
        ("--port=1.5", "Couldn't interpret value 1.5 for flag port."),
        ("--port=99999999999", "Couldn't interpret value 99999999999 for flag port."),
        ("--enable_batching=maybe", "Couldn't interpret value maybe for flag enable_batching."),
    ],
)
def test_a_value_of_the_wrong_type_is_a_complaint(argument: str, complaint: str) -> None:
    assert parse([argument]).complaints == (complaint,)


def test_defaults_are_the_real_servers() -> None:
    line = parse([])
    assert (line.port, line.rest_api_port, line.model_name) == (8500, 0, "default")
    assert (line.max_num_load_retries, line.load_retry_interval_micros) == (5, 60_000_000)
    assert (line.num_load_threads, line.num_unload_threads, line.file_system_poll_wait_seconds) == (0, 0, 1)
    assert not line.allow_version_labels_for_unavailable_models
    assert line.admin_port == 0  # faults on request are off


def test_the_usage_lists_every_flag_with_type_and_default() -> None:
    assert '--model_name="default"' in usage()
    assert "\tint64\t" in usage()


def test_session_parallelism_is_given_whole_or_in_parts_but_not_both() -> None:
    parts = ["--tensorflow_intra_op_parallelism=2", "--tensorflow_inter_op_parallelism=3"]
    check_sessions(parse(parts))
    with pytest.raises(StatusError, match="You cannot configure all"):
        check_sessions(parse([*parts, "--tensorflow_session_parallelism=4"]))


@pytest.mark.parametrize(
    ("arguments", "threads"),
    [
        (["--tensorflow_session_parallelism=4"], b"\x10\x04\x28\x04"),
        (["--tensorflow_session_parallelism=4", "--tensorflow_intra_op_parallelism=2"], b"\x10\x02"),
        (["--tensorflow_inter_op_parallelism=3"], b"\x28\x03"),
        ([], b""),
    ],
)
def test_either_part_of_session_parallelism_outdoes_the_whole(arguments: list[str], threads: bytes) -> None:
    assert session_config(parse(arguments)) == threads
