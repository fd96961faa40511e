"""The traps of TF Serving, one test each, named after it: what the client must do about them.

Numbers are those of docs/design/serving-traps.md; traps that the planner, the
judge or the release checks answer are tested there. Over the sandbox where it can show the trap, else over a fake.
"""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from tests.pki import server_credentials

from haldane import wire
from haldane.domain.fleet import ModelEntry, ModelName, ModelView, Policy, ServerConfig, ServerName
from haldane.domain.traffic import Status
from haldane.ports import Refused, Unavailable
from haldane.serving import exposition
from haldane.serving.channel import Tls
from haldane.serving.client import Limits, ServingClient, open_client
from haldane.testing.fake_serving import FakeServing, serving
from haldane.testing.sandboxes import Sandbox, affine_request

Code = grpc.StatusCode
TOY = ModelName("toy")
GOLDEN = affine_request(1.0)
LABELS = ("stable", "canary")


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    """Not started yet; versions 1 and 2 of `toy` are on disk."""
    with Sandbox(tmp_path) as sandbox:
        sandbox.add("toy", 1)
        sandbox.add("toy", 2)
        yield sandbox


async def look(client: ServingClient, *golden: int) -> ModelView:
    proofs = [(version, GOLDEN) for version in golden]
    return (await client.look({TOY: LABELS}, {TOY: proofs} if proofs else {})).models[TOY]


async def wait_until(client: ServingClient, claim: Callable[[ModelView], bool], *golden: int) -> ModelView:
    """Looks until the claim holds; a server that cannot be seen now is looked at again."""
    async with asyncio.timeout(60):
        while True:
            try:
                view = await look(client, *golden)
                if claim(view):
                    return view
            except Unavailable:
                pass
            await asyncio.sleep(0.05)


def loaded(*versions: int) -> Callable[[ModelView], bool]:
    return lambda view: view.loaded == versions


async def send_unchecked(sandbox: Sandbox, config: wire.ModelServerConfig) -> None:
    """A reload by someone else, who checks nothing."""
    async with grpc.aio.insecure_channel(sandbox.server.address) as channel:
        call = channel.unary_unary(wire.RELOAD_CONFIG.path, None, None)
        await call(wire.ReloadConfigRequest(config=config).SerializeToString(), timeout=10)


async def test_trap_01_loading_the_canary_moves_unversioned_traffic_and_is_seen_to(sandbox: Sandbox) -> None:
    sandbox.start(sandbox.config(sandbox.entry("toy", 1)))
    async with open_client(sandbox.server) as client:
        assert (await wait_until(client, loaded(1), 1)).unversioned == 1
        await client.reload(sandbox.config(sandbox.entry("toy", 1, 2)))
        assert (await wait_until(client, loaded(1, 2), 1, 2)).unversioned == 2


async def test_trap_02_label_and_load_in_one_request_are_never_sent(sandbox: Sandbox) -> None:
    sandbox.start(sandbox.config(sandbox.entry("toy", 1)))
    async with open_client(sandbox.server) as client:
        await wait_until(client, loaded(1))
        with pytest.raises(Refused, match=r"not sent: .*label canary needs version 2"):
            await client.reload(sandbox.config(sandbox.entry("toy", 1, 2, labels={"canary": 2})))
        await client.reload(sandbox.config(sandbox.entry("toy", 1, 2)))
        await wait_until(client, loaded(1, 2))
        await client.reload(sandbox.config(sandbox.entry("toy", 1, 2, labels={"canary": 2})))
        assert (await look(client)).labels == {"canary": 2}


async def test_trap_03_reload_ok_does_not_mean_loaded(sandbox: Sandbox) -> None:
    sandbox.add("toy", 3, "slow_load", seconds=1.0)
    sandbox.start(sandbox.config(sandbox.entry("toy", 1)))
    async with open_client(sandbox.server) as client:
        await wait_until(client, loaded(1))
        await client.reload(sandbox.config(sandbox.entry("toy", 1, 3)))  # OK, at once
        assert not (await look(client)).available(3)


async def test_trap_04_a_reload_that_failed_is_not_repeated_by_the_client() -> None:
    fake = FakeServing()
    fake.fail(wire.RELOAD_CONFIG, Code.UNKNOWN, "1 model(s) did not become available: {{{name: x version: 1}}, }")
    async with serving(fake) as server, open_client(server) as client:
        with pytest.raises(Unavailable, match="look again"):
            await client.reload(an_entry_config())
    assert fake.calls[wire.RELOAD_CONFIG.path] == 1


