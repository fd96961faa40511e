"""A config file is read strictly, and every mistake is told at once with its line."""

import textwrap
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from haldane.config import Config, ConfigError, load_config, notes, record_keys, zero_config
from haldane.domain.evidence import Role
from haldane.domain.fleet import Clients, ModelName, Placement, ServerConfig
from haldane.domain.rollout import Mode
from haldane.serving.modelconfig import parse

MODELS = """
model_config_list {
  config { name: "credit_risk" base_path: "/m/credit_risk" model_platform: "tensorflow"
           model_version_policy { specific { versions: 3 } } }
  config { name: "latest" base_path: "/m/latest" model_platform: "tensorflow" }
}
"""

MINIMAL = """
mode: enforce
servers:
  - {address: 127.0.0.1:8500, metrics_url: http://127.0.0.1:8501/metrics}
  - {name: r1, address: 127.0.0.1:8510, metrics_url: http://127.0.0.1:8511/metrics}
model_config_file: models.config
models:
  credit_risk:
    clients: label
    traffic: {labelled: rows.parquet, label: bad}
    outputs: {kind: binary_probability}
"""


def parse_models(text: str, source: str) -> ServerConfig:
    return parse(text, source=source)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "models.config").write_text(MODELS)
    (tmp_path / "rows.parquet").touch()
    return tmp_path


def load(folder: Path, text: str, **options: Mode) -> Config:
    path = folder / "haldane.yaml"
    path.write_text(textwrap.dedent(text).lstrip())
    return load_config(path, parse_models=parse_models, **options)


def problems(folder: Path, text: str) -> dict[str, tuple[int, str]]:
    """Key -> (line, what it says)."""
    with pytest.raises(ConfigError) as caught:
        load(folder, text)
    return {problem.key: (problem.line, problem.says) for problem in caught.value.problems}


def test_a_minimal_config_has_at_most_ten_lines_and_everything_else_has_a_default(folder):
    assert len(MINIMAL.strip().splitlines()) <= 10
    config = load(folder, MINIMAL)
    assert config.mode is Mode.ENFORCE
    assert [server.name for server in config.fleet] == ["127.0.0.1:8500", "r1"]
    assert config.models["credit_risk"].where is Placement.SAME_ENTRY
    assert config.base is not None
    assert [entry.name for entry in config.base.models] == ["credit_risk", "latest"]
    rules = config.rules_of("credit_risk")
    assert {metric.name: metric.role for metric in rules.metrics}["disagreement"] is Role.INFO
    assert rules.rate_per_second == config.shadow.rate


@pytest.mark.parametrize(
    ("kind", "share", "floor", "classes"),
    [("binary_probability", 0.05, True, False), ("class_scores", 0.05, True, True), ("regression", 0, False, False)],
)
def test_what_readings_are_is_said_once_and_reaches_the_rules(folder, kind, share, floor, classes):
    text = MINIMAL.replace("binary_probability", kind) + f"shadow: {{aa_share: {share}}}\n"
    rules = {rule.name: rule for rule in load(folder, text).rules_of("credit_risk").metrics}
    assert (rules["disagreement"].floor, rules["drift"].classes) == (floor, classes)
    assert not (rules["drift"].floor or rules["disagreement"].classes or rules["errors"].floor)


def test_a_wrong_server_does_not_hide_the_mistakes_that_need_the_whole_file(folder):
    found = problems(
        folder,
        """
        mode: enforce
        servers:
          - {name: a, address: 127.0.0.1, metrics_url: "127.0.0.1:8501/metrics"}
          - 17
          - {name: a, address: 127.0.0.1:8510, metrics_url: http://127.0.0.1:8511/metrics}
        model_config_file: nowhere.config
        models:
          credit_risk:
            clients: unversioned
            traffic: {labelled: nowhere.csv, label: bad}
            outputs: {kind: binary_probability}
        """,
    )
    assert {key: line for key, (line, _) in found.items()} == {
        "servers[0].address": 3,
        "servers[0].metrics_url": 3,
        "servers[1]": 4,
        "servers[2]": 5,
        "model_config_file": 6,
        "models.credit_risk.clients": 9,
        "models.credit_risk.traffic.labelled": 10,
    }


def test_relative_paths_are_taken_from_the_files_folder(folder):
    config = load(folder, MINIMAL)
    assert config.state_dir == folder / "haldane-state"
    assert config.models["credit_risk"].traffic.files == folder / "rows.parquet"
    assert config.store_url.get_secret_value() == f"sqlite:///{folder}/haldane-state/haldane.db"


def test_the_agent_observes_unless_told_otherwise(folder):
    assert load(folder, "servers: [127.0.0.1:8500]").mode is Mode.OBSERVE
    assert load(folder, MINIMAL, mode=Mode.OBSERVE).mode is Mode.OBSERVE


