"""Commands that talk to a running agent: what they print, and the exit code they leave with."""

import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests import api
from tests.fleet import HALDANE

from haldane.cli import main
from haldane.domain.evidence import Verdict
from haldane.domain.rollout import Phase
from haldane.rollout.ramp import GatewayView
from haldane.serving import modelconfig
from haldane.testing.builders import MODEL, a_config, an_entry
from haldane.testing.gallery import MemoryAgent, a_story, canary_pairs
from haldane.testing.sandboxes import free_port

TOKEN = "t0ken"
HARMFUL = a_story(batches=list(canary_pairs(1000, wrong=0.08)), phase=Phase.SHADOWING)


@pytest.fixture
def agent() -> MemoryAgent:
    return MemoryAgent()


@pytest.fixture
def address(agent: MemoryAgent) -> Iterator[str]:
    """The agent's API on a real socket, in a loop of its own."""
    with api.served(agent, TOKEN) as url:
        yield url


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    (tmp_path / "token").write_text(TOKEN + "\n")
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def test_an_address_may_be_given_without_http(agent, address):
    assert run("status", "--agent", address.removeprefix("http://")).exit_code == 0


def test_status_shows_servers_labels_and_what_is_not_seen(agent, address):
    agent.add(HARMFUL)
    result = run("status", "--agent", address)
    assert result.exit_code == 0
    for word in ("mode enforce", "stable -> 1", "failed: DATA_LOSS", "not seen", "connection refused", "SHADOWING"):
        assert word in result.output


@pytest.mark.parametrize(
    ("seen", "share", "says"),
    [
        (GatewayView(0.1), 0.1, "gateway g sends 10 % of users' calls to the canary's servers, wanted 10 %"),
        (GatewayView(0.0), None, "gateway g sends 0 % of users' calls to the canary's servers\n"),
        (GatewayView(None, "no answer within 2 s"), 0.1, "gateway g cannot be read: no answer within 2 s"),
    ],
)
def test_status_says_what_a_gateway_does(agent, address, seen, share, says):
    found = replace(agent.status(), gateways={"g": seen}, share=share)
    agent.status = lambda: found
    assert says in run("status", "--agent", address).output


def test_status_says_what_was_announced_and_what_servers_boot_with(agent, address):
    waits = "version 8 of credit was announced and waits: no room"
    found = replace(agent.status(), announced=(waits,), boot={"file a": "cannot read a"})
    agent.status = lambda: found
    said = run("status", "--agent", address).output
    assert waits in said
    assert "file a, which servers boot with: cannot read a" in said


def test_status_for_programs_is_json(address):
    result = run("status", "--agent", address, "-o", "json")
    assert json.loads(result.output)["mode"] == "enforce"


@pytest.mark.parametrize(
    ("phase", "verdict", "code"),
    [
        (Phase.SUCCEEDED, Verdict.PASS, 0),
        (Phase.ROLLED_BACK, Verdict.FAIL, 1),
        (Phase.HELD, Verdict.INCONCLUSIVE, 3),
    ],
)
def test_waiting_for_a_version_ends_with_its_verdict(agent, address, phase, verdict, code):
    agent.add(a_story(phase=phase, verdict=verdict, why="so it is"))
    result = run("rollout", "wait", "credit", "2", "--agent", address)
    assert (result.exit_code, "so it is" in result.output) == (code, True)


def test_a_promotion_that_is_not_over_is_waited_for_and_the_time_that_is_over_told(agent, address):
    agent.add(a_story(phase=Phase.BAKING, verdict=Verdict.PASS))
    result = run("rollout", "wait", "credit", "2", "--agent", address, "--timeout", "0")
    assert (result.exit_code, "0 s are over, and it goes on" in result.stderr) == (3, True)


def test_a_version_whose_announcement_was_refused_is_not_waited_for(agent, address):
    agent.dropped_for["credit", 7] = "it took too long"
    result = run("rollout", "wait", "credit", "7", "--agent", address)
    assert (result.exit_code, "it took too long" in result.output) == (3, True)


