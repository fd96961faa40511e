"""Every field of a model config's text is found at its place, however it is written."""

import pytest

from haldane.serving import modelconfig
from haldane.serving.configtext import entries, read

ODD = """# teams
model_config_list: <
  config: [ { name: "a" "b"; base_path: '/m/a # no comment', model_platform: "tensorflow" },
            { name: "c"  # whose
              base_path: "/m/c" model_platform: "tensorflow"
              model_version_policy: { specific: { versions: [3, 4] versions: 5 } } } ]
  config { name: "d" base_path: "/m/\\"d\\"" model_platform: "tensorflow" version_labels: { key: "x" value: 1 } }
>
"""


def test_every_way_of_writing_is_read_as_protobuf_reads_it():
    models, found = modelconfig.parse_leniently(ODD).models, entries(ODD)
    assert [entry.first("name").value for entry in found] == [model.name for model in models] == ["ab", "c", "d"]
    specific = found[1].first("model_version_policy").first("specific")
    assert [one.value for one in specific.all("versions")] == ["3", "4", "5"]
    assert found[0].first("base_path").value == "/m/a # no comment"


def test_a_field_has_its_line_and_all_of_its_text():
    _, second, third = entries(ODD)
    assert (second.line, second.line_of("base_path"), second.line_of("model_version_policy", "specific")) == (4, 5, 6)
    assert second.line_of("version_labels", "key") == 4
    label = third.first("version_labels")
    assert ODD[label.start : label.end] == 'version_labels: { key: "x" value: 1 }'
    policy = second.first("model_version_policy")
    assert ODD[policy.start : policy.end] == "model_version_policy: { specific: { versions: [3, 4] versions: 5 } }"


@pytest.mark.parametrize("text", ["a {", "a: ", "{ }", "a: [1"])
def test_what_protobuf_would_not_take_is_no_text(text):
    with pytest.raises(ValueError):
        read(text)