def test_every_mistake_is_told_at_once_with_line_key_and_what_would_be_right(folder):
    found = problems(
        folder,
        """
        mode: enforced
        servers: [127.0.0.1:8500, {adress: 127.0.0.1:8501}]
        lissten: 127.0.0.1:1
        analysis:
          alpha: 2
          alpha: 0.1
          metrics: {latency: 15pp, accuracy: {margin: 1%}, loss: true}
        plan: {bake: 1 fortnight}
        models:
          credit_risk:
            traffic: {labeled: rows.parquet}
        """,
    )
    assert {key: line for key, (line, _) in found.items()} == {
        "mode": 1,
        "servers[1].address": 2,
        "servers[1].adress": 2,
        "lissten": 3,
        "analysis.alpha": 6,
        "analysis.metrics.latency": 7,
        "analysis.metrics.accuracy": 7,
        "analysis.metrics.loss": 7,
        "plan.bake": 8,
        "models.credit_risk.clients": 10,
        "models.credit_risk.traffic.labeled": 11,
    }
    assert "did you mean `address`?" in found["servers[1].adress"][1]
    assert "'observe' or 'enforce'" in found["mode"][1]
    assert "first on line 5" in found["analysis.alpha"][1]
    assert '"+10%"' in found["analysis.metrics.latency"][1]
    assert "5m" in found["plan.bake"][1]


@pytest.mark.parametrize(
    ("analysis", "key", "says"),
    [
        ("alpha: 0", "alpha", "greater than 0"),
        ("beta: .nan", "beta", "finite number"),
        ("baseline_errors: 10", "baseline_errors", 'with its unit, such as "10%"'),
        ("baseline_errors: 0%", "baseline_errors", "between 0 and 100 %"),
        ("metrics: {errors: '0.5'}", "metrics.errors", "has no unit"),
        ("metrics: {latency: '10'}", "metrics.latency", "has no unit"),
        ("metrics: {accuracy: '0pp'}", "metrics.accuracy", "can never be shown to be kept"),
    ],
)
def test_what_could_never_judge_is_refused_by_key(folder, analysis, key, says):
    found = problems(folder, f"servers: [h:1]\nanalysis: {{{analysis}}}\n")
    assert says in found[f"analysis.{key}"][1]


@pytest.mark.parametrize(("written", "meant"), [("3", 3), ("0", 0), ('"12"', 12), ("none", "none"), ("~", None)])
def test_the_stable_version_is_a_number_or_none_yet(folder, written, meant):
    config = load(folder, f"servers: [h:1]\nmodels: {{m: {{clients: label, stable: {written}}}}}\n")
    assert config.models["m"].stable == meant


@pytest.mark.parametrize("written", ["never", "-1", "1.5", "true", "[1]"])
def test_what_is_no_version_says_what_would_be_right(folder, written):
    found = problems(folder, f"servers: [h:1]\nmodels: {{m: {{clients: label, stable: {written}}}}}\n")
    assert "a version number, or none where no version" in found["models.m.stable"][1]


def test_mistakes_between_keys_are_told_beside_mistakes_in_keys(folder):
    found = problems(folder, MINIMAL.replace("rows.parquet", "gone.parquet") + "shaddow: {rate: 5}\n")
    assert "did you mean `shadow`?" in found["shaddow"][1]
    assert "no such file" in found["models.credit_risk.traffic.labelled"][1]


def test_unversioned_clients_beside_stable_are_refused_and_own_replicas_offered(folder):
    found = problems(folder, MINIMAL.replace("clients: label", "clients: unversioned"))
    line, says = found["models.credit_risk.clients"]
    assert line == 8
    assert "all traffic at once" in says
    assert "own_replicas" in says


def test_unversioned_clients_with_a_canary_server_are_fine(folder):
    config = load(
        folder,
        """
        mode: enforce
        servers:
          - {address: 127.0.0.1:8500, metrics_url: http://127.0.0.1:8501/metrics}
          - {address: 127.0.0.1:8510, metrics_url: http://127.0.0.1:8511/metrics, canary: true}
        model_config_file: models.config
        models: {credit_risk: {clients: unversioned, placement: own_replicas}}
        """,
    )
    assert config.models["credit_risk"].clients is Clients.UNVERSIONED
    assert [server.dedicated_canary for server in config.fleet] == [False, True]


def test_a_second_name_suits_both_kinds_of_clients(folder):
    for text in (MINIMAL, MINIMAL.replace("clients: label", "clients: unversioned")):
        assert load(folder, text + "    placement: second_name\n").models["credit_risk"].where is Placement.SECOND_NAME


def test_a_second_name_that_is_taken_is_refused(folder):
    (folder / "models.config").write_text(MODELS.replace('"latest"', '"credit_risk_canary"'))
    found = problems(folder, MINIMAL + "    placement: second_name\n")
    assert "the name credit_risk_canary, which" in found["models.credit_risk.placement"][1]


def test_a_second_name_is_refused_where_a_server_is_changed_by_its_file(folder):
    text = MINIMAL.replace("{name: r1,", "{name: r1, config_file: r1.config,") + "    placement: second_name\n"
    assert "use same_entry or own_replicas" in problems(folder, text)["models.credit_risk.placement"][1]


def test_own_replicas_without_a_canary_server_is_refused(folder):
    found = problems(folder, MINIMAL + "    placement: own_replicas\n")
    assert "canary: true" in found["models.credit_risk.placement"][1]


def test_a_model_that_the_model_config_lacks_is_named_with_the_nearest_one(folder):
    line, says = problems(folder, MINIMAL.replace("credit_risk:", "credit_rsk:"))["models.credit_rsk"]
    assert line == 7
    assert "did you mean credit_risk?" in says