def an_entry_config(**changes: object) -> ServerConfig:
    entry = ModelEntry(name=TOY, base_path="/models/toy", policy=Policy.SPECIFIC, versions=(1, 2))
    return ServerConfig((replace(entry, **changes),))  # type: ignore[arg-type]


HARMFUL = {
    "trap_05_specific_without_versions_would_unload_everything": an_entry_config(versions=()),
    "trap_07_a_missing_platform_would_poison_the_server": an_entry_config(platform=""),
    "trap_08_an_empty_list_would_unload_every_model": ServerConfig(),
    "trap_13_dropping_a_labelled_version_would_leave_its_label_dangling": an_entry_config(labels={"stable": 3}),
    "statement_80_a_model_without_name": an_entry_config(name=""),
    "statement_80_a_relative_base_path": an_entry_config(base_path="models/toy"),
    "statement_80_two_listings_of_a_model": ServerConfig(an_entry_config().models * 2),
}


@pytest.mark.parametrize("config", HARMFUL.values(), ids=HARMFUL.keys())
async def test_statement_80_a_config_that_could_harm_is_never_sent(config: ServerConfig) -> None:
    fake = FakeServing()
    async with serving(fake) as server, open_client(server) as client:
        with pytest.raises(Refused, match="not sent"):
            await client.reload(config)
    assert fake.calls[wire.RELOAD_CONFIG.path] == 0


async def test_trap_06_a_jammed_server_is_told_after_a_short_deadline_and_reloads_do_not_pile_up() -> None:
    fake = FakeServing()
    fake.hang(wire.RELOAD_CONFIG)
    limits = Limits(reload_seconds=0.05, jam_seconds=(30, 60))
    async with serving(fake) as server, open_client(server, limits=limits) as client:
        for words in ("not known, look again", "not sent", "not sent"):
            with pytest.raises(Unavailable, match=words):
                await client.reload(an_entry_config())
        assert (await look(client)).loaded == (1, 2)  # looking goes on meanwhile
    assert fake.calls[wire.RELOAD_CONFIG.path] == 1


async def test_trap_06_after_the_pause_a_reload_is_tried_again() -> None:
    fake = FakeServing()
    fake.hang(wire.RELOAD_CONFIG)
    limits = Limits(reload_seconds=0.5, jam_seconds=(0.01, 0.01))
    async with serving(fake) as server, open_client(server, limits=limits) as client:
        with pytest.raises(Unavailable):
            await client.reload(an_entry_config())
        await asyncio.sleep(0.02)
        fake.answers.clear()
        await client.reload(an_entry_config())
    assert fake.calls[wire.RELOAD_CONFIG.path] == 2


async def test_trap_07_a_server_poisoned_by_someone_else_is_named_as_such() -> None:
    fake = FakeServing()
    words = "Illegal setting neither ModelServerConfig::model_type (deprecated) nor ModelServerConfig::model_platform"
    fake.fail(wire.RELOAD_CONFIG, Code.INVALID_ARGUMENT, words)
    async with serving(fake) as server, open_client(server) as client:
        with pytest.raises(Refused, match="must be restarted"):
            await client.reload(an_entry_config())


async def test_trap_08_every_reload_is_the_whole_list() -> None:
    fake = FakeServing()
    [one] = an_entry_config().models
    config = ServerConfig((one, replace(one, name=ModelName("other"), labels={"stable": 1})))
    async with serving(fake) as server, open_client(server) as client:
        await client.reload(config)
    [request] = fake.requests
    assert [model.name for model in request.config.model_config_list.config] == ["toy", "other"]
    assert dict(request.config.model_config_list.config[1].version_labels) == {"stable": 1}


async def test_trap_09_a_label_moved_by_someone_else_is_seen(sandbox: Sandbox) -> None:
    sandbox.start(sandbox.config(sandbox.entry("toy", 1, 2)))
    async with open_client(sandbox.server) as client, open_client(sandbox.server) as other:
        await wait_until(client, loaded(1, 2))
        await client.reload(sandbox.config(sandbox.entry("toy", 1, 2, labels={"stable": 1})))
        await other.reload(sandbox.config(sandbox.entry("toy", 1, 2, labels={"stable": 2})))
        assert (await look(client)).labels == {"stable": 2}


