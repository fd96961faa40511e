"""A model config file is read as its writer would want it read: each trap that a file can show is told, at its line."""

import json
from pathlib import Path

import pytest

from haldane.serving.lint import Finding, Level, lint

RECORDED = Path(__file__).resolve().parents[2] / "contract" / "serving" / "recorded"
ERROR, WARNING = Level.ERROR, Level.WARNING
GOOD = """model_config_list {
  config {
    name: "credit"
    base_path: "/models/credit"
    model_platform: "tensorflow"
    model_version_policy { specific { versions: 1 } }
  }
}
"""
STABLE = '    version_labels { key: "stable" value: 1 }\n'
POLICY = "    model_version_policy { specific { versions: 1 } }\n"


def told(text: str, *, enforce: bool = False) -> list[Finding]:
    return lint({"f.config": text}, enforce=enforce)


def labelled(labels: str, versions: str = "versions: 1") -> str:
    return GOOD.replace("versions: 1", versions).replace(POLICY.replace("versions: 1", versions),
                                                         POLICY.replace("versions: 1", versions) + labels)  # fmt: skip


def one(found: list[Finding], words: str) -> Finding:
    """The finding with these words."""
    (match,) = [finding for finding in found if words in finding.says]
    return match


def test_a_good_file_has_nothing_said_of_it():
    assert told(GOOD, enforce=True) == []


# --- the traps ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["", "latest {}", "latest { num_versions: 2 }", "all {}"])
def test_trap_01_a_policy_that_loads_by_itself_is_told_and_refused_where_enforce_is_wanted(policy):
    text = GOOD.replace(POLICY, f"    model_version_policy {{ {policy} }}\n" if policy else "")
    found = one(told(text), "requests that name no version get it at once")
    assert (found.line, found.level, found.trap) == (6 if policy else 2, WARNING, 1)
    assert one(told(text, enforce=True), "get it at once").level is ERROR


def test_trap_01_versions_above_stable_get_the_requests_that_name_none():
    found = one(told(labelled(STABLE, "versions: [1, 2]")), "get 2, the highest, though stable is 1")
    assert (found.line, found.level, found.trap) == (6, WARNING, 1)


def test_trap_02_labels_in_a_boot_file_need_the_flag_or_the_server_does_not_start():
    found = one(told(labelled(STABLE)), "--allow_version_labels_for_unavailable_models")
    assert (found.line, found.level, found.trap) == (7, WARNING, 2)


def test_trap_05_a_list_of_no_versions_would_unload_the_model():
    found = one(told(GOOD.replace("versions: 1", "")), "lists no version")
    assert (found.line, found.level, found.trap) == (6, ERROR, 5)


@pytest.mark.parametrize("path", ["s3://bucket/credit", "S3://bucket/credit", "hdfs://h/credit", "https://h/credit"])
def test_trap_06_a_store_that_serving_cannot_read_has_no_version_to_wait_for(path):
    found = one(told(GOOD.replace("/models/credit", path)), "is not built in")
    assert (found.line, found.level, found.trap) == (4, ERROR, 6)
    assert told(GOOD.replace("/models/credit", "gs://bucket/credit")) == []


def test_trap_07_a_model_without_platform_is_told_before_it_poisons_a_server():
    found = one(told(GOOD.replace('    model_platform: "tensorflow"\n', "")), "has no platform")
    assert (found.line, found.level, found.trap) == (2, ERROR, 7)
    both = GOOD.replace('"tensorflow"\n', '"tensorflow" model_type: TENSORFLOW\n')
    assert one(told(both), "at once are refused").level is ERROR


def test_trap_08_an_empty_list_would_unload_every_model():
    found = one(told("# nobody yet\nmodel_config_list {}"), "unloads every model")
    assert (found.level, found.trap) == (ERROR, 8)


def test_trap_08_one_model_of_two_teams_is_told_with_both_places_and_what_they_disagree_on():
    ours, theirs = labelled(STABLE), labelled('    version_labels { key: "stable" value: 2 }\n', "versions: 2")
    found = one(lint({"a.config": ours, "b.config": theirs}), "listed on a.config:3 too")
    assert (found.file, found.line, found.level, found.trap) == ("b.config", 3, ERROR, 8)
    assert "label stable is 1 there and 2 here" in found.says


def test_trap_11_a_canary_in_a_boot_file_would_be_served_by_whoever_restarts():
    text = labelled(STABLE + '    version_labels { key: "canary" value: 1 }\n')
    found = one(told(text), "before anybody has judged it")
    assert (found.line, found.level, found.trap) == (8, WARNING, 11)
    assert one(told(text, enforce=True), "judged").level is ERROR


def test_trap_11_a_canarys_own_name_is_left_to_the_rollout():
    again = GOOD.replace("model_config_list {\n", "").replace('"credit"', '"credit_canary"')
    text = GOOD.rstrip().removesuffix("}") + again
    found = one(told(text), "placement: second_name")
    assert (found.level, found.trap) == (WARNING, 11)
    assert one(told(text, enforce=True), "no rollout of credit can begin there").level is ERROR


def test_trap_13_a_label_on_a_version_that_the_list_would_unload_is_told():
    found = one(told(labelled('    version_labels { key: "stable" value: 3 }\n')), "names version 3")
    assert (found.line, found.level, found.trap) == (7, ERROR, 13)


