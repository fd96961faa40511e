"""`haldane audit`: what is taken away holds, and whatever is done to it is found."""

import json

import pytest
from click.testing import CliRunner
from tests import api

from haldane.cli import main
from haldane.domain.record import chain, to_line
from haldane.testing.gallery import MemoryAgent


class Remembering(MemoryAgent):
    """An agent with a log longer than one page."""

    def __init__(self):
        super().__init__()
        self.log = []
        for number in range(2500):
            last = self.log[-1] if self.log else None
            self.log.append(chain(last, at=1000.5 + number, kind="config_sent", data={"share": number / 7}))

    async def records(self, rollout, *, after=0, limit=1000):
        return [record for record in self.log if record.seq > after][:limit]


@pytest.fixture(scope="module")
def agent():
    return Remembering()


@pytest.fixture(scope="module")
def address(agent):
    with api.served(agent) as url:
        yield url


@pytest.fixture
def file(agent, tmp_path):
    file = tmp_path / "audit.jsonl"
    file.write_text("".join(to_line(record) + "\n" for record in agent.log))
    return file


def audit(*arguments):
    return CliRunner().invoke(main, ["audit", *map(str, arguments)])


def test_the_agents_log_is_exported_verified_and_never_written_over(agent, address, tmp_path):
    assert (
        f"2,500 records, none changed, missing or in another order; up to here: {agent.log[-1].hash}"
        in audit("verify", "--agent", address).stdout
    )
    target = tmp_path / "kept" / "audit.jsonl"
    assert audit("export", "--agent", address, "--to", target).exit_code == 0
    assert audit("verify", target).exit_code == 0
    before = target.read_bytes()
    assert audit("export", "--agent", address, "--to", target.as_uri()).exit_code == 5
    assert target.read_bytes() == before
    assert audit("export", "--agent", address).stdout.encode() == before


def test_who_was_turned_away_is_shown_with_how_often():
    callers = [
        {"address": "10.0.0.9", "path": "POST /v1/rollouts", "reason": "unknown token", "attempts": 12345},
        {"address": "10.0.0.8", "path": "POST /v1/holds", "reason": "no token", "attempts": 1},
    ]
    told = (
        ("denied", {"by": "bob", "right": "start", "why": "bob has no right to start of credit"}),
        ("config_sent", {"server": "r0"}),
        ("caller_refused", {"attempts": 12350, "callers": callers, "others": 4, "why": ""}),
        ("command_refused", {"by": "ada", "command": "approve", "why": "ada started this rollout"}),
    )
    agent = Remembering()
    agent.log = []
    for kind, data in told:
        agent.log.append(chain(agent.log[-1] if agent.log else None, at=1000.5, kind=kind, model="credit", data=data))
    with api.served(agent) as url:
        shown = audit("denied", "--agent", url)
        assert shown.exit_code == 0, shown.output
        rows = [" ".join(line.split()) for line in shown.stdout.splitlines()]
        at = "1970-01-01 00:16 UTC"
        assert f"{at} denied bob 1 credit bob has no right to start of credit" in rows
        assert f"{at} caller_refused 10.0.0.9 12,345 POST /v1/rollouts: unknown token" in rows
        assert f"{at} caller_refused others 4 from more places than there is room for" in rows
        assert f"{at} command_refused ada 1 credit ada started this rollout" in rows
        assert "config_sent" not in shown.stdout
        kinds = [one["kind"] for one in json.loads(audit("denied", "--agent", url, "-o", "json").stdout)]
    assert kinds == ["denied", "caller_refused", "command_refused"]


def changed(lines):
    record = json.loads(lines[700])
    record["data"]["share"] = 0.5
    lines[700] = json.dumps(record)


def swapped(lines):
    lines[5], lines[6] = lines[6], lines[5]


def without_one(lines):
    del lines[1000]


def without_the_first(lines):
    del lines[0]


def twice(lines):
    lines.insert(9, lines[8])


def broken(lines):
    lines[3] = lines[3][:40]


@pytest.mark.parametrize(
    ("done", "said"),
    [
        (changed, "record 701 was changed"),
        (swapped, "record 6 is missing, or out of order: record 7 stands there"),
        (without_one, "record 1001 is missing"),
        (without_the_first, "record 1 is missing"),
        (twice, "record 9 stands where record 10 should be"),
        (broken, "line 4: is no record"),
    ],
)
def test_whatever_is_done_to_the_log_is_found(file, done, said):
    lines = file.read_text().splitlines()
    done(lines)
    file.write_text("\n".join(lines) + "\n")
    result = audit("verify", file)
    assert result.exit_code == 1
    assert said in result.stderr


def test_a_log_that_was_cut_or_written_anew_holds_no_hash_that_was_noted(agent, file):
    noted = agent.log[-1].hash
    assert audit("verify", file, "--contains", noted).exit_code == 0
    lines = file.read_text().splitlines()
    file.write_text("\n".join(lines[:-1]) + "\n")
    assert audit("verify", file).exit_code == 0, "by itself a shorter log is whole"
    cut = audit("verify", file, "--contains", noted)
    assert cut.exit_code == 1
    assert "the log was cut, or written anew" in cut.stderr


def test_what_cannot_be_read_is_no_pass(file, tmp_path):
    assert audit("verify", tmp_path / "nothing").exit_code == 2
    (tmp_path / "empty").touch()
    assert audit("verify", tmp_path / "empty").exit_code == 3
    file.write_bytes(b"\xff\xfe")
    assert audit("verify", file).exit_code == 1
    assert audit("verify", "--agent", "http://127.0.0.1:1").exit_code == 4
    for where in ("s3://audit.jsonl", "kept/"):
        assert audit("export", "--to", where).exit_code == 2
