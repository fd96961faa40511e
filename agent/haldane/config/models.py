"""One model to look after."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from haldane.config.analysis import AnalysisSection
from haldane.config.base import Section
from haldane.config.outputs import OutputsSection
from haldane.config.releases import ReleasesSection
from haldane.config.traffic import GoldenSection, LabelsSection, TrafficSection, golden_form
from haldane.domain.fleet import Clients, ModelEntry, Placement
from haldane.rollout.wanted import stable_of


def _stable(value: Any) -> Any:
    number = int(value) if isinstance(value, str) and value.isdecimal() else value
    if number is None or number == "none" or (type(number) is int and number >= 0):
        return number
    raise ValueError(f"must be a version number, or none where no version has been released yet; got {value!r}")


_NAMESPACE = r"^[A-Za-z_][A-Za-z0-9_-]*(/[A-Za-z_][A-Za-z0-9_-]*)*$"  # no dots, so it leads nowhere else


class ModelSection(Section):
    """One model to look after."""

    clients: Clients
    """How clients name it: `label` (model_spec.version_label: stable) or `unversioned` (name only). Serving cannot
    tell, so it must be said."""

    placement: Placement | None = None
    """Where the canary runs: `same_entry` (beside stable on every server; the default, for label only), `own_replicas`
    (only on servers with canary: true) or `second_name` (on every server as a model NAME_canary of its own, so that
    Serving's own metrics tell the two apart)."""

    stable: Annotated[int | Literal["none"] | None, BeforeValidator(_stable)] = None
    """The version users get now; needed when model_config_file does not say it by one specific version or a `stable`
    label. `none`: no version has been released yet, and the first is to be judged on absolute limits."""

    def at_rest(self, entry: ModelEntry | None) -> int | None:
        """The version users are declared to get; None when nothing says it, or there is none yet."""
        if self.stable is None:
            return stable_of(entry) if entry else None
        return None if self.stable == "none" else self.stable

    traffic: TrafficSection | None = None
    """Requests to shadow. Without it nothing can be judged, and a rollout is inconclusive."""

    golden: Annotated[GoldenSection | None, BeforeValidator(golden_form)] = None
    """Rows of known answer, sent in full as soon as the canary can be asked, each once, before any traffic: accuracy
    has its first data at once."""

    labels: LabelsSection | None = None
    """Right answers come later (`labels: {}` for all defaults): accuracy and loss then need no data at the start."""

    releases: ReleasesSection | None = None
    """Releases that are announced start a rollout by themselves (`releases: {}` for POST /v1/events alone)."""

    analysis: AnalysisSection | None = None
    """Replaces the top-level analysis for this model."""

    outputs: OutputsSection | None = None
    """Replaces the top-level outputs for this model."""

    namespace: Annotated[str, Field(pattern=_NAMESPACE)] | None = None
    """Whose it is, such as `finance`: the API, the command line, `people` and `freeze` then know it as
    finance/NAME, and so does the storage it was published in. Serving knows NAME."""

    published: Annotated[str, Field(pattern=r"^(/|[a-z0-9]+://)")] | None = None
    """Where the model was published (`haldane release publish --to`): a directory or URL. There the agent reads a
    version's manifest, to compare what lies at its base_path, and the answers it gave when it was validated. By
    default those beside the version count."""

    registered: str | None = None
    """Its name in MLflow's registry: there `champion` follows the stable version, and `challenger` the one on trial.
    Needs `mlflow`, and versions published with --mlflow-run."""

    @property
    def where(self) -> Placement:
        """The placement, or its default."""
        return self.placement or Placement.SAME_ENTRY
