"""Settings of the tap: where mirrored calls come in, what share is used, and what is recorded of them."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated

from pydantic import Field

from haldane.config.base import Section
from haldane.config.quantities import Address, Duration, ShareOrAll, Size


class TapSection(Section):
    """Where `haldane tap` takes mirrored calls. `tap: {}` for all defaults. Nothing is asked of who mirrors, so keep
    it where only your proxies reach it."""

    grpc: Address = "127.0.0.1:8621"
    """HOST:PORT for mirrored gRPC calls of PredictionService."""

    rest: Address = "127.0.0.1:8622"
    """HOST:PORT for mirrored REST calls (/v1/models/...:predict), and for the tap's own /metrics and /-/healthy."""

    largest: Size = 4 << 20
    """A larger request is not taken."""

    waiting: Size = 64 << 20
    """Bytes of requests that may wait, over all models, to be shadowed or recorded; what finds no room is dropped and
    counted."""


class TapSourceSection(Section):
    """Requests that the tap hands on, of those mirrored to it. `tap: {}` for all of them."""

    sample: ShareOrAll = 1.0
    """Share of the mirrored calls to choose shadow requests from, e.g. "10%"; all by default. How many are shadowed
    is up to shadow.rate."""

    id_header: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]*$", max_length=100)] = ""
    """Header (of a gRPC call: metadata) that holds a request's id, e.g. x-request-id: late labels name it. Each id is
    used once. Left out, or where a call lacks it, ids are made up."""


class RecordSection(Section):
    """Mirrored requests kept in files, TFRecords of PredictionLog, ready to be read as prediction_log."""

    directory: Path
    """Folder of the files, MODEL-TIME-N.tfrecord; made when it is not there. One that is written to ends in .part."""

    sample: ShareOrAll = 0.01
    """Share of the mirrored calls that is recorded, e.g. "1%" (the default)."""

    drop: tuple[str, ...] = ()
    """Inputs, or features of Examples, that are left out."""

    hash: tuple[str, ...] = ()
    """Inputs, or features of Examples, of which only a keyed hash is written: text as 32 hex digits, whole numbers as
    another whole number. Of any other type they are left out. Needs key_file or key_env."""

    key_file: Path | None = None
    """File that holds the key of `hash`, at least 16 characters."""

    key_env: str | None = None
    """Environment variable that holds that key."""

    file_size: Size = 64 << 20
    """Size at which a file is finished and the next begun."""

    file_age: Duration = timedelta(hours=1)
    """Age at which a file is finished, too."""

    keep_size: Size = 1 << 30
    """Size of all files of the model together; the oldest are removed beyond it."""

    keep_age: Duration = timedelta(days=7)
    """Age at which a file is removed."""