def test_enforcing_over_the_latest_policy_is_refused_with_the_fix(folder):
    found = problems(folder, MINIMAL.replace("credit_risk:", "latest:") + "    stable: 7\n")
    assert "specific { versions: 7 }" in found["models.latest"][1]


def test_observing_over_the_latest_policy_needs_the_stable_version(folder):
    text = MINIMAL.replace("credit_risk:", "latest:").replace("enforce", "observe")
    assert "stable: N" in problems(folder, text)["models.latest"][1]
    assert load(folder, text + "    stable: 7\n").models["latest"].stable == 7


def test_enforcing_without_the_whole_model_list_is_refused(folder):
    assert "adopt" in problems(folder, "mode: enforce\nservers: [h:1]\n")["mode"][1]


def test_enforcing_on_a_server_whose_models_cannot_be_seen_is_refused(folder):
    found = problems(folder, MINIMAL.replace(", metrics_url: http://127.0.0.1:8511/metrics", ""))
    assert "metrics_url" in found["servers[1]"][1]
    assert load(
        folder, MINIMAL.replace(", metrics_url: http://127.0.0.1:8511/metrics", "").replace("enforce", "observe")
    )


def test_a_model_config_that_cannot_be_read_is_told_with_its_own_line(folder):
    (folder / "models.config").write_text('model_config_list {\n  config { nam: "x" }\n}\n')
    line, says = problems(folder, MINIMAL)["model_config_file"]
    assert line == 5
    assert "models.config:2" in says


@pytest.mark.parametrize(
    ("line", "key", "word"),
    [
        ("servers: []", "servers", "no server is given"),
        ("servers: [h:1, h:1]", "servers[1]", "servers[0]"),
        ("discover: [{file: a.yml, dns: b}]", "discover[0]", "exactly one of file, dns"),
        ("discover: [{kubernetes: serving}]", "discover[0].kubernetes", "should match pattern"),
        ("discover: [{dns: a, port: 1, port_name: grpc}]", "discover[0].port_name", "belongs to kubernetes"),
        ("discover: [{kubernetes: a/b, record: SRV}]", "discover[0].record", "belongs to dns"),
        ("mode: enforce\ndiscover: [{kubernetes: a/b, port_name: grpc}]", "discover[0]", "metrics_port"),
        ("discover: [{port: 8500}]", "discover[0]", "given: none"),
        ("servers: [h:1]\nboot_configs: [{key: a}]", "boot_configs[0]", "exactly one of file, config_map"),
        ("servers: [h:1]\nboot_configs: [{config_map: A/b}]", "boot_configs[0].config_map", "should match pattern"),
        ("servers: [h:1]\nboot_configs: [{file: a}]", "boot_configs[0]", "needs model_config_file"),
        ("servers: [h:1]\nboot_configs: [{file: a}, {file: a}]", "boot_configs[1]", "the same as boot_configs[0]"),
        (
            "servers: [{address: h:1, config_file: a}]\nboot_configs: [{file: a}]",
            "boot_configs[0].file",
            "follows every rollout",
        ),
        ("discover: [{file: a.yml}, {file: a.yml}]", "discover[1]", "the same list as discover[0]"),
        ("discover: [{dns: serving.test}]", "discover[0]", "give port"),
        ("discover: [{file: a.yml, resolver: '10.0.0.1:53'}]", "discover[0].resolver", "belongs to dns"),
        ("discover: [{dns: _grpc._tcp.a, resolver: 'ns1:53'}]", "discover[0].resolver", "IP address"),
        ("discover: [{file: a.yml, canary: true}]", "servers", "user traffic"),
        ("mode: enforce\ndiscover: [{dns: _grpc._tcp.serving.test}]", "discover[0]", "metrics_port"),
        ("servers: [{address: h:1, canary: true}]", "servers", "user traffic"),
        ("servers: ['http://h:1']", "servers[0].address", "HOST:PORT"),
        ("servers: [h:1]\nlisten: 0.0.0.0:80", "listen", "token_file"),
        ("servers: [h:1]\nstore: postgresql://me:pw@h/db", "store", "store_env"),
        ("servers: [h:1]\ntoken_env: HALDANE_NO_SUCH", "token_env", "not set"),
        ("servers: [h:1]\ntoken_file: gone", "token_file", "cannot read"),
        ("servers: [h:1]\nwebhook: {url: 'http://h/'}", "webhook.secret_file", "notices are signed"),
        ("servers: [h:1]\nwebhook: {url: 'http://h/', secret_file: gone}", "webhook.secret_file", "cannot read"),
        ("servers: [h:1]\nwebhook: {url: 'h/x', secret_env: HOME}", "webhook.url", "http:// or https://"),
        ("servers: [h:1]\nwebhook: {url: 'http://h/', secret_env: HOME}", "webhook.secret_env", "openssl rand"),
        ("servers: [h:1]\nalertmanager: h:9093", "alertmanager", "http://"),
        ("servers: [h:1]\ntls: {ca: gone.pem}", "tls.ca", "no such file"),
        ("servers: [h:1]\nshadow: {rate: 0}", "shadow.rate", "greater than 0"),
        ("servers: [h:1]\nmodels: {m: {clients: label, traffic: {}}}", "models.m.traffic", "exactly one"),
        (
            "servers: [h:1]\nmodels: {m: {clients: label, traffic: {warmup: true, synthetic: true}}}",
            "models.m.traffic",
            "given: warmup, synthetic",
        ),
        (
            "servers: [h:1]\nmodels: {m: {clients: label, traffic: {kafka: {brokers: 'h:1'}}}}",
            "models.m.traffic.kafka.topic",
            "missing",
        ),
        (
            "servers: [h:1]\nmodels: {m: {clients: label, labels: {kafka: "
            "{brokers: 'h:1', topic: t, settings_file: gone}}}}",
            "models.m.labels.kafka.settings_file",
            "no such file",
        ),
        (
            "servers: [h:1]\nmodels: {m: {clients: label, traffic: {warmup: true}}}",
            "models.m.traffic.warmup",
            "give model_config_file",
        ),
        (
            "servers: [h:1]\nmodels: {m: {clients: label, traffic: {prediction_log: 'logs/*.gz'}}}",
            "models.m.traffic.prediction_log",
            "no such file",
        ),
        (
            "servers: [h:1]\nmodels: {m: {clients: label, traffic: {labelled: 's3://b/rows.xls', label: y}}}",
            "models.m.traffic.labelled",
            "got rows.xls",
        ),
        ("servers: [h:1]\noutputs: {kind: regression, loss: log}", "outputs", "squared"),
        ("servers: [h:1]\n"
         "analysis: {metrics: {errors: off, accuracy: off, latency: off, disagreement: off, drift: off}}",
         "analysis.metrics", "every metric is off"),
        ("servers: [h:1]\nanalysis: {metrics: {latency: {tails: [{quantile: 0.2}]}}}",
         "analysis.metrics.latency.tails[0].quantile", "greater than 0.5"),
        ("servers: [h:1]\nanalysis: {metrics: {latency: {tails: [{quantile: 0.99, margin: 20}]}}}",
         "analysis.metrics.latency.tails[0].margin", "quotes"),
        ("servers: [h:1]\nanalysis: {metrics: {latency: {tails: [{quantile: 0.99, margin: 2pp}]}}}",
         "analysis.metrics.latency", "does not apply"),
        ("servers: [h:1]\nanalysis: {metrics: {errors: {tails: [{quantile: 0.99}]}}}",
         "analysis.metrics.errors", "only latency has tails"),
        ("servers: [h:1", "", "not YAML"),
        ("", "", "empty"),
        ("- 1", "", "block"),
        ("a: &a [*a]\nservers: [h:1]", "a[0]", "write it out"),
    ],
)  # fmt: skip
def test_a_mistake_says_what_would_be_right(folder, line, key, word):
    assert word in problems(folder, line)[key][1]


