"""Commands that need no running agent: config, adopt, forecast, and a light start."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from haldane.adapters.sql import open_store
from haldane.cli import main
from haldane.cli.exits import config_errors
from haldane.config import load_config
from haldane.domain.rollout import Phase
from haldane.testing.builders import a_rollout
from haldane.testing.pairs import pairs, rules

MODELS = """model_config_list { config {
  name: "credit" base_path: "/m/credit" model_platform: "tensorflow"
  model_version_policy { specific { versions: 1 } } } }
"""
CONFIG = """servers: [127.0.0.1:1]
model_config_file: models.config
models:
  credit: {clients: label}
"""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "models.config").write_text(MODELS)
    path = tmp_path / "haldane.yaml"
    path.write_text(CONFIG)
    return path


def test_help_imports_nothing_heavy():
    """--help stays quick because commands import what they need when they are called."""
    heavy = ["numpy", "pydantic", "grpc", "httpx", "rich", "yaml", "starlette", "tensorflow", "haldane.wire"]
    code = (
        "import sys\nfrom haldane.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("command", ["run", "status", "rollout", "rollout start", "explain", "forecast", "check",
                                     "check config", "release", "release validate", "adopt", "demo"])  # fmt: skip
def test_every_command_has_help(command):
    result = run(*command.split(), "--help")
    assert result.exit_code == 0
    assert "Usage" in result.output


def test_a_good_config_is_said_to_be_fine(config):
    result = run("check", "config", str(config))
    assert (result.exit_code, "fine; mode observe, 1 server(s), credit" in result.output) == (0, True)


@pytest.mark.parametrize(("more", "noted"), [("", True), (", analysis: {metrics: {accuracy: off}}", False)])
def test_traffic_without_right_answers_is_said_to_keep_accuracy_open(config, more, noted):
    (config.parent / "requests.jsonl").touch()
    model = "{clients: label, traffic: {rest_jsonl: requests.jsonl}" + more + "}"
    config.write_text(CONFIG.replace("{clients: label}", model))
    checked, told = run("check", "config", str(config)), run("forecast", "credit", "--config", str(config))
    assert (checked.exit_code, told.exit_code) == (0, 0)
    assert ("accuracy: off" in checked.output) == ("accuracy: off" in told.output) == noted


def test_every_mistake_of_a_config_is_printed_with_its_line(config):
    config.write_text(CONFIG + "lissten: x\nmode: on\n")
    result = run("check", "config", str(config))
    assert result.exit_code == 2
    assert f"{config}:5: lissten: unknown key; did you mean `listen`?" in result.output
    assert f"{config}:6: mode:" in result.output
    assert "2 mistakes" in result.output


def test_online_a_server_that_does_not_answer_is_named_and_exits_4(config):
    result = run("check", "config", str(config), "--online")
    assert result.exit_code == 4
    assert "127.0.0.1:1" in result.output
    assert "is servers[].address right" in result.output


@pytest.mark.parametrize("arguments", [[], ["--config", "x", "--server", "h:1"], ["--config", "gone.yaml"],
                                       ["--server", "nonsense"]])  # fmt: skip
def test_run_with_nothing_to_run_exits_2(arguments):
    assert run("run", *arguments).exit_code == 2


def test_enforcing_without_a_config_is_refused():
    assert run("run", "--server", "127.0.0.1:1", "--mode", "enforce").exit_code == 5


def run_agent(config):
    """`haldane run` as a process of its own, to its end."""
    return subprocess.run(
        [sys.executable, "-c", "from haldane.cli import main; main()", "run", "--config", str(config)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_an_address_that_is_taken_is_refused_with_the_setting_to_change(config):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        config.write_text(CONFIG + f"listen: 127.0.0.1:{taken.getsockname()[1]}\n")
        done = run_agent(config)
    assert done.returncode == 5, done.stderr
    assert "set `listen:`" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_state_dir_that_cannot_be_made_is_named_with_the_setting_to_change(config):
    (config.parent / "taken").touch()
    config.write_text(CONFIG + "state_dir: taken/state\nlisten: 127.0.0.1:0\n")
    done = run_agent(config)
    assert done.returncode == 4, done.stderr
    assert "set `state_dir:`" in done.stderr
    assert "Traceback" not in done.stderr


def test_adopt_drafts_one_config_from_several(tmp_path):
    other = tmp_path / "b.config"
    other.write_text(MODELS.replace("credit", "fraud"))
    first = tmp_path / "a.config"
    first.write_text(MODELS)
    out = tmp_path / "models.config"
    result = run("adopt", str(first), str(other), "-o", str(out))
    assert result.exit_code == 0
    assert '"credit"' in out.read_text()
    assert '"fraud"' in out.read_text()
    again = run("adopt", str(first), "-o", str(out))
    assert (again.exit_code, "--force" in again.output) == (2, True)
    assert '"fraud"' in out.read_text()


def test_adopt_says_which_file_cannot_be_read(tmp_path):
    assert run("adopt", str(tmp_path / "gone")).exit_code == 2
    bad = tmp_path / "bad.config"
    bad.write_text("model_config_list { config { nam: 1 } }")
    result = run("adopt", str(bad))
    assert (result.exit_code, f"{bad}:1" in result.output) == (2, True)


def test_forecast_tells_what_can_be_shown(config):
    result = run("forecast", "credit", "--config", str(config), "--rows", "5000")
    assert result.exit_code == 0
    assert "an identical canary passes after about" in result.output
    assert run("forecast", "dog", "--config", str(config)).exit_code == 2


def test_with_a_switchback_half_of_the_pairs_show_the_canary(config):
    rates = []
    for more in ("", "analysis: {gauges: {cpu: {kind: cpu, margin: +10%}}}\n"):
        config.write_text(
            CONFIG.replace("servers:", "prometheus: {url: 'http://p:9090', cpu: 'c{p=\"$server\"}'}\nservers:") + more
        )
        said = run("forecast", "credit", "--config", str(config)).output
        rates.append(float(re.search(r"([\d.]+) pairs", said)[1]))
    assert rates[1] == pytest.approx(rates[0] / 2, rel=0.05)


def test_forecast_tells_what_a_slice_can_show_with_its_share_of_the_traffic(config):
    config.write_text(CONFIG + "analysis: {slices: [country=DE, country=FR]}\n")
    result = run("forecast", "credit", "--config", str(config), "--share", "country=DE=2.5%")
    assert result.exit_code == 0
    assert "accuracy country=DE (margin -1pp, 2.5 % of requests): " in result.output
    assert "accuracy country=FR (margin -1pp, 10 % of requests): " in result.output


@pytest.mark.parametrize(
    ("share", "says"),
    [("country=AT=5%", "no slice 'country=AT'; the config has country=DE"), ("country=DE=0%", "country=DE=5%"),
     ("country=DE=many", "country=DE=5%"), ("5%", "no slice ''")],
)  # fmt: skip
def test_a_share_of_no_slice_is_a_mistake(config, share, says):
    config.write_text(CONFIG + "analysis: {slices: [country=DE]}\n")
    result = run("forecast", "credit", "--config", str(config), "--share", share)
    assert result.exit_code == 2
    assert says in result.output


def test_a_bug_of_ours_never_looks_like_a_verdict(monkeypatch):
    monkeypatch.setattr("haldane.cli.connection.Connection.get", lambda *_, **__: {})
    result = run("status")
    assert result.exit_code == 4
    assert "mistake in Haldane itself" in result.output


def test_only_config_errors_become_exit_code_2():
    with pytest.raises(ZeroDivisionError), config_errors():
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("language", "guessed", "taken"), [("en", "guesses", "as measured in"), ("zh", "估计值", "实测")]
)
def test_a_forecast_takes_its_rates_from_the_newest_rollout_on_record(config, tmp_path, language, guessed, taken):
    config.write_text(CONFIG + f"state_dir: {tmp_path / 'state'}\n")
    command = ("forecast", "credit", "--config", str(config), "--language", language)
    assert guessed in run(*command).output
    (tmp_path / "state").mkdir()
    store = open_store(load_config(config).store_url.get_secret_value())
    rollout = a_rollout(Phase.SHADOWING, analysis=rules().to_json())
    store.commit(rollout, None, [("rollout_started", {})])
    store.append_evidence(rollout.id, pairs(5000, canary_wrong=np.arange(5000) % 10 == 0))
    store.close()
    told = run(*command)
    assert told.exit_code == 0, told.output
    assert taken in told.output and rollout.id in told.output and "5,000" in told.output
    assert "100 " in told.output.splitlines()[0]  # pairs a second, as they came


def test_whether_certificates_can_be_read_is_told_before_the_agent_runs(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.write_text(f"{CONFIG}proxy: {{addresses: [127.0.0.1], gives: certificate}}\n")
    assert "ok  proxy.gives: certificates can be read here" in run("check", "config", str(config), "--online").stdout
    monkeypatch.setitem(sys.modules, "haldane.web.certificates", None)
    told = run("check", "config", str(config), "--online")
    assert (told.exit_code, "NO  proxy.gives: reading certificates needs a package" in told.stderr) == (4, True)