async def test_trap_10_config_file_polling_that_undoes_a_reload_is_seen(tmp_path: Path) -> None:
    with Sandbox(tmp_path, flags=["--model_config_file_poll_wait_seconds=1"]) as sandbox:
        sandbox.add("toy", 1)
        sandbox.start(sandbox.config(sandbox.entry("toy", 1)))
        async with open_client(sandbox.server) as client:
            await wait_until(client, loaded(1))
            labelled = sandbox.config(sandbox.entry("toy", 1, labels={"stable": 1}))
            for _ in range(5):  # a poll may fall between the reload and the look
                await client.reload(labelled)
                if (await look(client)).labels == {"stable": 1}:
                    break
            else:
                pytest.fail("the label was never seen to be set, so nothing was undone")
            await wait_until(client, lambda view: view.labels == {})


async def test_trap_11_a_restart_loses_labels_and_proofs_and_both_are_seen(sandbox: Sandbox) -> None:
    sandbox.start(config := sandbox.config(sandbox.entry("toy", 1, 2)))
    async with open_client(sandbox.server) as client:
        await wait_until(client, loaded(1, 2))
        await client.reload(sandbox.config(sandbox.entry("toy", 1, 2, labels={"stable": 1})))
        assert (await look(client, 1, 2)).proven == {1, 2}
        sandbox.stop()
        sandbox.start(config)
        view = await wait_until(client, loaded(1, 2))
        assert (view.labels, view.proven) == ({}, frozenset())
        assert (await look(client, 1, 2)).proven == {1, 2}


async def test_a_server_that_stands_still_is_unavailable_and_seen_again_when_it_goes_on(sandbox: Sandbox) -> None:
    sandbox.start(sandbox.config(sandbox.entry("toy", 1, 2)))
    async with open_client(sandbox.server, limits=Limits(status_seconds=0.2)) as client:
        await wait_until(client, loaded(1, 2))
        sandbox.freeze()
        with pytest.raises(Unavailable, match="DEADLINE_EXCEEDED"):
            await look(client)
        sandbox.thaw()
        await wait_until(client, loaded(1, 2))


async def test_trap_12_a_label_waits_for_its_version_even_where_the_server_would_allow_it(tmp_path: Path) -> None:
    with Sandbox(tmp_path, flags=["--allow_version_labels_for_unavailable_models"]) as sandbox:
        sandbox.add("toy", 1)
        sandbox.start(sandbox.config(sandbox.entry("toy", 1)))
        async with open_client(sandbox.server) as client:
            await wait_until(client, loaded(1))
            with pytest.raises(Refused, match="not sent"):
                await client.reload(sandbox.config(sandbox.entry("toy", 1, 9, labels={"canary": 9})))


async def test_trap_13_a_dangling_label_is_seen_as_pointing_to_nothing(sandbox: Sandbox) -> None:
    sandbox.start(sandbox.config(sandbox.entry("toy", 1, 2)))
    async with open_client(sandbox.server) as client:
        await wait_until(client, loaded(1, 2))
        careless = wire.ModelServerConfig()
        model = careless.model_config_list.config.add(
            name="toy", base_path=str(sandbox.models / "toy"), model_platform="tensorflow", version_labels={"canary": 2}
        )
        model.model_version_policy.specific.versions.append(1)
        await send_unchecked(sandbox, careless)
        view = await wait_until(client, loaded(1))
        assert view.labels == {"canary": None}
        deadline = asyncio.get_running_loop().time() + 5
        assert (await client.predict(TOY, GOLDEN, version="canary", deadline=deadline)).status is Status.NOT_FOUND
        await client.reload(sandbox.config(sandbox.entry("toy", 1, labels={"canary": 1})))  # the way out
        assert (await look(client)).labels == {"canary": 1}


async def test_trap_14_an_available_version_that_cannot_answer_is_not_proven(sandbox: Sandbox) -> None:
    sandbox.add("toy", 3, "missing_variables")
    sandbox.start(sandbox.config(sandbox.entry("toy", 1, 3)))
    async with open_client(sandbox.server) as client:
        view = await wait_until(client, loaded(1, 3), 1, 3)
        assert view.proven == {1}
        assert "FAILED_PRECONDITION" in view.unproven_because[3]
        assert view.unversioned is None  # 3 would answer requests naming nothing, and cannot