def test_right_answers_need_the_kind_of_the_output(folder):
    found = problems(folder, MINIMAL.replace("    outputs: {kind: binary_probability}\n", ""))
    assert "binary_probability" in found["models.credit_risk.traffic.label"][1]


def test_secrets_come_by_reference_and_cannot_be_printed(folder, monkeypatch):
    monkeypatch.setenv("HALDANE_TEST_TOKEN", "s3cret")
    (folder / "store.url").write_text("postgresql://me:hidden@h/db\n")
    config = load(folder, "servers: [h:1]\ntoken_env: HALDANE_TEST_TOKEN\nstore_file: store.url\n")
    assert config.token.get_secret_value() == "s3cret"
    assert config.store_url.get_secret_value() == "postgresql://me:hidden@h/db"
    shown = f"{config!r} {config} {config.model_dump()} {config.token} {config.store_url}"
    assert "s3cret" not in shown
    assert "hidden" not in shown


def test_several_tails_of_latency_are_watched(folder):
    tails = "[{quantile: 0.95, margin: +20%}, {quantile: 0.99}]"
    config = load(folder, f"servers: [h:1]\nanalysis: {{metrics: {{latency: {{tails: {tails}}}}}}}\n")
    rule = next(one for one in config.analysis.rules(rate_per_second=20).metrics if one.name == "latency")
    assert [(tail.quantile, tail.margin) for tail in rule.tails] == [(0.95, 0.2), (0.99, 0.25)]


def test_a_metric_can_be_switched_off_or_given_by_its_margin_alone(folder):
    config = load(folder, "servers: [h:1]\nanalysis: {metrics: {disagreement: off, drift: off, latency: +30%}}\n")
    metrics = {metric.name: metric.margin for metric in config.analysis.rules(rate_per_second=20).metrics}
    assert metrics.keys() == {"errors", "accuracy", "latency"}
    assert metrics["latency"].relative == pytest.approx(0.3)


def test_slices_are_judged_beside_all_requests(folder):
    config = load(
        folder,
        """
        servers: [h:1]
        analysis:
          slices:
            - country=DE
            - {field: segment, values: [new, 7], share: 20%, role: objective, metrics: {latency: +30%, accuracy: off}}
        """,
    )
    rules = config.analysis.rules(rate_per_second=20)
    assert [one.name for one in rules.slices] == ["country=DE", "segment=new", "segment=7"]
    sliced = {rule.name: (rule.role, rule.slice) for rule in rules.metrics if rule.slice is not None}
    assert sliced == {
        "errors country=DE": (Role.GUARDRAIL, 0),
        "accuracy country=DE": (Role.GUARDRAIL, 0),
        "errors segment=new": (Role.OBJECTIVE, 1),
        "latency segment=new": (Role.OBJECTIVE, 1),
        "errors segment=7": (Role.OBJECTIVE, 2),
        "latency segment=7": (Role.OBJECTIVE, 2),
    }
    assert {rule.share for rule in rules.metrics if rule.slice} == {0.2}
    assert config.analysis.fields == {"country", "segment"}


