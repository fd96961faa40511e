"""Reloads, labels and ModelSpecs follow Serving's sequence, traps included."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import text_format

from haldane import wire
from haldane.sandbox import harness as harness_module
from haldane.sandbox import toy
from haldane.sandbox.core import ServerCore
from haldane.sandbox.harness import Retries
from haldane.sandbox.metrics import Metrics
from haldane.sandbox.servable import StatusError

NOT_AVAILABLE = "Request to assign label to version {} of model m, which is not currently available for inference"


@pytest.fixture(autouse=True)
def quick_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness_module, "LEAST_LOAD_SECONDS", 0.0)


class World:
    """A core with models on disk."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.allow = False

    def put(self, model: str, *versions: int, recipe: str = "affine") -> None:
        for version in versions:
            toy.write(self.base / model / str(version), recipe, k=10.0 * version)

    def start(self, config: str = "", *, allow: bool = False) -> ServerCore:
        core = ServerCore(
            toy.ToyExecutor(Metrics()),
            retries=Retries(0, 0),
            poll_seconds=0.05,
            allow_unavailable_labels=allow,
        )
        core.reload(self.config(config))
        return core

    def config(self, text: str) -> Any:
        return text_format.Parse(
            text.replace("BASE", str(self.base)), wire.ModelServerConfig(), descriptor_pool=wire.POOL
        )


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.put("m", 1, 2)
    return made


def model(name: str, more: str = "", platform: str = 'model_platform: "tensorflow"') -> str:
    return f'config {{ name: "{name}" base_path: "BASE/{name}" {platform} {more} }}'


def models(*entries: str) -> str:
    return f"model_config_list {{ {' '.join(entries)} }}"


BOTH = "model_version_policy { specific { versions: 1 versions: 2 } }"


def labels(**chosen: int) -> str:
    return " ".join(f'version_labels {{ key: "{label}" value: {version} }}' for label, version in chosen.items())


def spec(**fields: Any) -> Any:
    made = wire.ModelSpec(name=fields.pop("name", "m"))
    if "version" in fields:
        made.version.value = fields["version"]
    if "label" in fields:
        made.version_label = fields["label"]
    return made


def version_of(core: ServerCore, **fields: Any) -> int:
    with core.acquire(spec(**fields)) as handle:
        return handle.version


@pytest.fixture
def served(world: World) -> ServerCore:
    core = world.start(models(model("m", BOTH)))
    available(core, 1, 2)
    return core


def states(core: ServerCore, name: str = "m") -> dict[int, int]:
    request = wire.GetModelStatusRequest(model_spec=wire.ModelSpec(name=name))
    return {entry.version: entry.state for entry in core.model_status(request).model_version_status}


def available(core: ServerCore, *versions: int) -> None:
    until(lambda: all(states(core).get(version) == 30 for version in versions))


def until(claim: Callable[[], bool]) -> None:
    waiting = threading.Event()
    for _ in range(2000):
        if claim():
            return
        waiting.wait(0.005)
    raise AssertionError("it never came true")