def test_an_agent_that_is_restarted_is_waited_for(agent):
    agent.add(a_story(phase=Phase.SHADOWING))
    port = free_port()
    waiting = [HALDANE, "rollout", "wait", "credit", "2", "--agent", f"127.0.0.1:{port}"]
    with api.served(agent, TOKEN, port=port):
        process = subprocess.Popen(waiting, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline().startswith("SHADOWING")
    agent.stories.clear()
    agent.add(a_story(phase=Phase.SUCCEEDED, verdict=Verdict.PASS))
    time.sleep(1.5)  # so that it finds nobody at least once
    with api.served(agent, TOKEN, port=port):
        assert process.wait(60) == 0


def test_waiting_for_nobody_and_for_a_model_that_is_not_there_ends_at_once(address):
    assert run("rollout", "wait", "fraud", "2", "--agent", address).exit_code == 2
    assert run("rollout", "wait", "credit", "2", "--agent", "127.0.0.1:1").exit_code == 4


def test_brokers_and_a_topic_belong_together():
    result = run("release", "announce", "credit", "7", "--kafka", "127.0.0.1:1")
    assert (result.exit_code, "--kafka and --topic belong together" in result.stderr) == (2, True)


def test_a_release_is_announced_and_again_it_is_known(agent, address, state_dir):
    command = ("release", "announce", "credit", "7", "--agent", address, "--state-dir", str(state_dir))
    first, again = run(*command), run(*command)
    assert (first.exit_code, "as soon as it can" in first.output) == (0, True)
    assert (again.exit_code, "told before" in again.output) == (0, True)
    assert run("release", "announce", "fraud", *command[3:]).exit_code == 2
    assert run("release", "announce", "credit", "seven", *command[4:]).exit_code == 2


def test_without_an_agent_every_command_says_what_to_do_and_exits_4():
    for command in (["status"], ["rollout", "list"], ["rollout", "abort", "x", "--why", "y"], ["explain", "x"]):
        result = run(*command, "--agent", "http://127.0.0.1:1")
        assert result.exit_code == 4
        assert "haldane run --config" in result.output


def test_a_server_that_is_no_agent_is_said_to_be_none(tmp_path):
    result = run("status", "--agent", "no url")
    assert result.exit_code == 4


def test_a_rollout_starts_with_the_token_and_is_refused_beside_a_live_one(agent, address, state_dir):
    where = ["--agent", address, "--state-dir", str(state_dir)]
    begun = run("rollout", "start", "credit", "3", "--why", "retrained", *where)
    assert begun.exit_code == 0, begun.output
    assert "credit 1 -> 3 started" in begun.output
    assert agent.stories["credit-3-0"].rollout.why.endswith(": retrained")
    again = run("rollout", "start", "credit", "4", "--why", "x", *where)
    assert (again.exit_code, "live" in again.output) == (5, True)
    unknown = run("rollout", "start", "dog", "4", "--why", "x", *where)
    assert (unknown.exit_code, "it has credit" in unknown.output) == (2, True)


def test_a_command_without_or_with_a_wrong_token_exits_5_and_says_where_it_is(agent, address, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    agent.add(HARMFUL)
    command = ["rollout", "abort", "credit-2-test", "--why", "x", "--agent", address]
    without = run(*command)
    assert (without.exit_code, "--state-dir" in without.output) == (5, True)
    (tmp_path / "wrong").write_text("nope")
    assert run(*command, "--token-file", "wrong").exit_code == 5
    assert run(*command, "--token-file", "missing").exit_code == 2
    assert agent.stories["credit-2-test"].rollout.phase is Phase.SHADOWING


def test_commands_move_a_rollout_and_carry_who_and_why(agent, address, state_dir):
    agent.add(HARMFUL)
    where = ["--agent", address, "--state-dir", str(state_dir)]
    paused = run("rollout", "pause", "credit-2-test", "--why", "lunch", *where)
    assert (paused.exit_code, paused.output) == (0, "credit-2-test: SHADOWING -> HELD\n")
    assert run("rollout", "resume", "credit-2-test", "--why", "back", *where).exit_code == 0
    assert run("rollout", "resume", "credit-2-test", "--why", "again", *where).exit_code == 5
    assert run("rollout", "abort", "nope", "--why", "x", *where).exit_code == 2
    assert run("rollout", "abort", "credit-2-test", *where).exit_code == 2


def test_the_config_tells_where_the_agent_is_and_its_token(agent, address, tmp_path):
    agent.add(HARMFUL)
    (tmp_path / "token").write_text(TOKEN)
    config = tmp_path / "haldane.yaml"
    config.write_text(f"servers: [h:1]\nlisten: {address.removeprefix('http://')}\nstate_dir: .\n")
    assert run("rollout", "abort", "credit-2-test", "--why", "x", "--config", str(config)).exit_code == 0


@pytest.mark.parametrize(
    ("phase", "verdict", "code"),
    [
        (Phase.SUCCEEDED, Verdict.PASS, 0),
        (Phase.ROLLED_BACK, Verdict.FAIL, 1),
        (Phase.ROLLED_BACK, Verdict.CONTINUE, 1),
        (Phase.HELD, Verdict.INCONCLUSIVE, 3),
        (Phase.HELD, Verdict.CONTINUE, 3),
        (Phase.HELD, Verdict.PASS, 0),
        (Phase.HELD, Verdict.FAIL, 1),
        (Phase.STUCK, Verdict.FAIL, 4),
    ],
)
def test_waiting_ends_with_the_verdicts_code(agent, address, state_dir, monkeypatch, phase, verdict, code):
    """The rollout ends while it is waited for."""
    looks = iter([Phase.LOADING, Phase.SHADOWING])

    async def rollout(name):
        found = agent.stories[name].rollout
        after = next(looks, None)
        return replace(found, phase=after) if after else replace(found, phase=phase, verdict=verdict, why="the end")

    monkeypatch.setattr(agent, "rollout", rollout)
    monkeypatch.setattr("haldane.cli.rollout.POLL_SECONDS", 0.001)
    result = run("rollout", "start", "credit", "3", "--why", "x", "--wait", "--agent", address,
                 "--state-dir", str(state_dir))  # fmt: skip
    assert result.exit_code == code
    assert "LOADING" in result.output
    assert "the end" in result.output
    assert ("waits for a person" in result.output) == (phase is Phase.HELD)


def test_waiting_tells_how_many_pairs_there_are(agent, address, state_dir, monkeypatch):
    """A phase that lasts shows that it goes on."""
    looks = iter([Phase.SHADOWING, Phase.SHADOWING])

    async def rollout(name):
        return replace(HARMFUL.rollout, phase=next(looks, Phase.ROLLED_BACK))

    async def rulings(name):
        return HARMFUL.rulings

    monkeypatch.setattr(agent, "rollout", rollout)
    monkeypatch.setattr(agent, "rulings", rulings)
    monkeypatch.setattr("haldane.cli.rollout.POLL_SECONDS", 0.001)
    monkeypatch.setattr("haldane.cli.rollout.PROGRESS_SECONDS", 0.0)
    result = run("rollout", "start", "credit", "3", "--why", "x", "--wait", "--agent", address,
                 "--state-dir", str(state_dir))  # fmt: skip
    assert f"{HARMFUL.rulings[-1].pairs:,} pairs so far; " in result.output


def test_no_longer_following_is_no_verdict(agent, address, state_dir, monkeypatch):
    def interrupted(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr("haldane.cli.rollout.time.sleep", interrupted)
    result = run("rollout", "start", "credit", "3", "--why", "x", "--wait", "--agent", address,
                 "--state-dir", str(state_dir))  # fmt: skip
    assert (result.exit_code, "rollout show credit-3-0" in result.output) == (3, True)


def test_a_list_shortens_a_long_reason(agent, address):
    long = "a: version 2 loaded but cannot answer: " + "Could not find variable. " * 20 + "The end"
    agent.add(replace(HARMFUL, rollout=replace(HARMFUL.rollout, why=long)))
    listed = run("rollout", "list", "--agent", address).output
    assert ("cannot answer" in listed, "…" in listed, "The end" in listed) == (True, True, False)


def test_list_and_show_tell_findings_and_records(agent, address):
    assert "no rollouts yet" in run("rollout", "list", "--agent", address).output
    agent.add(HARMFUL)
    assert "credit-2-test" in run("rollout", "list", "--agent", address).output
    shown = run("rollout", "show", "credit-2-test", "--agent", address)
    assert shown.exit_code == 0
    for word in ("accuracy", "harmful", "rollout_started", "retrained"):
        assert word in shown.output
    found = json.loads(run("rollout", "show", "credit-2-test", "-o", "json", "--agent", address).output)
    assert found["ruling"]["verdict"] == "fail"
    assert len(found["records"]) == 4


@pytest.mark.parametrize(("language", "word"), [("en", "FAIL after"), ("zh", "不通过")])
def test_explain_prints_sentences_and_exits_by_the_verdict(agent, address, language, word):
    agent.add(HARMFUL)
    result = run("explain", "credit-2-test", "--language", language, "--agent", address)
    assert (result.exit_code, word in result.output) == (1, True)


def test_explaining_without_data_exits_3(agent, address):
    agent.add(a_story(phase=Phase.LOADING))
    result = run("explain", "credit-2-test", "--agent", address)
    assert (result.exit_code, "No data" in result.output) == (3, True)
    assert run("explain", "nope", "--agent", address).exit_code == 2


# --- labels -----------------------------------------------------------------------------------------------------------


def send_labels(file: Path, address: str, state_dir: Path, model: str = "credit") -> Result:
    return run("labels", "send", str(file), "--model", model, "--agent", address, "--state-dir", str(state_dir))


def test_labels_are_sent_from_json_lines_and_again_without_harm(agent, address, state_dir, tmp_path):
    file = tmp_path / "labels.jsonl"
    file.write_text("".join(f'{{"request": "q{i}", "label": "cat"}}\n\n' for i in range(6000)))
    told = send_labels(file, address, state_dir)
    assert (told.exit_code, len(agent.labels)) == (0, 6000), told.output
    assert "6,000 accepted, of which 6,000 without a pair so far; 0 were known already" in told.output
    assert (
        "0 accepted, of which 0 without a pair so far; 6,000 were known" in send_labels(file, address, state_dir).output
    )


def test_labels_of_a_table_are_numbers_where_they_look_like_it(agent, address, state_dir, tmp_path):
    file = tmp_path / "labels.csv"
    file.write_text('\ufefflabel,request,seen\n1.5,q1,x\n"a, b",q2,x\n')
    assert send_labels(file, address, state_dir).exit_code == 0
    assert {label.truth for label in agent.labels.values()} == {1.5, "a, b"}


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("l.jsonl", '{"request": "a", "label": 1}\n{"request": "b"}\n', "line 2"),
        ("l.jsonl", '{"request": "a", "label": NaN}\n', "line 1: label must be a number or the name of a class"),
        ("l.jsonl", "[1, 2\n", "line 1"),
        ("l.csv", "request,truth\na,1\n", "needs the columns request and label; it has request, truth"),
        ("l.csv", "request,label\na,1\n,2\n", "line 3: request must be"),
        ("l.csv", "request,label\na\n", "line 2: label must be"),
        ("l.csv", "", "it has none"),
    ],
)
def test_a_line_that_is_no_label_is_named_and_leaves_with_2(address, state_dir, tmp_path, name, text, says):
    (tmp_path / name).write_text(text)
    told = send_labels(tmp_path / name, address, state_dir)
    assert told.exit_code == 2, told.output
    assert says in told.output


def test_labels_of_a_model_nobody_knows_leave_with_2(address, state_dir, tmp_path):
    (tmp_path / "l.csv").write_text("request,label\na,1\n")
    told = send_labels(tmp_path / "l.csv", address, state_dir, model="none such/&x=1")
    assert (told.exit_code, "none such/&x=1" in told.output) == (2, True)


# --- render ------------------------------------------------------------------


@pytest.fixture
def boot(tmp_path: Path) -> Path:
    path = tmp_path / "boot.config"
    path.write_text("# by hand\n" + modelconfig.render(a_config(an_entry(), an_entry("fraud"))))
    return path


def test_render_puts_what_is_stable_into_a_config_and_changes_no_letter_else(agent, address, boot):
    before = boot.read_text()
    same = run("render", str(boot), "--agent", address)
    assert (same.exit_code, same.stdout) == (0, before)
    found = replace(agent.status(), stable={MODEL: 2, "fraud": None, "loans": 1})
    agent.status = lambda: found
    shown = run("render", str(boot), "--agent", address)
    assert shown.exit_code == 0
    assert "does not have model loans" in shown.stderr
    assert boot.read_text() == before
    assert run("render", "--write", str(boot), "--agent", address).exit_code == 0
    assert boot.read_text() == shown.stdout
    rendered = modelconfig.parse(boot.read_text())
    assert rendered.entry(MODEL) == an_entry(versions=(2,), labels={"stable": 2})
    assert rendered.entry("fraud") == an_entry("fraud")
    assert boot.read_text().startswith("# by hand\n")


def test_render_says_which_file_it_cannot_use(address, boot, tmp_path):
    for content, says in (("model_config_list {", "boot.config"), (None, "cannot read it")):
        if content is None:
            boot.unlink()
        else:
            boot.write_text(content)
        result = run("render", str(boot), "--agent", address)
        assert result.exit_code == 2
        assert says in result.output