@pytest.mark.parametrize(
    ("slices", "complaint"),
    [
        ("country=DE", "must be a list"),
        ("[country]", "names no field and value"),
        ("[=DE]", "names no field and value"),
        ("[{field: country}]", "values"),
        ("[{field: country, values: []}]", "at least 1"),
        ("[{field: country, values: [NO]}]", "put it in quotes"),
        ("[{field: country, values: [DE], share: 0.05}]", "with its unit"),
        ("[{field: country, values: [{a: 1}]}]", "texts or numbers"),
        ("[{field: country, values: [DE], metrics: {accuracy: 1}}]", "has no unit"),
        ("[{field: country, values: [DE], metrics: {accuracy: 5%}}]", "does not apply"),
        ("[{field: country, values: [DE], metrics: {speed: 5%}}]", "unknown metric 'speed'"),
        ("[{field: country, values: [DE], metrics: {loss: 5%}}]", "country=DE: loss is not judged"),
        ("[country=DE, {field: country, values: [FR, DE]}]", "a slice is listed twice"),
        ("[{field: n, values: [" + ", ".join(map(str, range(33))) + "]}]", "at most 32 slices, got 33"),
    ],
)
def test_slices_that_say_nothing_are_mistakes(folder, slices, complaint):
    found = problems(folder, f"servers: [h:1]\nanalysis: {{slices: {slices}}}\n")
    assert len(found) == 1
    ((key, (_, said)),) = found.items()
    assert complaint in f"{key} {said}"


def test_limits_stand_beside_the_margins_of_their_metric(folder):
    config = load(
        folder,
        """
        servers: [h:1]
        analysis: {metrics: {errors: {limit: 1%}, latency: {role: guardrail, limit: {p50: 20ms, p99: 250ms}}}}
        """,
    )
    rules = config.analysis.rules(rate_per_second=20)
    assert [limit.name for limit in rules.limits] == [
        "errors limit 1%",
        "latency p50 limit 20ms",
        "latency p99 limit 250ms",
    ]


@pytest.mark.parametrize(
    ("metrics", "complaint"),
    [
        ("{errors: {limit: 0.01}}", "no unit"),
        ("{latency: {limit: 250ms}}", "{p99: 250ms}"),
        ("{accuracy: {limit: 5%}}", "accuracy takes none"),
    ],
)
def test_a_limit_without_unit_or_place_is_a_mistake(folder, metrics, complaint):
    found = problems(folder, f"servers: [h:1]\nanalysis: {{metrics: {metrics}}}\n")
    ((_, (_, said)),) = found.items()
    assert complaint in said


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("1.5h", 5400), ("PT5M", 300), ("250ms", 0.25), ("7", 7)])
def test_durations_are_read_as_people_write_them(folder, text, seconds):
    config = load(folder, f"servers: [h:1]\nshadow: {{deadline: {text}}}\n")
    assert config.shadow.deadline == timedelta(seconds=seconds)


def test_a_file_that_is_not_there_is_said_plainly(tmp_path):
    with pytest.raises(ConfigError, match=r"gone\.yaml: cannot read it"):
        load_config(tmp_path / "gone.yaml")


def test_an_alias_without_an_end_is_a_mistake_at_its_place(folder):
    looped = MINIMAL.replace("outputs: {kind: binary_probability}", "outputs: &o {kind: binary_probability, x: *o}")
    line, says = problems(folder, looped)["models.credit_risk.outputs.x"]
    assert (line, "write it out" in says) == (10, True)
    letters = "abcdefghi"
    bomb = "\n".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in pairwise(letters))
    assert "unfold to so many" in problems(folder, f"a: &a [x]\n{bomb}\n")[""][1]
    assert "too deeply" in problems(folder, f"a: {'[' * 5000}{']' * 5000}\n")[""][1]


def test_an_alias_that_has_an_end_is_what_it_stands_for(folder):
    config = load(folder, MINIMAL + "    analysis: &own {budget: 2h}\nanalysis: *own\n")
    assert config.analysis.budget == config.models["credit_risk"].analysis.budget == timedelta(hours=2)


@pytest.mark.parametrize("before, after, mark", [("clients: label", "clients： label", "：")])
def test_a_full_width_mark_is_named_where_yaml_only_says_that_something_is_wrong(folder, before, after, mark):
    assert f"line 8 has a full-width {mark!r}" in problems(folder, MINIMAL.replace(before, after))[""][1]


@pytest.mark.parametrize(
    ("line", "key", "says"),
    [
        ("look_every: 5s\nservers: a", "servers", "must be a list"),
        ("state_dir: 2026-01-01", "state_dir", "text in quotes"),
        ("servers: [{name: 5, address: a:1}]", "servers[0].name", "text in quotes"),
    ],
)
def test_a_value_of_another_kind_says_how_to_write_it(folder, line, key, says):
    assert says in problems(folder, line)[key][1]