def refusal(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(StatusError) as refused:
        call()
    return refused.value.code, refused.value.message


INVALID, PRECONDITION = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION


def test_labels_name_versions_from_the_moment_the_reload_returns(world: World, served: ServerCore) -> None:
    served.reload(world.config(models(model("m", BOTH + labels(stable=1, canary=2)))))
    assert (version_of(served, label="stable"), version_of(served, label="canary"), version_of(served)) == (1, 2, 2)
    served.reload(world.config(models(model("m", BOTH + labels(stable=2)))))
    assert version_of(served, label="stable") == 2
    assert refusal(lambda: version_of(served, label="canary")) == (
        INVALID,
        "Unrecognized servable version label: canary",
    )


def test_a_label_on_a_version_not_loaded_refuses_the_whole_reload(world: World, served: ServerCore) -> None:
    world.put("m", 3)
    wanted = "model_version_policy { specific { versions: 3 } }" + labels(stable=1, canary=3)
    assert refusal(lambda: served.reload(world.config(models(model("m", wanted))))) == (
        PRECONDITION,
        NOT_AVAILABLE.format(3),
    )
    assert states(served) == {2: 30, 1: 30}
    assert refusal(lambda: version_of(served, label="stable"))[0] is INVALID


def test_with_the_flag_a_new_label_may_dangle_but_an_assigned_one_may_not_move_there(world: World) -> None:
    core = world.start(models(model("m", BOTH + labels(stable=1, canary=9))), allow=True)
    available(core, 1, 2)
    assert refusal(lambda: version_of(core, label="canary")) == (
        grpc.StatusCode.NOT_FOUND,
        "Servable not found for request: Specific(m, 9)",
    )
    moved = world.config(models(model("m", BOTH + labels(stable=9, canary=9))))
    assert refusal(lambda: core.reload(moved)) == (PRECONDITION, NOT_AVAILABLE.format(9))


def test_labels_at_start_without_the_flag_are_refused(world: World) -> None:
    assert refusal(lambda: world.start(models(model("m", labels(stable=2))))) == (PRECONDITION, NOT_AVAILABLE.format(2))


def test_before_any_config_labels_are_not_there_yet(world: World) -> None:
    core = world.start("")
    assert refusal(lambda: version_of(core, label="x")) == (
        grpc.StatusCode.UNAVAILABLE,
        "Model labels does not init yet.x",
    )


def test_version_zero_is_a_version_and_an_empty_label_is_a_label(world: World) -> None:
    world.put("z", 0, 4)
    core = world.start(models(model("z", "model_version_policy { all {} }")))
    until(lambda: states(core, "z") == {4: 30, 0: 30})
    assert version_of(core, name="z", version=0) == 0
    assert refusal(lambda: version_of(core, name="z", label=""))[1] == "Unrecognized servable version label: "
    assert refusal(lambda: version_of(core, name="")) == (INVALID, "ModelSpec has no name specified.")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([model("m"), model("m")], "Illegal to list model m multiple times in config list"),
        (
            ['config { name: "m" base_path: "m" model_platform: "tensorflow" }'],
            "Expected model m to have an absolute path or URI; got base_path()=m",
        ),
        (
            [model("m", platform='model_platform: "other"')],
            "Illegal to change a model's platform. For model m platform was tensorflow and new platform requested is "
            "other",
        ),
        (
            [model("m", platform="")],
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor ModelServerConfig::model_platform, "
            "model name is m",
        ),
        (
            [model("m", platform='model_type: TENSORFLOW model_platform: "tensorflow"')],
            "Illegal setting both ModelServerConfig::model_type (deprecated) and ModelServerConfig::model_platform, "
            "model name is m",
        ),
    ],
)
def test_a_bad_list_is_refused_and_changes_nothing(
    world: World, served: ServerCore, entries: list[str], message: str
) -> None:
    assert refusal(lambda: served.reload(world.config(models(*entries)))) == (INVALID, message)
    served.reload(world.config(models(model("m", BOTH + labels(stable=1)))))
    assert version_of(served, label="stable") == 1


def test_a_new_model_without_platform_poisons_every_later_reload(world: World, served: ServerCore) -> None:
    bad = world.config(models(model("m", BOTH + labels(stable=2)), model("new", platform="")))
    good = world.config(models(model("m", BOTH + labels(stable=1))))
    first = refusal(lambda: served.reload(bad))
    assert refusal(lambda: served.reload(good)) == first
    assert version_of(served, label="stable") == 2  # the refused call's label


def test_an_unsupported_platform_is_remembered_until_a_list_without_the_model_passes(
    world: World, served: ServerCore
) -> None:
    world.put("new", 1)
    known = model("m", BOTH)
    odd = world.config(models(known, model("new", platform='model_platform: "pytorch"')))
    assert refusal(lambda: served.reload(odd)) == (INVALID, "Model new requests unsupported platform pytorch")
    right = world.config(models(known, model("new")))
    assert "Illegal to change a model's platform" in refusal(lambda: served.reload(right))[1]
    served.reload(world.config(models(known)))
    served.reload(right)
    assert version_of(served, name="new") == 1


