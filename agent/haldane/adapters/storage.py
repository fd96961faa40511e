"""Base paths of models, local or by URL, as the versions and files they hold.

By URL through fsspec, as `haldane.files` does (extras `s3` and `gcs`;
adlfs and others work when installed). Owns: the listing. Leaves to `judge.storage` what
it means.
"""

import os
from collections.abc import Collection, Iterator, Mapping
from itertools import islice
from pathlib import Path

from haldane.judge.storage import Files, version_of
from haldane.ports import IntoVersions, Refused, Unavailable

MOST_FILES = 10_000  # of one version; a SavedModel has a few dozen


def listing(base_path: str, into: IntoVersions) -> Mapping[int, Files | None] | None:
    """By version the bytes of each file below it, None where `into` does not ask; may take as long as a network.

    None as a whole where there is no such directory for this process: the servers may have it all the same.
    Raises Unavailable when it cannot be read now, Refused when its protocol needs a package.
    """
    if base_path.startswith("file://") or "://" not in base_path:
        return _local(Path(base_path.removeprefix("file://")), into)
    return _remote(base_path, into)


def _local(base: Path, into: IntoVersions) -> Mapping[int, Files | None] | None:
    try:
        folders = _numbered(child.name for child in base.iterdir() if child.is_dir())
        asked = into(folders)
        return {version: dict(_below(base / name)) if version in asked else None for version, name in folders.items()}
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise Unavailable(str(base), f"cannot be listed: {error.strerror}") from error


def _below(folder: Path) -> Iterator[tuple[str, int]]:
    """Files by their path below the folder; one that goes while it is being listed is left out."""

    def walk() -> Iterator[tuple[str, int]]:
        for where, _, names in os.walk(folder):
            for name in names:
                path = Path(where, name)
                try:
                    yield path.relative_to(folder).as_posix(), path.stat().st_size
                except FileNotFoundError:
                    continue

    return islice(walk(), MOST_FILES)


def _remote(url: str, into: IntoVersions) -> Mapping[int, Files | None] | None:
    try:
        import fsspec
    except ImportError as error:
        raise Refused(url, 'a base path by URL is listed with fsspec: pip install "haldane[s3]"') from error
    try:
        filesystem, base = fsspec.core.url_to_fs(url, use_listings_cache=False)
        folders = _numbered(one["name"].rstrip("/").rpartition("/")[2] for one in filesystem.ls(base, detail=True))
        asked, found = into(folders), dict[int, Files | None]()
        for version, name in folders.items():
            found[version] = None
            if version in asked:
                folder = f"{base.rstrip('/')}/{name}/"
                files = filesystem.find(folder, detail=True)
                found[version] = {path.removeprefix(folder): int(one["size"]) for path, one in files.items()}
        return found
    except FileNotFoundError:
        return None
    except (ImportError, ValueError) as error:  # an unknown protocol, or one whose package is missing
        raise Refused(url, f"cannot be listed: {error}") from error
    except Exception as error:  # every filesystem has errors of its own, botocore's and aiohttp's among them
        raise Unavailable(url, f"cannot be listed: {type(error).__name__}: {error}") from error


def _numbered(names: Collection[str] | Iterator[str]) -> dict[int, str]:
    """Directory names by the version each holds; of "7" and "007" the plain one, as Serving does."""
    found: dict[int, str] = {}
    for name in sorted(names, key=len, reverse=True):
        if (version := version_of(name)) is not None:
            found[version] = name
    return found
