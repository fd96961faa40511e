"""Case files: a rollout with its evidence log and its rulings, from a store, to a file, and back.

The file is an NPZ archive, so `numpy.load` opens it:

- `rollout.json`  the rollout, with the schema number of its stored form
- `rules.json`    its frozen rules; `haldane replay --rules` takes such a file
- `rulings.json`  `{"schema": 1, "rulings": [{"seq", "ruling"}, ...]}`, as the audit log has them
- `entries/NNNNNNNN-SCHEMA.npy`  the evidence log, in order, with the schema number of each entry
"""

import json
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from haldane.adapters.rows import rollout_from_json, rollout_to_json
from haldane.domain.entries import Entry, read_entry, schema_of
from haldane.domain.evidence import Verdict
from haldane.domain.record import Record
from haldane.domain.rollout import Rollout
from haldane.judge.replay import CaseFile, Recorded, recorded_rulings
from haldane.ports import Malformed, Store, Unavailable

SCHEMA = 1  # of rulings.json and of what members there are; the others carry their own
RECORDS_AT_ONCE = 1000
CHUNK_BYTES = 1 << 18  # what is collected before it is sent on


def case_of(store: Store, rollout: Rollout) -> CaseFile:
    """The rollout's case file. Its entries are read as they are asked for, so that a long log needs no memory."""
    # Rulings first: entries that come in meanwhile are more than those rest on, never fewer.
    return CaseFile(
        rollout=rollout, recorded=recorded_rulings(_records(store, rollout)), entries=store.evidence(rollout.id)
    )


def _records(store: Store, rollout: Rollout) -> Iterator[Record]:
    after = 0
    while found := store.records(rollout.id, after=after, limit=RECORDS_AT_ONCE):
        yield from found
        after = found[-1].seq


class _Outgoing:
    """A file that cannot be wound back: `zipfile` then writes an archive front to back."""

    def __init__(self) -> None:
        self.bytes = bytearray()

    def write(self, data: bytes, /) -> int:
        self.bytes += data
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Nothing is held open."""

    def taken(self) -> bytes:
        data = bytes(self.bytes)
        self.bytes.clear()
        return data


def packed(case: CaseFile) -> Iterator[bytes]:
    """The archive in pieces. The same case gives the same bytes."""
    out = _Outgoing()
    with zipfile.ZipFile(out, "w") as archive:
        rollout = json.loads(rollout_to_json(case.rollout))
        rules = rollout.pop("analysis")
        rulings = {"schema": SCHEMA, "rulings": [{"seq": one.seq, "ruling": one.ruling} for one in case.recorded]}
        for name, text in (
            ("rollout.json", json.dumps(rollout)),
            ("rules.json", rules),
            ("rulings.json", json.dumps(rulings)),
        ):
            archive.writestr(_member(name), text)
        for number, entry in enumerate(case.entries, start=1):
            with archive.open(_member(f"entries/{number:08}-{schema_of(entry)}.npy"), "w") as member:
                np.lib.format.write_array(member, entry, allow_pickle=False)
            if len(out.bytes) >= CHUNK_BYTES:
                yield out.taken()
    yield out.taken()


def _member(name: str) -> zipfile.ZipInfo:
    """Without the time of writing: equal cases are equal files."""
    member = zipfile.ZipInfo(name)
    member.compress_type = zipfile.ZIP_DEFLATED
    return member


def unpacked(path: Path) -> CaseFile:
    """The case file at that path. Unavailable when it cannot be read, Malformed when it is not one or is torn."""
    try:
        with zipfile.ZipFile(path) as archive:
            return _case(path, archive)
    except OSError as error:
        raise Unavailable(str(path), f"cannot read it: {error.strerror or error}") from error
    except (zipfile.BadZipFile, EOFError) as error:
        raise Malformed(str(path), f"not a whole NPZ archive ({error}); fetch it anew") from error


def _case(path: Path, archive: zipfile.ZipFile) -> CaseFile:
    parts: dict[str, Any] = {}
    for name in ("rollout.json", "rules.json", "rulings.json"):
        if name not in archive.namelist():
            raise Malformed(
                str(path), f"holds no {name}; `haldane replay ROLLOUT --save FILE` writes an archive that has it"
            )
        try:
            parts[name] = json.loads(archive.read(name))
        except ValueError as error:
            raise Malformed(str(path), f"{name} is not JSON: {error}") from error
    names = sorted(name for name in archive.namelist() if name.startswith("entries/"))
    try:
        if (schema := parts["rulings.json"]["schema"]) != SCHEMA:
            raise Malformed(str(path), f"an archive of schema {schema}; this release reads {SCHEMA}")
        rulings = tuple(_recorded(one) for one in parts["rulings.json"]["rulings"])
        rules = json.dumps(parts["rules.json"], sort_keys=True, separators=(",", ":"))
        rollout = rollout_from_json(json.dumps({**parts["rollout.json"], "analysis": rules}))
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise Malformed(str(path), f"rollout.json or rulings.json is not as a release writes it: {error!r}") from error
    return CaseFile(rollout=rollout, recorded=rulings, entries=tuple(_entries(path, archive, names)))


def _recorded(value: Any) -> Recorded:
    ruling = value["ruling"]
    Verdict(ruling["verdict"]), float(ruling["seconds"]), str(ruling["why"])  # what a replay asks of it
    return Recorded(int(value["seq"]), ruling)


def _entries(path: Path, archive: zipfile.ZipFile, names: Iterable[str]) -> Iterator[Entry]:
    for place, name in enumerate(names, start=1):
        number, _, schema = name.removeprefix("entries/").removesuffix(".npy").partition("-")
        if not (number.isdecimal() and schema.isdecimal()) or int(number) != place:
            raise Malformed(str(path), f"entry {place} of the evidence log is missing; the next one is {name!r:.60}")
        try:
            with archive.open(name) as member:
                stored = np.lib.format.read_array(member, allow_pickle=False)
            yield read_entry(int(schema), stored.tobytes())
        except ValueError as error:
            raise Malformed(str(path), f"{name}: {error}") from error
