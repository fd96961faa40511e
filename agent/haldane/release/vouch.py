"""Is what lies where the servers load from what was published?"""

from dataclasses import replace

from haldane.domain.release import Profile
from haldane.domain.traffic import Api, Request
from haldane.domain.vouched import Standing, Vouched
from haldane.judge.storage import version_of
from haldane.ports import Malformed, PortError, Refused
from haldane.release.answers import Answered
from haldane.release.shelf import Release, Shelf, differences
from haldane.release.storage import open_storage


def vouch(base_path: str, version: int, *, published: str = "", model: str = "") -> Vouched:
    """Compare every byte of a version below `base_path` with its manifest; takes as long as reading it.

    The manifest is that of `model` in the storage `published`, or else the one beside the
    version; so are the golden answers. UNVERIFIED whenever that cannot be told either way; never raises a PortError.
    """
    known = Vouched(Standing.UNVERIFIED, "")  # what can be said of it however the comparison ends
    try:
        lies = _beside(base_path, model)
        storage, name = lies.storage, lies.model
        shelf = Shelf(open_storage(published), model) if published else lies
        release = shelf.release(version)
        known = replace(known, digest=release.digest, profile=release.profile, metadata=release.metadata)
        manifest = shelf.manifest(release)
        known = replace(known, golden=tuple(map(_request, shelf.answers(release))))
        folder = next((child for child in storage.children(name) if version_of(child) == version), None)
        if folder is None:
            raise Refused(base_path, "the servers' storage cannot be read from here")
        wrong = list(differences(storage, f"{name}/{folder}", manifest))
    except Malformed as error:
        return replace(known, standing=Standing.CHANGED, why=str(error))
    except PortError as error:
        return replace(known, why=error.detail)
    if wrong:
        return replace(known, standing=Standing.CHANGED, why="; ".join(wrong[:5]))
    why = f"published by {release.published_by} at {release.published_at}"
    return replace(known, standing=Standing.VERIFIED, why=why)


def release_of(base_path: str, version: int, *, published: str = "", model: str = "") -> Release:
    """What its publisher recorded of it, where `vouch` looks for that; PortError when there is nothing to read."""
    return (Shelf(open_storage(published), model) if published else _beside(base_path, model)).release(version)


def content_of(base_path: str, version: int, *, published: str = "", model: str = "") -> str:
    """The SHA-256 (hex) of its manifest, one name for exactly these files; "" where none can be read."""
    try:
        return release_of(base_path, version, published=published, model=model).digest
    except PortError:
        return ""


def profile_of(base_path: str, version: int, *, published: str = "", model: str = "") -> Profile | None:
    """What it took when it was validated; None where no record tells."""
    try:
        return release_of(base_path, version, published=published, model=model).profile
    except PortError:
        return None


def measured_before(base_path: str, version: int, *, published: str = "", model: str = "") -> Release | None:
    """The newest earlier version whose memory was measured; None where no record tells."""
    try:
        shelf = Shelf(open_storage(published), model) if published else _beside(base_path, model)
        earlier = (shelf.release(one) for one in shelf.published() if one < version)
        return next((one for one in earlier if one.profile and one.profile.memory_bytes), None)
    except PortError:
        return None


def _beside(base_path: str, model: str) -> Shelf:
    """The folder that servers load from, as a shelf: `release publish` and `release sync` leave their records there."""
    if not base_path:
        raise Refused(model, "where its versions lie is not known; give model_config_file")
    root, _, name = base_path.rstrip("/").rpartition("/")
    return Shelf(open_storage(root or "/"), name)


def _request(one: Answered) -> Request:
    return Request(id="recorded", api=Api.PREDICT, body=one.request, recorded=one.answer)