async def test_trap_17_an_end_from_an_earlier_load_is_not_taken_for_proof_or_trouble(sandbox: Sandbox) -> None:
    sandbox.start(sandbox.config(sandbox.entry("toy", 1, 2)))
    async with open_client(sandbox.server) as client:
        assert (await wait_until(client, loaded(1, 2), 1, 2)).proven == {1, 2}
        await client.reload(sandbox.config(sandbox.entry("toy", 1)))
        view = await wait_until(client, lambda view: (s := view.status(2)) is not None and s.availability == "END", 1)
        assert view.proven == {1}
        await client.reload(sandbox.config(sandbox.entry("toy", 1, 2)))
        view = await wait_until(client, loaded(1, 2))
        assert view.proven == {1}  # loaded again is another load


async def test_trap_18_looking_does_not_count_as_requests(sandbox: Sandbox) -> None:
    sandbox.start(sandbox.config(sandbox.entry("toy", 1, 2)), rest=True)
    async with open_client(sandbox.server) as client:
        await wait_until(client, loaded(1, 2))
        for _ in range(3):
            await client.look({TOY: LABELS, ModelName("unknown"): LABELS}, {})
        page = await client.scrape()
    assert page is not None
    assert exposition.parse(page).requests == {}


async def test_trap_20_a_page_broken_by_a_model_name_is_read_all_the_same(sandbox: Sandbox) -> None:
    sandbox.start(sandbox.config(sandbox.entry("toy", 1)), rest=True)
    async with open_client(sandbox.server) as client:
        await wait_until(client, loaded(1))
        deadline = asyncio.get_running_loop().time() + 5
        await client.predict(ModelName("a\nb"), GOLDEN, version=None, deadline=deadline)
        await client.predict(TOY, GOLDEN, version=None, deadline=deadline)
        page = exposition.parse(await client.scrape() or "")
    assert page.corrupt > 0
    assert page.requests == {("toy", "OK"): 1}
    assert exposition.models_seen(page) == {"toy"}
    assert exposition.base_paths_seen(page) == {str(sandbox.models / "toy")}


async def test_trap_21_a_slow_first_inference_is_not_held_against_the_version() -> None:
    fake = FakeServing()
    fake.hang(wire.PREDICT)
    async with serving(fake) as server, open_client(server, limits=Limits(golden_seconds=0.05)) as client:
        view = await look(client, 1)
        assert (view.proven, view.unproven_because) == (frozenset(), {})


async def test_trap_24_after_a_deadline_the_outcome_is_told_as_not_known() -> None:
    fake = FakeServing()
    fake.hang(wire.RELOAD_CONFIG)
    async with serving(fake) as server, open_client(server, limits=Limits(reload_seconds=0.05)) as client:
        with pytest.raises(Unavailable, match="outcome of the reload not known, look again: DEADLINE_EXCEEDED"):
            await client.reload(an_entry_config())


async def test_trap_25_the_version_that_answered_is_read_from_the_answer(sandbox: Sandbox) -> None:
    sandbox.start(sandbox.config(sandbox.entry("toy", 1, 2)))
    async with open_client(sandbox.server) as client:
        await wait_until(client, loaded(1, 2))
        await client.reload(sandbox.config(sandbox.entry("toy", 1, 2, labels={"stable": 1})))
        deadline = asyncio.get_running_loop().time() + 5
        outcome = await client.predict(TOY, GOLDEN, version="stable", deadline=deadline)
    assert outcome.version == 1
    assert outcome.answer is not None
    assert list(wire.PredictResponse.FromString(outcome.answer).outputs["y"].float_val) == [10.0]


async def test_trap_26_each_server_has_its_own_channel_past_any_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    first, second = FakeServing(), FakeServing()
    async with (
        serving(first, name="r0") as server_0,
        serving(second, name="r1") as server_1,
        open_client(server_0) as r0,
        open_client(server_1) as r1,
    ):
        for _ in range(3):
            assert (await r0.look({TOY: []}, {})).server == "r0"
        await r1.look({TOY: []}, {})
    assert (first.calls[wire.GET_MODEL_STATUS.path], second.calls[wire.GET_MODEL_STATUS.path]) == (3, 1)


