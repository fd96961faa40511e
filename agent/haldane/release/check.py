"""What can be said of a version directory by looking at it, where its storage can be read."""

from pathlib import Path

SAVED_MODEL = ("saved_model.pb", "saved_model.pbtxt")


def problem(base_path: str, version: int) -> str:
    """Why Serving could not load that version, in one sentence, or "".

    "" also when the storage cannot be read from here: then the servers must tell.
    """
    base = Path(base_path)
    if "://" in base_path or not base.is_dir():
        return ""
    found = [child for child in base.iterdir() if _number(child.name) == version]
    if not found:
        have = sorted({number for child in base.iterdir() if (number := _number(child.name)) is not None})
        return f"there is no version {version} in {base_path}; it holds {', '.join(map(str, have)) or 'no version'}"
    folder = found[0]
    if not folder.is_dir():
        return f"{folder} is a file; Serving needs a directory with a {SAVED_MODEL[0]}"
    if not any((folder / name).is_file() for name in SAVED_MODEL):
        held = ", ".join(sorted(child.name for child in folder.iterdir())[:5]) or "nothing"
        return f"{folder} has no {SAVED_MODEL[0]} (it holds {held}); is the upload complete?"
    return ""


def folder_of(base_path: str, version: int) -> Path | None:
    """Where that version lies; None when it is not there, or the storage cannot be read from here."""
    base = Path(base_path)
    if not base_path or not base.is_dir():
        return None
    return next((child for child in base.iterdir() if _number(child.name) == version), None)


def _number(name: str) -> int | None:
    """A directory name as Serving reads it: any whole integer, with leading zeros too."""
    try:
        return int(name) if name.strip("+-").isdecimal() else None
    except ValueError:
        return None