def test_one_address_can_be_watched_without_a_file(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    config = zero_config("127.0.0.1:8500")
    assert config.mode is Mode.OBSERVE
    assert config.models == {}
    assert config.state_dir.is_relative_to(tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ConfigError, match="HOST:PORT"):
        zero_config("127.0.0.1")


LATE = """
servers: [h:1]
models: {m: {clients: label, stable: 1, traffic: {rest_jsonl: rows.jsonl}, outputs: {kind: regression}, labels: LABELS}}
"""


def test_declared_labels_are_awaited_by_the_judge_and_the_bake(folder):
    (folder / "rows.jsonl").write_text("{}\n")
    config = load(folder, LATE.replace("LABELS", "{}"))
    assert config.rules_of("m").late_labels
    assert config.plan_of("m").bake_seconds == 24 * 3600
    assert load(folder, LATE.replace("LABELS", "{wait: 1s}")).plan_of("m").bake_seconds == 300
    without = load(folder, LATE.replace("LABELS", "null"))
    assert not without.rules_of("m").late_labels
    assert without.plan_of("m").bake_seconds == 300


def test_labels_need_to_know_what_the_output_is(folder):
    (folder / "rows.jsonl").write_text("{}\n")
    found = problems(folder, LATE.replace("LABELS", "{}").replace("outputs: {kind: regression}, ", ""))
    assert "say what the output is" in found["models.m.labels"][1]
    assert "late" in str(problems(folder, LATE.replace("LABELS", "{late: maybe}")))


@pytest.mark.parametrize(
    ("labels", "note"),
    [("null", "accuracy: off"), ("{}", "role: guardrail"), ("{wait: 1h}", "")],
)
def test_what_keeps_a_rollout_from_passing_by_itself_is_noted(folder, labels, note):
    (folder / "rows.jsonl").write_text("{}\n")
    found = notes(load(folder, LATE.replace("LABELS", labels)))
    assert len(found) == bool(note)
    assert note in "".join(found)


GOLDEN = """
servers: [h:1]
models: {m: {clients: label, stable: 1, TRAFFIC outputs: {kind: regression}, golden: GOLDEN}}
"""
TRAFFIC = "traffic: {labelled: rows.csv, label: bad, columns: [a]},"


def golden_problems(folder: Path, golden: str, traffic: str = TRAFFIC) -> str:
    (folder / "rows.csv").write_text("a,bad\n1,2\n")
    found = problems(folder, GOLDEN.replace("TRAFFIC", traffic).replace("GOLDEN", golden))
    return found["models.m.golden"][1]


def test_a_golden_set_takes_what_it_does_not_say_from_the_traffic(folder):
    (folder / "rows.csv").write_text("a,bad\n1,2\n")
    config = load(folder, GOLDEN.replace("TRAFFIC", TRAFFIC).replace("GOLDEN", "rows.csv"))
    model = config.models["m"]
    source = model.golden.source(model.golden.path, model.traffic)
    assert (source.kind, source.files, source.label, source.columns) == ("labelled", folder / "rows.csv", "bad", ("a",))
    own = model.golden.model_copy(update={"label": "truth", "signature": "score", "columns": ("b",)})
    source = own.source(folder / "g.tfrecord", model.traffic)
    assert (source.kind, source.label, source.signature, source.columns) == ("examples", "truth", "score", ("b",))


def test_mistakes_in_a_golden_set_are_told_with_file_and_line(folder):
    (folder / "g.txt").write_text("")
    (folder / "g.csv").write_text("x,y\n1,2\n")
    (folder / "empty").mkdir()
    assert "no such file or folder" in golden_problems(folder, "gone.csv")
    assert "must be a .csv" in golden_problems(folder, "g.txt")
    assert "g.csv, line 1: no column 'bad', which is the label; it has x, y" in golden_problems(folder, "g.csv")
    assert "no .csv, .parquet, .tfrecord or .jsonl file" in golden_problems(folder, "empty")
    assert "give models.m.traffic" in golden_problems(folder, "rows.csv", traffic="")
    (folder / "rows.jsonl").write_text("{}\n")
    without = "traffic: {rest_jsonl: rows.jsonl},"
    assert "g.csv needs label" in golden_problems(folder, "g.csv", traffic=without)
    assert "path" in str(problems(folder, GOLDEN.replace("TRAFFIC", TRAFFIC).replace("GOLDEN", "{label: x}")))


TAPPED = """\
servers: [h:1]
tap: {}
models: {m: {clients: label, traffic: {tap: {}, record: {directory: kept}}}}
"""


def test_a_tap_and_its_recording_have_a_default_for_everything(folder):
    config = load(folder, TAPPED)
    traffic = config.tapped[ModelName("m")]
    assert traffic.tap is not None
    assert traffic.record is not None
    assert (traffic.tap.sample, traffic.record.sample) == (1.0, 0.01)
    assert traffic.record.directory == folder / "kept"
    assert config.tap_socket == folder / "haldane-state" / "tap.sock"
    assert record_keys(config) == {}


@pytest.mark.parametrize(("before", "after", "key", "says"), [
    ("tap: {}\n", "", "models.m.traffic.tap", "top-level tap"),
    ("tap: {}\n", "", "models.m.traffic.record", "top-level tap"),
    ("tap: {}\n", "tap: {grpc: 'h:1', rest: 'h:1'}\n", "tap.rest", "that of tap.grpc too"),
    ("tap: {}\n", "tap: {largest: 100MB}\n", "tap.largest", "never find room"),
    ("tap: {}\n", "tap: {waiting: 64}\n", "tap.waiting", 'such as "64MiB"'),
    ("tap: {}\n", f"tap: {{}}\nstate_dir: /{'x' * 100}\n", "state_dir", "too long"),
    ("{directory: kept}", "{}", "models.m.traffic.record.directory", "missing"),
    ("{directory: kept}", "{directory: kept, sample: 0%}", "models.m.traffic.record.sample", "between 0 and 100"),
    ("{directory: kept}", "{directory: kept, hash: [id]}", "models.m.traffic.record.hash", "key_file or key_env"),
    ("{directory: kept}", "{directory: k, key_env: K, hash: [a], drop: [a]}", "models.m.traffic.record.hash", "keep"),
    ("{directory: kept}", "{directory: kept, file_size: 2GiB}", "models.m.traffic.record.file_size", "keep_size"),
    ("tap: {}, record", "record", "models.m.traffic", "exactly one of"),
])  # fmt: skip
def test_mistakes_in_a_tap_say_what_would_be_right(folder, before, after, key, says):
    assert before in TAPPED
    assert says in problems(folder, TAPPED.replace(before, after))[key][1]


SPREAD = MINIMAL + "shadow: {dask: tcp://10.0.0.5:8786}\n"


def test_what_one_process_alone_can_do_is_refused_beside_dask(folder):
    assert load(folder, SPREAD).shadow.dask == "tcp://10.0.0.5:8786"
    rows = "labelled: rows.parquet, label: bad"
    topic = problems(folder, SPREAD.replace(rows, "kafka: {brokers: 'h:1', topic: t}"))
    assert "only one process can read" in topic["models.credit_risk.traffic.kafka"][1]
    tapped = problems(folder, SPREAD.replace(rows, "tap: {}") + "tap: {}\n")
    assert "give files, or leave out shadow.dask" in tapped["models.credit_risk.traffic.tap"][1]
    gauge = "analysis: {gauges: {cost: {kind: cpu, margin: 10%}}}\n"
    servers = SPREAD.replace("metrics}\nmodel", "metrics, process_url: http://h:9256/metrics}\nmodel")
    assert "one process sends" in problems(folder, servers + gauge)["analysis.gauges.cost"][1]


@pytest.mark.parametrize("written", ["10.0.0.5:8786", "http://10.0.0.5:8786", "tcp://10.0.0.5"])
def test_a_scheduler_is_named_as_dask_names_it(folder, written):
    (found,) = problems(folder, SPREAD.replace("tcp://10.0.0.5:8786", f"'{written}'")).values()
    assert "HOST:PORT" in found[1]


def test_a_source_of_one_signature_cannot_leave_that_out(folder):
    text = MINIMAL.replace("label: bad}", "label: bad, exclude: [serving_default]}")
    assert "give another signature" in problems(folder, text)["models.credit_risk.traffic.exclude"][1]


def test_the_key_of_a_recording_is_read_only_by_who_records(folder, monkeypatch):
    text = TAPPED.replace("{directory: kept}", "{directory: kept, hash: [id], key_env: RECORD_KEY}")
    monkeypatch.delenv("RECORD_KEY", raising=False)
    config = load(folder, text)
    with pytest.raises(ConfigError, match=r"models\.m\.traffic\.record\.key_env: the environment variable RECORD_KEY"):
        record_keys(config)
    monkeypatch.setenv("RECORD_KEY", "short")
    with pytest.raises(ConfigError, match="fewer than 16 characters"):
        record_keys(config)
    monkeypatch.setenv("RECORD_KEY", "a key of some length")
    assert record_keys(config)["m"].get_secret_value() == "a key of some length"


@pytest.mark.parametrize(("text", "size"), [("64MiB", 64 << 20), ("1.5 kB", 1500), ("2GB", 2 * 10**9), ("7B", 7)])
def test_sizes_are_read_as_people_write_them(folder, text, size):
    config = load(folder, TAPPED.replace("tap: {}\n", f"tap: {{waiting: '{text}', largest: 1B}}\n"))
    assert config.tap is not None
    assert config.tap.waiting == size


RAMP = """
mode: enforce
servers:
  - {name: r0, address: 127.0.0.1:8500, metrics_url: http://127.0.0.1:8501/metrics}
  - {name: r1, address: 127.0.0.1:8510, metrics_url: http://127.0.0.1:8511/metrics, canary: true}
model_config_file: models.config
models:
  credit_risk:
    clients: label
    placement: own_replicas
gateways:
  - {haproxy: /run/haproxy.sock, backend: serving}
"""


def test_a_gateway_brings_the_default_steps_and_none_without_one(folder: Path) -> None:
    ramped = load(folder, RAMP).plan_of("credit_risk")
    assert ramped.traffic_steps == (0.01, 0.05, 0.1, 0.25, 0.5, 1.0)
    assert (ramped.step_seconds, ramped.step_pairs, ramped.step_budget_seconds) == (120.0, 200, 1800.0)
    assert load(folder, MINIMAL).plan_of("credit_risk").traffic_steps == ()
    off = load(folder, RAMP + "plan: {traffic_steps: []}")
    assert off.plan_of("credit_risk").traffic_steps == ()
    own = load(folder, RAMP + 'plan: {traffic_steps: ["10%", "100%"]}')
    assert own.plan_of("credit_risk").traffic_steps == (0.1, 1.0)


@pytest.mark.parametrize(
    ("gateway", "says"),
    [
        ("{backend: serving}", "give exactly one of haproxy and envoy"),
        ("{haproxy: /s, envoy: http://h:1, backend: b, runtime_key: k}", "give exactly one of haproxy and envoy"),
        ("{haproxy: /s}", "haproxy and backend go together"),
        ("{envoy: http://h:1}", "envoy and runtime_key go together"),
        ("{haproxy: run/haproxy.sock, backend: b}", "must be an absolute path or HOST:PORT, got 'run/haproxy.sock'"),
        ("{haproxy: /s, backend: 'b; disable server b/r0'}", "hold letters, digits"),
        ("{envoy: h:1, runtime_key: k}", "must be an http:// or https:// URL"),
    ],
)
def test_a_gateway_must_say_where_it_is_and_by_which_name(folder: Path, gateway: str, says: str) -> None:
    found = problems(folder, RAMP.replace("{haproxy: /run/haproxy.sock, backend: serving}", gateway))
    (told,) = [text for key, (_, text) in found.items() if key.startswith("gateways")]
    assert says in told


@pytest.mark.parametrize(
    ("plan", "key", "says"),
    [
        ('{traffic_steps: ["10%", "5%"]}', "plan.traffic_steps", "larger than the one before"),
        ("{traffic_steps: [10]}", "plan.traffic_steps[0]", 'such as "10%"; got 10'),
        ('{traffic_steps: ["0%"]}', "plan.traffic_steps[0]", "above 0"),
        ('{traffic_steps: ["101%"]}', "plan.traffic_steps[0]", "up to 100 %"),
        ("{step: 1h}", "plan.step_budget", "ends before a step of 1:00:00 can"),
    ],
)
def test_steps_that_cannot_be_taken_are_mistakes(folder: Path, plan: str, key: str, says: str) -> None:
    assert says in problems(folder, RAMP + f"plan: {plan}")[key][1]


def test_steps_need_a_gateway_and_a_gateway_needs_servers_to_weigh(folder: Path) -> None:
    steps = 'plan: {traffic_steps: ["10%"]}'
    assert "give gateways" in problems(folder, MINIMAL + steps)["plan.traffic_steps"][1]
    alone = MINIMAL + "gateways: [{haproxy: /s, backend: b}]"
    assert "placement: own_replicas" in problems(folder, alone)["gateways"][1]
    twice = RAMP + "  - {haproxy: /t, backend: serving}"
    assert "is called haproxy as gateways[0] is; give names" in problems(folder, twice)["gateways[1]"][1]


POLLED = """servers: [{address: "h:1", config_file: polled.config}]
model_config_file: models.config
models: {credit: {clients: label}}
"""
LISTED = """model_config_list { config { name: "credit" base_path: "/m/credit" model_platform: "tensorflow"
  model_version_policy { specific { versions: 1 } } } }
"""


@pytest.mark.parametrize(
    ("polled", "text", "word"),
    [
        (LISTED.replace('"credit"', '"other"'), POLLED, "has no model credit"),
        (LISTED.replace("/m/credit", "/n/credit"), POLLED, "base_path of credit is /n/credit"),
        ("model_config_list {", POLLED, "polled.config:"),
        (None, POLLED, "cannot read"),
        (LISTED, POLLED.replace("polled.config", "models.config"), "model_config_file itself"),
    ],
)
def test_a_file_that_a_server_polls_must_be_one_that_can_be_changed(folder, polled, text, word):
    (folder / "models.config").write_text(LISTED)
    if polled is not None:
        (folder / "polled.config").write_text(polled)
    assert word in problems(folder, text)["servers[0].config_file"][1]


def test_two_servers_cannot_poll_one_file_and_labels_in_a_file_need_a_flag(folder):
    for name in ("models.config", "polled.config"):
        (folder / name).write_text(LISTED)
    two = POLLED.replace("}]", "}, {address: 'h:2', config_file: polled.config}]")
    assert "servers[0] too" in problems(folder, two)["servers[1].config_file"][1]
    assert any("--allow_version_labels" in note for note in notes(load(folder, POLLED)))


def test_a_server_with_fewer_threads_is_shadowed_with_a_quarter_of_its_own(folder: Path) -> None:
    config = load(folder, MINIMAL.replace("{name: r1,", "{name: r1, grpc_threads: 16,"))
    assert [config.shadow.pairs_at_once(server.grpc_threads) for server in config.fleet] == [4, 2]
    assert config.shadow.model_copy(update={"concurrency": 7}).pairs_at_once(16) == 7  # said of all


def test_a_server_without_threads_is_a_mistake(folder: Path) -> None:
    found = problems(folder, MINIMAL.replace("{name: r1,", "{name: r1, grpc_threads: 0,"))
    assert list(found) == ["servers[1].grpc_threads"]
