"""Is what lies where the servers load from what was published?"""

from haldane.domain.traffic import Api, Request
from haldane.domain.vouched import Standing, Vouched
from haldane.judge.storage import version_of
from haldane.ports import Malformed, PortError, Refused
from haldane.release.answers import Answered
from haldane.release.shelf import Shelf, differences
from haldane.release.storage import open_storage


def vouch(base_path: str, version: int, *, published: str = "", model: str = "") -> Vouched:
    """Compare every byte of a version below `base_path` with its manifest; takes as long as reading it.

    The manifest is that of `model` in the storage `published`, or else the one beside the
    version; so are the golden answers. UNVERIFIED whenever that cannot be told either way; never raises a PortError.
    """
    root, _, name = base_path.rstrip("/").rpartition("/")
    digest, golden = "", tuple[Request, ...]()
    try:
        if not base_path:
            raise Refused(model, "where its versions lie is not known; give model_config_file")
        storage = open_storage(root or "/")
        shelf = Shelf(open_storage(published), model) if published else Shelf(storage, name)
        release = shelf.release(version)
        digest, manifest = release.digest, shelf.manifest(release)
        golden = tuple(_request(index, one) for index, one in enumerate(shelf.answers(release)))
        folder = next((child for child in storage.children(name) if version_of(child) == version), None)
        if folder is None:
            raise Refused(base_path, "the servers' storage cannot be read from here")
        wrong = list(differences(storage, f"{name}/{folder}", manifest))
    except Malformed as error:
        return Vouched(Standing.CHANGED, str(error), digest)
    except PortError as error:
        return Vouched(Standing.UNVERIFIED, error.detail, digest, golden)
    if wrong:
        return Vouched(Standing.CHANGED, "; ".join(wrong[:5]), digest)
    why = f"published by {release.published_by} at {release.published_at}"
    return Vouched(Standing.VERIFIED, why, digest, golden)


def _request(index: int, one: Answered) -> Request:
    return Request(id=f"recorded {index}", api=Api.PREDICT, body=one.request, recorded=one.answer)