async def test_lesson_24_no_free_server_thread_is_a_status_of_its_own() -> None:
    fake = FakeServing()
    for method in (wire.PREDICT, wire.GET_MODEL_STATUS):
        fake.fail(method, Code.RESOURCE_EXHAUSTED, "Server Threadpool Exhausted")
    async with serving(fake) as server, open_client(server) as client:
        deadline = asyncio.get_running_loop().time() + 5
        assert (await client.predict(TOY, GOLDEN, version=1, deadline=deadline)).status is Status.EXHAUSTED
        with pytest.raises(Unavailable, match="Threadpool"):
            await look(client)


async def test_section_8_logging_config_is_stripped_before_it_is_sent() -> None:
    fake = FakeServing()
    logging = wire.ModelConfig()
    logging.logging_config.sampling_config.sampling_rate = 1.0
    async with serving(fake) as server, open_client(server) as client:
        await client.reload(an_entry_config(other=logging.SerializeToString()))
    assert not fake.requests[0].config.model_config_list.config[0].HasField("logging_config")


async def test_statement_83_predictions_are_not_repeated_behind_our_back() -> None:
    fake = FakeServing()
    fake.fail(wire.PREDICT, Code.UNAVAILABLE, "Socket closed")
    async with serving(fake) as server, open_client(server) as client:
        deadline = asyncio.get_running_loop().time() + 5
        assert (await client.predict(TOY, GOLDEN, version=1, deadline=deadline)).status is Status.UNAVAILABLE
    assert fake.calls[wire.PREDICT.path] == 1


async def test_statement_88_answers_of_any_size_are_received() -> None:
    fake = FakeServing()

    async def large(_: object) -> object:
        reply = wire.PredictResponse()
        reply.model_spec.version.value = 1
        reply.outputs["y"].tensor_content = bytes(8 * 1024 * 1024)
        return reply

    fake.answers[wire.PREDICT.path] = large
    async with serving(fake) as server, open_client(server) as client:
        deadline = asyncio.get_running_loop().time() + 10
        outcome = await client.predict(TOY, GOLDEN, version=1, deadline=deadline)
    assert (outcome.status, outcome.version) == (Status.OK, 1)


# --- trap 30: the admin calls are unauthenticated unless mTLS is used -------------------------------------------------


async def test_trap_30_mtls_admits_our_certificate(pki: Path) -> None:
    tls = Tls(ca=pki / "ca.crt", cert=pki / "client.crt", key=pki / "client.key", server_name="replica.test")
    credentials = server_credentials(pki, client_verify=True)
    async with serving(FakeServing(), credentials=credentials) as server, open_client(server, tls) as client:
        assert (await look(client)).loaded == (1, 2)


@pytest.mark.parametrize("with_tls", [True, False], ids=["TLS without a client certificate", "no TLS at all"])
async def test_trap_30_mtls_keeps_others_out_and_that_shows_as_unavailable(pki: Path, with_tls: bool) -> None:
    tls = Tls(ca=pki / "ca.crt", server_name="replica.test") if with_tls else None
    credentials = server_credentials(pki, client_verify=True)
    async with serving(FakeServing(), credentials=credentials) as server, open_client(server, tls) as client:
        with pytest.raises(Unavailable):
            await look(client)


async def test_statement_88_tls_without_client_certificates_works(pki: Path) -> None:
    tls = Tls(ca=pki / "ca.crt", server_name="replica.test")
    credentials = server_credentials(pki, client_verify=False)
    async with serving(FakeServing(), credentials=credentials) as server, open_client(server, tls) as client:
        assert (await look(client)).loaded == (1, 2)


async def test_a_server_under_another_name_is_not_trusted(pki: Path) -> None:
    tls = Tls(ca=pki / "ca.crt")  # the certificate is for replica.test, the address is an IP
    credentials = server_credentials(pki, client_verify=False)
    async with serving(FakeServing(), credentials=credentials) as server, open_client(server, tls) as client:
        with pytest.raises(Unavailable):
            await look(client)


async def test_a_tls_file_that_is_not_there_is_told_when_the_client_opens(tmp_path: Path) -> None:
    async with serving(FakeServing(), name=ServerName("r0")) as server:
        with pytest.raises(Refused, match=r"r0: cannot read TLS file .*nowhere\.crt: No such file"):
            async with open_client(server, Tls(ca=tmp_path / "nowhere.crt")):
                pass


def test_a_certificate_without_its_key_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="both"):
        Tls(cert=Path("client.crt"))