def test_trap_13_a_label_under_a_policy_that_may_unload_its_version_is_told():
    found = one(told(GOOD.replace(POLICY, STABLE)), "answers NOT_FOUND and blocks every reload")
    assert (found.line, found.level, found.trap) == (6, WARNING, 13)


def test_trap_20_a_name_that_would_break_the_metrics_page_is_told():
    found = one(told(GOOD.replace('"credit"', r'"cre\ndit"')), "line break")
    assert (found.line, found.level, found.trap) == (3, ERROR, 20)


def test_trap_22_one_base_path_under_two_names_is_in_memory_twice():
    again = GOOD.replace("model_config_list {\n", "").replace('"credit"', '"loans"').replace("/credit", "/credit/")
    found = one(told(GOOD.rstrip().removesuffix("}") + again), "in memory twice")
    assert (found.line, found.level, found.trap) == (10, WARNING, 22)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("    --version_labels=canary=3,stable=2\n", "There is no flag --version_labels"),
        ("    --port=8500\n", "would be a flag of the command line"),
        ('    version_labels: "canary=3"\n', "a label is written"),
    ],
)
def test_trap_29_a_flag_in_the_file_and_one_that_does_not_exist_are_explained(line, words):
    found = one(told(GOOD.replace(POLICY, POLICY + line)), words)
    assert (found.line, found.level) == (7, ERROR)


# --- what users believe -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/models/credit/versions/canary", "/models/credit/labels/stable", "/m/versions"])
def test_an_address_in_place_of_a_directory_is_told(path):
    found = one(told(GOOD.replace("/models/credit", path)), "is a directory's name and no address")
    assert (found.line, found.level) == (4, WARNING)


def test_a_version_directory_in_place_of_the_one_above_it_is_told():
    assert one(told(GOOD.replace("/models/credit", "/models/credit/3/")), "looks like a version's directory").line == 4


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"model_config_list": {"config": []}}', "This is JSON"),
        (GOOD.replace("base_path", "base_pth"), "Did you mean base_path?"),
        (GOOD.replace(POLICY, "    labels { }\n"), "Did you mean version_labels?"),
        (GOOD.replace(POLICY, "    specific { versions: 1 }\n"), "Did you mean model_version_policy?"),
        (GOOD.replace('"credit"', "credit"), "Texts stand in quotes"),
        (GOOD.replace("specific { versions: 1 }", "latest {} all {}"), "all"),
        ("model_config_list { config {", 'Expected "}"'),
        ("custom_model_config {}", "write a model_config_list"),
    ],
)
def test_text_that_protobuf_refuses_says_what_was_meant(text, words):
    assert one(told(text), words).level is ERROR


@pytest.mark.parametrize(
    ("text", "line", "level", "words"),
    [
        (GOOD.replace('"/models', '"models'), 4, ERROR, "must be absolute"),
        (GOOD.replace('"tensorflow"', '"pytorch"'), 5, ERROR, "refuses 'pytorch'"),
        (GOOD.replace('model_platform: "tensorflow"', "model_type: TENSORFLOW"), 5, WARNING, "older spelling"),
        (GOOD.replace(POLICY, POLICY + "    logging_config {}\n"), 7, WARNING, "nothing to log requests with"),
        (GOOD.replace('"credit"', '"team/credit"'), 3, WARNING, "REST cannot address a name"),
        (GOOD.replace("versions: 1", "versions: [1, 1]"), 6, WARNING, "version 1 is listed 2 times"),
        (GOOD.replace("versions: 1", "versions: -1"), 6, WARNING, "below 0"),
        (labelled('    version_labels { key: "a-b" value: 1 }\n'), 7, WARNING, "letters, digits and _"),
        (labelled(STABLE + STABLE), 8, ERROR, "given on line 7 too"),
    ],
)
def test_every_other_mistake_is_told_at_its_line(text, line, level, words):
    found = one(told(text), words)
    assert (found.line, found.level) == (line, level)


# --- against the real server --------------------------------------------------------------------------------------


def starts() -> list[tuple[str, str, bool]]:
    """(name, config, whether it started) of every start of the real server on record."""
    found = []
    for file in sorted(RECORDED.glob("*.json")):
        recording = json.loads(file.read_text())
        for index, step in enumerate(recording["steps"]):
            text = step.get("config", recording["server"].get("config", "")) if step["op"] == "start" else ""
            if isinstance(text, str) and text and "response" in step:
                name = f"{file.stem}-{index}"
                found.append((name, text.replace("{BASE}", "/base"), bool(step["response"].get("started"))))
    return found


@pytest.mark.parametrize(("name", "text", "started"), [one for one in starts() if "startup_bad_configs" in one[0]])
def test_what_a_real_server_refused_to_start_on_is_an_error(name, text, started):
    assert not started
    assert any(finding.level is ERROR for finding in told(text))


def test_what_a_real_server_started_on_is_no_error_but_for_an_empty_list():
    """A server starts on an empty list; one that is sent it later unloads everything."""
    good = [(name, text) for name, text, started in starts() if started]
    wrong = {name for name, text in good if any(finding.level is ERROR for finding in told(text))}
    assert len(good) > 50
    assert wrong == {"health_on_no_model-0", "startup_empty_list_then_reload-0"}
