"""Model config text is read with file and line in every error, checked before it is sent, and written back whole."""

from dataclasses import replace

import pytest

from haldane import wire
from haldane.domain.fleet import ModelEntry, ModelName, Policy, ServerConfig
from haldane.serving import modelconfig
from haldane.serving.modelconfig import ConfigTextError

GOOD = """
model_config_list {
  config {
    name: "credit"
    base_path: "/models/credit"
    model_platform: "tensorflow"
    model_version_policy { specific { versions: 2 versions: 1 } }
    version_labels { key: "stable" value: 1 }
  }
  config: { name: "other", base_path: "gs://bucket/other", model_platform: "tensorflow" }
}
"""


def entry(**changes) -> ModelEntry:
    plain = ModelEntry(name=ModelName("m"), base_path="/models/m", policy=Policy.SPECIFIC, versions=(1,))
    return replace(plain, **changes)


def test_a_config_is_read_and_written_back_to_the_same():
    config = modelconfig.parse(GOOD)
    assert config.models[0].versions == (1, 2)
    assert config.models[0].labels == {"stable": 1}
    assert config.models[1].policy is Policy.LATEST
    assert modelconfig.parse(modelconfig.render(config)) == config


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        (GOOD.replace('"/models/credit"', '"models/credit"'), "f.config:3:", "must be absolute, like /models/credit"),
        (GOOD.replace('name: "other", ', ""), "f.config:10:", "has no name"),
        (GOOD.replace(', model_platform: "tensorflow" }', " }"), "f.config:10:", 'model_platform: "tensorflow"'),
        (GOOD.replace('"other"', '"credit"'), "f.config:10:", "listed 2 times"),
        (GOOD.replace("versions: 1 ", ""), "f.config:3:", "label stable names version 1"),
        ("\n\ncustom_model_config {}", "f.config:3:", "write a model_config_list"),
        ("model_config_list {\n config { nam: 1 } }", "f.config:2:", 'no field named "nam"'),
        ("model_config_list {\n", "f.config:", 'Expected "}"'),
        ("", "f.config:1:", "empty"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_file_and_line_and_what_would_be_right(text, where, what):
    with pytest.raises(ConfigTextError) as caught:
        modelconfig.parse(text, source="f.config")
    line = next(line for line in str(caught.value).splitlines() if what in line)
    assert line.startswith(where)


def test_all_mistakes_are_told_at_once():
    with pytest.raises(ConfigTextError) as caught:
        modelconfig.parse('model_config_list { config { base_path: "x" } config { name: "b" } }')
    assert len(str(caught.value).splitlines()) == 5


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        (entry(platform=""), "has no platform"),
        (entry(base_path=""), "must be absolute"),
        (entry(base_path="./m"), "must be absolute"),
        (entry(name=ModelName("")), "has no name"),
        (entry(versions=()), "lists no version"),
        (entry(labels={"stable": 2}), "label stable names version 2"),
        (entry(labels={"": 1}), "a label has no name"),
    ],
)
def test_a_list_that_could_harm_has_problems(bad, what):
    assert any(what in problem for problem in modelconfig.problems(ServerConfig((bad,))))


def test_a_safe_list_has_no_problems():
    for base_path in ("/m", "gs://b/m", "hdfs://h/m", "file:///m"):
        assert modelconfig.problems(ServerConfig((entry(base_path=base_path, labels={"stable": 1}),))) == []


def test_an_empty_list_has_a_problem_but_is_a_set_message():
    assert modelconfig.problems(ServerConfig()) != []
    assert modelconfig.to_proto(ServerConfig()).WhichOneof("config") == "model_config_list"


def test_version_zero_and_negative_versions_go_through():
    proto = modelconfig.to_proto(ServerConfig((entry(versions=(-1, 0), labels={"stable": 0}),)))
    [model] = proto.model_config_list.config
    assert list(model.model_version_policy.specific.versions) == [-1, 0]
    assert dict(model.version_labels) == {"stable": 0}


def test_the_older_model_type_becomes_the_platform_since_both_at_once_are_refused():
    config = modelconfig.parse('model_config_list { config { name: "m" base_path: "/m" model_type: TENSORFLOW } }')
    [model] = modelconfig.to_proto(config).model_config_list.config
    assert (model.model_platform, model.model_type) == ("tensorflow", 0)


def test_fields_we_do_not_name_survive():
    raw = wire.ModelServerConfig()
    model = raw.model_config_list.config.add(name="m", base_path="/m", model_platform="tensorflow")
    model.MergeFromString(b"\xaa\x06\x03new")  # field 101, which a later Serving may have
    again = modelconfig.to_proto(modelconfig.from_proto(raw))
    assert b"\xaa\x06\x03new" in again.SerializeToString()


def test_latest_and_all_policies_are_kept():
    for policy, text in ((Policy.ALL, "all {}"), (Policy.LATEST, "latest { num_versions: 3 }")):
        config = modelconfig.parse(GOOD.replace("specific { versions: 2 versions: 1 }", text))
        assert config.models[0].policy is policy
        assert modelconfig.parse(modelconfig.render(config)) == config
    assert config.models[0].num_versions == 3


def test_merging_keeps_every_model_once_and_notes_what_a_person_should_see():
    second = GOOD.replace("value: 1", "value: 2").replace('"other"', '"third"')
    draft = modelconfig.merge({"a.config": GOOD, "b.config": second})
    assert [model.name for model in draft.config.models] == ["credit", "other", "third"]
    assert draft.config.models[0].labels == {"stable": 1}
    assert draft.notes == ("b.config: model credit differs from its listing in a.config; kept that of a.config",)
    assert modelconfig.parse(draft.text) == draft.config


def test_merging_notes_labels_under_latest_and_settings_that_cannot_be_sent():
    risky = GOOD.replace("specific { versions: 2 versions: 1 }", "latest { num_versions: 1 }").replace(
        "value: 1 }\n", "value: 1 }\n logging_config { sampling_config { sampling_rate: 1 } }\n"
    )
    notes = "\n".join(modelconfig.merge({"a.config": risky.replace('"/models/credit"', '"credit"')}).notes)
    assert "labels under the latest policy" in notes
    assert "logging_config is left out" in notes
    assert "not safe to send: model credit: base_path" in notes


def test_a_draft_keeps_what_the_owners_wrote():
    first = """# the whole file's comment
model_config_list {
  # team one
  # ask ada
  config {
    name: "credit"  # pods a and b
    base_path: "/models/credit" model_platform: "tensorflow"
    logging_config { sampling_config { sampling_rate: 1 } }
  }
  config: [{ name: "b" base_path: "/m/b" model_platform: "tensorflow" }]
}
"""
    alone = modelconfig.merge({"a.config": first}).text
    assert alone == first.replace("    logging_config { sampling_config { sampling_rate: 1 } }", "")
    draft = modelconfig.merge({"a.config": first, "b.config": first})
    assert [model.name for model in modelconfig.parse(draft.text).models] == ["b", "credit"]
    kept = first[first.index("  # team one") : first.index("    logging_config")]
    assert kept in draft.text
