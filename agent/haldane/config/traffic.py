"""Settings of requests and right answers: traffic, the golden set, labels that come late."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from haldane.config.base import Section
from haldane.config.quantities import Duration
from haldane.config.tap import RecordSection, TapSourceSection


def files_form(value: Any) -> Any:
    """A URL stays text, anything else is a path, so that it is taken from the config file's folder."""
    return Path(value) if isinstance(value, str) and "://" not in value else value


Files = Annotated[Path | str, BeforeValidator(files_form)]


class BrokersSection(Section):
    """A Kafka topic. Needs `pip install "haldane[kafka]"`."""

    brokers: Annotated[str, Field(min_length=1)]
    """HOST:PORT of one broker, or of several with commas between."""

    topic: Annotated[str, Field(min_length=1)]
    """Its name."""

    settings_file: Path | None = None
    """The client's own settings, one key=value a line, as librdkafka names them: security.protocol, sasl.password,
    session.timeout.ms."""


class TopicSection(BrokersSection):
    """A Kafka topic that is read."""

    topic: Annotated[str, Field(min_length=1)]
    """Its name. All its partitions are read; those added later, from the next rollout on."""

    group: str = ""
    """Consumer group that keeps the place in the topic: haldane-MODEL, for labels haldane-MODEL-labels, by default."""

    start: Literal["newest", "oldest"] = "newest"
    """Where to begin when the group has no place yet."""


class RequestTopicSection(TopicSection):
    """A Kafka topic of requests."""

    form: Literal["prediction_log", "rest_json"] = "prediction_log"
    """What a message's value is: a serialized tensorflow.serving.PredictionLog, or a line as for rest_jsonl."""


class LabelTopicSection(TopicSection):
    """A Kafka topic of labels: each message as POST /v1/labels takes it."""

    start: Literal["newest", "oldest"] = "oldest"
    """Where to begin when the group has no place yet."""


class TrafficSection(Section):
    """Where requests to shadow come from; exactly one source.

    A file is a path, a glob (logs/*.tfrecord.gz) or a URL of either (s3://bucket/logs/*.tfrecord, https://...);
    gzip is seen by its content.
    """

    labelled: Files | None = None
    """Rows with a known answer: .parquet, .csv, .tsv or .npz. Needs `label`."""

    examples: Files | None = None
    """TFRecord files of tf.train.Example; with `label`, rows of known answer."""

    rest_jsonl: Files | None = None
    """One request a line in Serving's REST form ({"instances": ...} or {"inputs": ...})."""

    prediction_log: Files | None = None
    """TFRecord files of tensorflow.serving.PredictionLog, as Serving's request logger writes it."""

    warmup: bool = False
    """The requests that the stable version brings along for its own warm-up, in assets.extra below its base_path,
    which must be readable from here."""

    synthetic: bool = False
    """Requests made up from the signature's types and shapes. They judge latency and errors only: what a model
    answers to noise says nothing of its answers to people."""

    kafka: RequestTopicSection | None = None
    """A topic that requests are written to as they come."""

    tap: TapSourceSection | None = None
    """Requests as users make them, mirrored by a proxy to `haldane tap`. Needs the top-level `tap`."""

    record: RecordSection | None = None
    """Keep a share of the mirrored requests in files. No source, but beside any. Needs the top-level `tap`."""

    label: str | None = None
    """Column (or Example feature) that holds the right answer; never sent to the model."""

    signature: str = "serving_default"
    """Signature that is called; its method (Predict, Classify, Regress) is read from the model."""

    exclude: tuple[str, ...] = ()
    """Signatures that are never called, because a call changes something (a state, a counter, another system): requests
    for them are left out and counted. A request that names no signature is for serving_default."""

    columns: tuple[str, ...] = ()
    """Columns of a table, in order, that fill a single input of shape [n, d]; by default a column per input."""

    @property
    def kind(self) -> str:
        """Which of SOURCES is given."""
        return next(iter(self.given))

    @property
    def given(self) -> list[str]:
        """All of SOURCES that are given; one, once the config was checked."""
        return [name for name in SOURCES if getattr(self, name) not in (None, False)]

    @property
    def files(self) -> Path | str:
        """The path, glob or URL of a source of files."""
        files: Path | str = getattr(self, self.kind)
        return files


FILE_SOURCES = ("labelled", "examples", "rest_jsonl", "prediction_log")
SIGNED_SOURCES = ("labelled", "examples", "synthetic")  # whose requests all call the one `signature`
SOURCES = (*FILE_SOURCES, "warmup", "synthetic", "kafka", "tap")


_GOLDEN_KINDS = {
    **dict.fromkeys((".csv", ".parquet"), "labelled"),
    **dict.fromkeys((".tfrecord", ".tfrecords"), "examples"),
    ".jsonl": "rest_jsonl",
}


def golden_kind(file: Path) -> str | None:
    """Which of SOURCES a file of a golden set is, by its suffix; None for no known one."""
    return _GOLDEN_KINDS.get(file.suffix.lower())


def golden_files(path: Path) -> list[Path]:
    """The file itself, or the files of known suffix in a folder, by name."""
    return sorted(file for file in path.iterdir() if golden_kind(file)) if path.is_dir() else [path]


class GoldenSection(Section):
    """Rows of known answer that every canary gets first. A bare path stands for {path: ...}."""

    path: Path
    """A file, or a folder of them: .csv and .parquet (with `label`), .tfrecord of tf.train.Example (with `label`),
    .jsonl as for rest_jsonl with the right answer as "truth" in each line."""

    label: str | None = None
    """Column or feature that holds the right answer; that of traffic when left out."""

    signature: str | None = None
    """Signature that is called; that of traffic when left out."""

    columns: tuple[str, ...] = ()
    """Columns of a table that fill a single input, as for traffic; those of traffic when left out."""

    def source(self, file: Path, traffic: TrafficSection | None) -> TrafficSection:
        """One of its files, to be read as traffic is; what is left out is taken from the traffic."""
        base = traffic or TrafficSection()
        given: dict[str, Any] = {golden_kind(file) or "labelled": file}
        return TrafficSection(
            **given,
            label=self.label or base.label,
            signature=self.signature or base.signature,
            columns=self.columns or base.columns,
            exclude=base.exclude,
        )


def golden_form(value: Any) -> Any:
    """A bare path stands for {path: ...}."""
    return {"path": value} if isinstance(value, str) else value


class LabelsSection(Section):
    """Right answers that come after the answers they judge, by POST /v1/labels, `haldane labels send` or a topic."""

    wait: Duration = timedelta(hours=24)
    """How long after its answer a label is on time. The bake lasts at least as long, and for as long after it a
    promotion is taken back when labels show harm."""

    id: str = ""
    """Field of a request that holds its id: a feature of an Example, an input of one value, a key of "fields" in a line
    of rest_jsonl. Left out, the "id" of a line of rest_jsonl; other sources have no ids of their own."""

    kafka: LabelTopicSection | None = None
    """A topic that labels come by, too."""

    late: Literal["count", "ignore"] = "count"
    """What becomes of a label that is not on time: `count` judges it all the same while the rollout is watched,
    `ignore` leaves it out."""
