"""What Serving processes hold: the questions that everything else asks of these values."""

import pytest

from haldane.domain.fleet import (
    Availability,
    ModelEntry,
    ModelName,
    ModelView,
    Policy,
    ServerConfig,
    VersionStatus,
)

RISK = ModelName("risk")
FRAUD = ModelName("fraud")


def an_entry(name: ModelName = RISK, **fields: object) -> ModelEntry:
    return ModelEntry(name=name, base_path=f"/models/{name}", **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("availability", "error_code", "failed"),
    [
        (Availability.END, "DATA_LOSS", True),
        (Availability.END, "NOT_FOUND", True),
        (Availability.END, "OK", False),  # unloaded in peace
        (Availability.END, "CANCELLED", False),  # told to stop while loading
        (Availability.LOADING, "OK", False),
        (Availability.AVAILABLE, "OK", False),
    ],
)
def test_only_an_end_with_an_error_of_its_own_is_a_failed_load(availability, error_code, failed):
    assert VersionStatus(3, availability, error_code).failed is failed


def test_loaded_versions_are_the_available_ones_in_ascending_order():
    view = ModelView(
        (
            VersionStatus(3, Availability.AVAILABLE),
            VersionStatus(2, Availability.UNLOADING),
            VersionStatus(1, Availability.AVAILABLE),
        )
    )
    assert view.loaded == (1, 3)
    assert view.available(3)
    assert not view.available(2)


def test_a_version_nobody_reported_is_not_available():
    assert not ModelView().available(1)
    assert ModelView().status(1) is None


def test_serving_names_exactly_the_versions_and_labels_and_keeps_the_rest():
    entry = an_entry(policy=Policy.LATEST, num_versions=3, labels={"old": 1}, other=b"kept")
    then = entry.serving((2, 1, 2), {"stable": 1, "canary": 2})
    assert (then.policy, then.versions) == (Policy.SPECIFIC, (1, 2))
    assert list(then.labels.items()) == [("canary", 2), ("stable", 1)]
    assert (then.other, then.base_path) == (b"kept", entry.base_path)


def test_replacing_one_model_leaves_the_others_in_their_place():
    config = ServerConfig((an_entry(RISK), an_entry(FRAUD)))
    then = config.with_entry(an_entry(RISK, versions=(2,)))
    assert [entry.name for entry in then.models] == [RISK, FRAUD]
    assert then.entry(RISK) == an_entry(RISK, versions=(2,))
    assert then.entry(FRAUD) == config.entry(FRAUD)


def test_a_model_the_config_lacks_cannot_be_replaced():
    with pytest.raises(KeyError):
        ServerConfig((an_entry(RISK),)).with_entry(an_entry(FRAUD))


def test_a_config_says_none_for_a_model_it_lacks():
    assert ServerConfig().entry(RISK) is None
