"""Each condition is an alert with words, a severity and a runbook, the same as that of the rules."""

from pathlib import Path

import pytest
import yaml

from haldane.adapters.alertmanager import annotations_of, labels_of
from haldane.domain.fleet import Condition
from haldane.judge.conditions import Name


@pytest.mark.parametrize("name", [*Name, "watching"])
def test_each_condition_has_a_runbook_and_the_severity_of_its_rule(name: str, root: Path) -> None:
    condition = Condition(name, "m", 3, ("r0", "r1"), "why", 0.0)
    labels, annotations = labels_of(condition), annotations_of(condition)
    rules = yaml.safe_load((root / "rules" / "haldane.yml").read_text())
    severities = {
        rule["alert"]: rule["labels"]["severity"]
        for group in rules["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }
    assert labels["severity"] == severities[labels["alertname"]]
    assert (root / annotations["runbook_url"]).is_file()
    assert "{" not in annotations["summary"]
    assert annotations["description"] == "On r0, r1: why"


def test_a_condition_of_no_model_has_no_empty_labels() -> None:
    labels = labels_of(Condition(Name.SERVER_UNSEEN, "", None, ("r0",), "why", 0.0))
    assert labels.keys() == {"alertname", "severity"}
