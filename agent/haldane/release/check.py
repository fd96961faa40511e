"""What can be said of a version directory by looking at it, where its storage can be read."""

from pathlib import Path

from haldane.judge.storage import SAVED_MODEL, lacks, version_of


def problem(base_path: str, version: int) -> str:
    """Why Serving could not load that version, in one sentence, or "".

    "" also when the storage cannot be read from here: then the servers must tell.
    """
    base = Path(base_path)
    if "://" in base_path or not base.is_dir():
        return ""
    found = [child for child in base.iterdir() if version_of(child.name) == version]
    if not found:
        have = sorted({number for child in base.iterdir() if (number := version_of(child.name)) is not None})
        return f"there is no version {version} in {base_path}; it holds {', '.join(map(str, have)) or 'no version'}"
    folder = found[0]
    if not folder.is_dir():
        return f"{folder} is a file; Serving needs a directory with a {SAVED_MODEL[0]}"
    files = {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    lacking = lacks(files)
    return f"{folder} {lacking}; is the upload complete?" if lacking else ""


def folder_of(base_path: str, version: int) -> Path | None:
    """Where that version lies; None when it is not there, or the storage cannot be read from here."""
    base = Path(base_path)
    if not base_path or not base.is_dir():
        return None
    return next((child for child in base.iterdir() if version_of(child.name) == version), None)