def test_a_new_model_that_fails_is_told_once_and_the_rest_stays_done(world: World, served: ServerCore) -> None:
    world.put("bad", 1, recipe="corrupt_pb")
    config = world.config(models(model("m", BOTH + labels(stable=1)), model("bad")))
    code, message = refusal(lambda: served.reload(config))
    assert (code, message) == (
        grpc.StatusCode.UNKNOWN,
        "1 model(s) did not become available: {{{name: bad version: 1} due to error: DATA_LOSS: Can't parse "
        f"{world.base}/bad/1/saved_model.pb as binary proto}}, }}",
    )
    assert version_of(served, label="stable") == 1
    served.reload(config)  # the same again: OK, though nothing is better
    assert states(served, "bad") == {1: 50}


def test_an_empty_list_unloads_everything_and_an_unset_one_is_refused(world: World, served: ServerCore) -> None:
    assert refusal(lambda: served.reload(wire.ModelServerConfig())) == (
        PRECONDITION,
        "Cannot transition to requested config. It is only legal to transition from one ModelConfigList to another.",
    )
    served.reload(world.config("model_config_list {}"))
    until(lambda: states(served) == {2: 50, 1: 50})
    assert refusal(lambda: version_of(served))[1] == "Servable not found for request: Latest(m)"


def test_a_dropped_version_keeps_its_label_which_then_blocks_the_same_config(world: World, served: ServerCore) -> None:
    config = world.config(models(model("m", "model_version_policy { specific { versions: 1 } }" + labels(canary=2))))
    served.reload(config)
    until(lambda: states(served)[2] == 50)
    assert refusal(lambda: version_of(served, label="canary"))[1] == "Servable not found for request: Specific(m, 2)"
    assert refusal(lambda: served.reload(config)) == (PRECONDITION, NOT_AVAILABLE.format(2))


def test_a_logging_config_is_refused_after_all_else_was_done(world: World, served: ServerCore) -> None:
    config = world.config(models(model("m", BOTH + labels(stable=1) + " logging_config {}")))
    assert refusal(lambda: served.reload(config)) == (INVALID, "No request-logger-creator provided.")
    assert version_of(served, label="stable") == 1


@pytest.fixture
def blocked(world: World, served: ServerCore) -> Iterator[threading.Thread]:
    """A reload that waits for a model whose base path does not exist."""
    config = world.config(models(model("m", BOTH + labels(stable=1)), model("late")))
    thread = threading.Thread(target=served.reload, args=(config,), daemon=True)
    thread.start()
    until(lambda: served._labels == {"m": {"stable": 1}})
    yield thread
    thread.join(10)
    assert not thread.is_alive()


def test_a_missing_path_jams_reloads_and_news_of_all_models_until_it_appears(
    world: World, served: ServerCore, blocked: threading.Thread
) -> None:
    behind = threading.Thread(target=served.reload, args=(world.config(models(model("m", BOTH))),), daemon=True)
    behind.start()
    behind.join(0.3)
    assert blocked.is_alive()
    assert behind.is_alive()
    assert version_of(served, label="stable") == 1  # requests go on
    world.put("late", 1)
    blocked.join(10)
    behind.join(10)
    assert refusal(lambda: version_of(served, label="stable"))[0] is INVALID  # the queued reload came after


@pytest.mark.parametrize(
    ("request_text", "code", "message"),
    [
        ("", INVALID, "Missing ModelSpec"),
        ('model_spec { name: "zz" }', grpc.StatusCode.NOT_FOUND, "Could not find any versions of model zz"),
        (
            'model_spec { name: "m" version { value: 9 } }',
            grpc.StatusCode.NOT_FOUND,
            "Could not find version 9 of model m",
        ),
    ],
)
def test_status_of_what_was_never_seen(served: ServerCore, request_text: str, code: Any, message: str) -> None:
    request = text_format.Parse(request_text, wire.GetModelStatusRequest(), descriptor_pool=wire.POOL)
    assert refusal(lambda: served.model_status(request)) == (code, message)


def test_status_ignores_labels_and_lists_the_highest_version_first(served: ServerCore) -> None:
    request = wire.GetModelStatusRequest(model_spec=spec(label="nope"))
    assert [entry.version for entry in served.model_status(request).model_version_status] == [2, 1]
