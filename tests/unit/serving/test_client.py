"""The client reads every answer for what it means, sends nothing twice, and stays under its cap."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import grpc
import numpy as np
import pytest
import pytest_asyncio

from haldane import wire
from haldane.domain.fleet import (
    Availability,
    ModelEntry,
    ModelName,
    ModelView,
    Policy,
    Server,
    ServerConfig,
    ServerName,
)
from haldane.domain.traffic import Api, Request, Status
from haldane.ports import Malformed, Refused, Unavailable
from haldane.serving.answers import status_of
from haldane.serving.client import Limits, ServingClient, open_client
from haldane.tensors import encode
from haldane.testing.fake_serving import FakeServing, serving

Code = grpc.StatusCode
M = ModelName("m")
GOLDEN = Request(id="g", api=Api.PREDICT, body=b"")
CONFIG = ServerConfig((ModelEntry(name=M, base_path="/models/m", policy=Policy.SPECIFIC, versions=(1, 2)),))
EXHAUSTED = (Code.RESOURCE_EXHAUSTED, "Server Threadpool Exhausted")


@pytest.fixture
def fake() -> FakeServing:
    return FakeServing()


@pytest_asyncio.fixture
async def client(fake: FakeServing) -> AsyncIterator[ServingClient]:
    limits = Limits(status_seconds=20, golden_seconds=20, reload_seconds=20)
    async with serving(fake) as server, open_client(server, limits=limits) as client:
        yield client


async def look(client: ServingClient, *golden: int, labels: tuple[str, ...] = ()) -> ModelView:
    return (await client.look({M: labels}, {M: [(version, GOLDEN) for version in golden]})).models[M]


async def ask(client: ServingClient, api: Api = Api.PREDICT, seconds: float = 20.0):
    deadline = asyncio.get_running_loop().time() + seconds
    return await client.predict(M, Request(id="", api=api, body=b""), version=1, deadline=deadline)


@pytest.mark.parametrize(
    ("code", "words", "status"),
    [
        (Code.DEADLINE_EXCEEDED, "Deadline Exceeded", Status.TIMEOUT),
        (Code.UNAVAILABLE, "Socket closed", Status.UNAVAILABLE),
        (Code.UNAVAILABLE, "The batch scheduling queue to which this task was submitted is full", Status.EXHAUSTED),
        (Code.UNAVAILABLE, "Model labels does not init yet.stable", Status.NOT_FOUND),
        (*EXHAUSTED, Status.EXHAUSTED),
        (Code.RESOURCE_EXHAUSTED, "Run() timeout exceeded while waiting in batching queue", Status.TIMEOUT),
        (Code.RESOURCE_EXHAUSTED, "OOM when allocating tensor with shape[1]", Status.INTERNAL),
        (Code.NOT_FOUND, "Servable not found for request: Specific(m, 9)", Status.NOT_FOUND),
        (Code.NOT_FOUND, "Container localhost does not exist", Status.INTERNAL),
        (Code.INVALID_ARGUMENT, "Unrecognized servable version label: nope", Status.NOT_FOUND),
        (Code.INVALID_ARGUMENT, "input size does not match signature", Status.INVALID),
        (Code.FAILED_PRECONDITION, 'Serving signature key "s" not found.', Status.INVALID),
        (Code.FAILED_PRECONDITION, "Could not find variable k.", Status.INTERNAL),
        (Code.UNKNOWN, "Stream removed", Status.INTERNAL),
        (Code.DATA_LOSS, "", Status.INTERNAL),
    ],
)
def test_a_failed_prediction_has_one_meaning(code, words, status):
    assert status_of(code, words) is status


@pytest.mark.parametrize("api", list(Api))
async def test_each_kind_of_request_goes_to_its_method_and_says_who_answered(fake, client, api):
    outcome = await ask(client, api)
    assert (outcome.status, outcome.version) == (Status.OK, 1)
    assert fake.calls == {f"/tensorflow.serving.PredictionService/{api.value}": 1}


async def test_an_answer_that_cannot_be_read_is_malformed_and_its_bytes_are_kept(fake, client):
    async def rubbish(_):
        return b"\x0a\xff"

    fake.answers[wire.PREDICT.path] = rubbish
    outcome = await ask(client)
    assert (outcome.status, outcome.answer) == (Status.MALFORMED, b"\x0a\xff")


async def test_a_server_that_is_gone_is_an_outcome_for_predict_and_unavailable_for_the_rest():
    async with open_client(Server(ServerName("r9"), "127.0.0.1:1")) as client:
        assert (await ask(client)).status is Status.UNAVAILABLE
        for call in (look(client), client.reload(CONFIG)):
            with pytest.raises(Unavailable, match="r9"):
                await call


async def test_a_prediction_that_takes_too_long_times_out_at_its_deadline(fake, client):
    fake.hang(wire.PREDICT)
    assert (await ask(client, seconds=0.05)).status is Status.TIMEOUT


async def test_our_own_calls_share_one_cap_and_predictions_do_not(fake, client):
    models = {ModelName(f"m{i}"): ["stable", "canary"] for i in range(6)}
    two = asyncio.Barrier(2)

    async def together(_):
        await two.wait()  # answered only when two are here at once
        reply = wire.GetModelStatusResponse()
        for version in (1, 2):
            reply.model_version_status.add(version=version, state=30)
        return reply

    fake.answers[wire.GET_MODEL_STATUS.path] = together
    await client.look(models, {name: [(1, GOLDEN), (2, GOLDEN)] for name in models})
    assert fake.busiest == 2

    gate = asyncio.Event()

    async def wait(_):
        await gate.wait()
        return wire.PredictResponse()

    fake.answers[wire.PREDICT.path] = wait
    async with asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(ask(client))
        while fake.busiest < 20:  # noqa: ASYNC110 - the calls arrive when they arrive
            await asyncio.sleep(0.01)
        gate.set()


async def test_a_reload_waits_for_no_other_call_of_ours(fake, client):
    fake.hang(wire.GET_MODEL_STATUS)
    looks = [asyncio.create_task(look(client)) for _ in range(2)]
    while fake.busiest < 2:  # noqa: ASYNC110 - the calls arrive when they arrive
        await asyncio.sleep(0.01)
    await asyncio.wait_for(client.reload(CONFIG), 30)
    assert not any(one.done() for one in looks)
    for one in looks:
        one.cancel()
    await asyncio.gather(*looks, return_exceptions=True)


async def test_status_entries_are_read_with_their_errors_and_odd_states_left_out(fake, client):
    async def answer(_):
        reply = wire.GetModelStatusResponse()
        reply.model_version_status.add(version=3, state=50, status={"error_code": 15, "error_message": "cut"})
        reply.model_version_status.add(version=2, state=99)
        reply.model_version_status.add(version=1, state=0)
        reply.model_version_status.add(version=0, state=20)
        return reply

    fake.answers[wire.GET_MODEL_STATUS.path] = answer
    [three, zero] = (await look(client)).versions
    assert (three.version, three.availability, three.error_code, three.error_message) == (3, "END", "DATA_LOSS", "cut")
    assert three.failed
    assert (zero.version, zero.availability) == (0, Availability.LOADING)


@pytest.mark.parametrize(
    ("code", "words", "labels"),
    [
        (Code.NOT_FOUND, "Servable not found for request: Specific(m, 7)", {"stable": None}),
        (Code.INVALID_ARGUMENT, "Unrecognized servable version label: stable", {}),
        (Code.UNAVAILABLE, "Model labels does not init yet.stable", {}),
    ],
)
async def test_a_label_that_dangles_is_not_a_label_that_is_missing(fake, client, code, words, labels):
    fake.fail(wire.GET_MODEL_METADATA, code, words)

    async def no_versions(_):
        return wire.GetModelStatusResponse()

    fake.answers[wire.GET_MODEL_STATUS.path] = no_versions
    assert (await look(client, labels=("stable",))).labels == labels


@pytest.mark.parametrize(
    ("method", "code", "error"),
    [
        (wire.GET_MODEL_STATUS, Code.UNAVAILABLE, Unavailable),
        (wire.GET_MODEL_STATUS, Code.RESOURCE_EXHAUSTED, Unavailable),
        (wire.GET_MODEL_STATUS, Code.UNIMPLEMENTED, Refused),
        (wire.GET_MODEL_STATUS, Code.PERMISSION_DENIED, Refused),
        (wire.GET_MODEL_METADATA, Code.INTERNAL, Unavailable),
    ],
)
async def test_a_look_that_fails_is_one_error_and_not_half_a_view(fake, client, method, code, error):
    fake.fail(method, code)
    with pytest.raises(error):
        await client.look({M: ["stable"], ModelName("n"): []}, {})


async def test_a_status_answer_that_cannot_be_read_is_malformed(fake, client):
    async def rubbish(_):
        return b"\x0a\xff"

    fake.answers[wire.GET_MODEL_STATUS.path] = rubbish
    with pytest.raises(Malformed):
        await look(client)


async def test_a_server_that_hangs_ends_the_look_with_the_first_model(fake):
    fake.hang(wire.GET_MODEL_STATUS)
    async with serving(fake) as server, open_client(server, limits=Limits(status_seconds=0.05)) as client:
        with pytest.raises(Unavailable, match="DEADLINE_EXCEEDED"):
            await client.look({ModelName(f"m{i}"): [] for i in range(200)}, {})
    assert fake.calls[wire.GET_MODEL_STATUS.path] <= 4


@pytest.mark.parametrize(
    ("code", "words", "error", "says"),
    [
        (Code.FAILED_PRECONDITION, "Request to assign label to version 9", Refused, "assign label"),
        (Code.INVALID_ARGUMENT, "Illegal to change a model's platform", Refused, "platform"),
        (Code.PERMISSION_DENIED, "no", Refused, "PERMISSION_DENIED"),
        (Code.UNKNOWN, "1 model(s) did not become available", Unavailable, "look again: UNKNOWN: 1 model"),
        (Code.UNAVAILABLE, "Socket closed", Unavailable, "look again"),
        (*EXHAUSTED, Unavailable, "Threadpool"),
    ],
)
async def test_a_reload_is_sent_once_and_its_failure_told_in_the_servers_words(fake, client, code, words, error, says):
    fake.fail(wire.RELOAD_CONFIG, code, words)
    with pytest.raises(error, match=says):
        await client.reload(CONFIG)
    assert fake.calls[wire.RELOAD_CONFIG.path] == 1


async def test_golden_requests_are_sent_once_per_version_and_process(fake, client):
    for _ in range(3):
        view = await look(client, 1, 2)
    assert view.proven == {1, 2}
    assert view.unversioned == 2
    assert fake.calls[wire.PREDICT.path] == 3  # one per version, one naming neither


async def test_a_golden_request_answered_by_another_version_proves_nothing(fake, client):
    async def other(_):
        reply = wire.PredictResponse()
        reply.model_spec.version.value = 1
        return reply

    fake.answers[wire.PREDICT.path] = other
    view = await look(client, 1, 2)
    assert view.proven == {1}
    assert view.unversioned == 1
    assert view.unproven_because == {2: "the golden request to version 2 was answered by 1"}


@pytest.mark.parametrize("fault", [EXHAUSTED, (Code.UNAVAILABLE, "Socket closed")])
async def test_a_server_too_busy_for_a_golden_request_is_no_fault_of_the_version(fake, client, fault):
    fake.fail(wire.PREDICT, *fault)
    view = await look(client, 2)
    assert (view.proven, view.unproven_because) == (frozenset(), {})
    del fake.answers[wire.PREDICT.path]
    assert (await look(client, 2)).proven == {2}


async def test_no_metrics_url_is_no_page(client):
    assert await client.scrape() is None


async def test_a_kept_connection_that_the_server_closes_as_it_is_used_again_is_no_failure(fake):
    """TF Serving closes idle connections; a page asked for at that very moment is asked for again, once."""
    opened = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal opened
        opened += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na\n")
        await writer.drain()
        await reader.readuntil(b"\r\n\r\n")  # the next request is read, and left without an answer
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as pages, serving(fake) as server:
        url = f"http://127.0.0.1:{pages.sockets[0].getsockname()[1]}/"
        async with open_client(replace(server, metrics_url=url), limits=Limits()) as client:
            assert [await client.scrape(), await client.scrape()] == ["a\n", "a\n"]
    assert opened == 2


@pytest.mark.parametrize(("scores", "proven"), [([1.0, 2.0], {1}), ([1.0, 3.0], set()), ([1.0], set())])
async def test_a_version_is_proven_only_when_it_answers_as_recorded(fake, client, scores, proven):
    def response(values):
        reply = wire.PredictResponse()
        reply.model_spec.version.value = 1
        reply.outputs["score"].CopyFrom(encode(np.array(values, np.float32), 1))
        return reply

    async def answer(_):
        return response(scores)

    fake.answers[wire.PREDICT.path] = answer
    recorded = replace(GOLDEN, recorded=response([1.0, 2.0]).SerializeToString())
    seen = (await client.look({M: ()}, {M: [(1, GOLDEN), (1, recorded)]})).models[M]
    assert seen.proven == proven
    assert (seen.unproven_because == {}) == bool(proven)
    if not proven:
        assert seen.unproven_because[1].startswith("it does not answer as when it was validated: score: ")
