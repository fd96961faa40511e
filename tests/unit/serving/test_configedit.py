"""A model config file is changed in place: what was asked for, and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haldane.domain.fleet import ModelEntry, ModelName, Policy
from haldane.serving import modelconfig
from haldane.serving.configedit import edited
from haldane.serving.modelconfig import ConfigTextError

TEXT = """# Serving, cluster b.  Ask ada before you change fraud.
model_config_list {
  config {
    name: "credit"  # team one
    base_path: "/m/credit"
    model_platform: "tensorflow"
    # what users get
    model_version_policy { specific { versions: 1 } }
    version_labels { key: "stable" value: 1 }  # see the runbook
    version_labels { key: "audit" value: 1 }
  }

  config { name: "fraud", base_path: "/m/fraud", model_platform: "tensorflow" }  # on one line
  config {
    name: "loans"
    base_path: "/m/loans"
    model_platform: "tensorflow"
  }
}
"""


def model(name: str, versions: tuple[int, ...], **labels: int) -> ModelEntry:
    return ModelEntry(
        name=ModelName(name), base_path=f"/m/{name}", policy=Policy.SPECIFIC, versions=versions, labels=labels
    )


def changes(*models: ModelEntry) -> list[str]:
    """The lines that are new, marked +, and those that went, marked -."""
    before, after = TEXT.splitlines(), edited(TEXT, models).splitlines()
    gone = [f"- {line.strip()}" for line in before if line not in after]
    return gone + [f"+ {line.strip()}" for line in after if line not in before]


def test_what_is_so_already_leaves_every_letter_as_it_is():
    assert edited(TEXT, [model("credit", (1,), stable=1, audit=1)]) == TEXT


def test_a_canary_is_added_beside_stable_and_comments_stay():
    assert changes(model("credit", (1, 2), stable=1, audit=1, canary=2)) == [
        "- model_version_policy { specific { versions: 1 } }",
        "+ model_version_policy { specific { versions: 1 versions: 2 } }",
        '+ version_labels { key: "canary" value: 2 }',
    ]


def test_a_flip_changes_one_line_and_keeps_its_comment():
    assert changes(model("credit", (1, 2), stable=2, audit=1))[2:] == [
        "+ model_version_policy { specific { versions: 1 versions: 2 } }",
        '+ version_labels { key: "stable" value: 2 }  # see the runbook',
    ]


def test_a_label_that_goes_takes_its_line_with_it_but_not_a_comment():
    assert changes(model("credit", (1,), stable=1)) == ['- version_labels { key: "audit" value: 1 }']
    text = edited(TEXT, [model("credit", (1,), audit=1)])
    assert '"stable"' not in text and "# see the runbook" in text


def test_models_without_a_policy_get_one_on_lines_of_their_own_or_on_their_one_line():
    assert changes(model("loans", (3,), stable=3)) == [
        "+ model_version_policy { specific { versions: 3 } }",
        '+ version_labels { key: "stable" value: 3 }',
    ]
    (_, added) = changes(model("fraud", (3,)))
    assert added == (
        '+ config { name: "fraud", base_path: "/m/fraud", model_platform: "tensorflow"'
        " model_version_policy { specific { versions: 3 } } }  # on one line"
    )


def test_several_models_are_changed_at_once_and_the_rest_stays():
    text = edited(TEXT, [model("credit", (2,), stable=2), model("loans", (7,))])
    after, before = modelconfig.parse_leniently(text), modelconfig.parse_leniently(TEXT)
    assert (after.entry("credit").versions, after.entry("loans").versions) == ((2,), (7,))
    assert after.entry("fraud") == before.entry("fraud")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (TEXT.replace('"credit"', '"kredit"'), "does not have it"),
        (TEXT.replace('"fraud"', '"credit"'), "lists it 2 times"),
        (TEXT.replace("/m/credit", "/other/credit"), "f.config:5: model credit: its base_path is /other/credit here"),
        ("model_config_list {", "f.config:1"),
        (
            TEXT.replace('version_labels { key: "audit" value: 1 }', 'version_labels: [{ key: "audit" value: 2 }]'),
            "cannot be changed safely",
        ),
    ],
)
def test_what_cannot_be_changed_safely_is_refused(text, what):
    with pytest.raises(ConfigTextError, match=what.replace("(", r"\(")):
        edited(text, [model("credit", (1, 2), stable=1, audit=1, canary=2)], source="f.config")


labels = st.dictionaries(st.sampled_from(["stable", "canary", "audit", "x"]), st.integers(1, 9))
lines = st.lists(st.sampled_from(["", "# note", "  # more { } \" '"]), max_size=2)


@given(st.data())
def test_any_change_of_any_layout_gives_what_was_asked_and_comments_stay(data):
    old = data.draw(labels)
    between = data.draw(st.sampled_from(["\n", "  ", "\n\n      "]))
    fields = ['name: "credit"', 'base_path: "/m/credit"', 'model_platform: "tensorflow"']
    fields += [f"version_labels {{ key: '{key}' value: {value} }}" for key, value in old.items()]
    latest, specific = "latest { num_versions: 3 }", "specific < versions: [1, 2] >"
    if data.draw(st.booleans()):
        fields.append(f"model_version_policy: {{ {data.draw(st.sampled_from([latest, specific]))} }}")
    fields = data.draw(st.permutations(fields))
    notes = data.draw(lines)
    body = between.join(fields) + "".join(f"\n{note}" for note in notes)
    text = f"model_config_list {{ config {{ {body}\n}}\n config {{ name: 'o' base_path: '/o' }} }}"
    wanted = model("credit", tuple(data.draw(st.sets(st.integers(1, 9), min_size=1))), **data.draw(labels))
    after = edited(text, [wanted])
    found = modelconfig.parse_leniently(after)
    assert (found.entry("credit").versions, found.entry("credit").labels) == (
        tuple(sorted(wanted.versions)),
        dict(sorted(wanted.labels.items())),
    )
    assert found.entry("o") == modelconfig.parse_leniently(text).entry("o")
    assert after.count("#") == text.count("#")
