"""Model config text that protobuf refuses: its complaint, and what the writer probably meant."""

import difflib
import re

from haldane import wire

_LABEL = 'a label is written version_labels { key: "stable" value: 1 }, a block for each, in the block of its model'


def refused(file: str, text: str, words: str) -> tuple[int, str]:
    """The line, and the complaint with what would be right. `words` is what `modelconfig` said of that file."""
    place = re.match(rf"{re.escape(file)}:(\d+): (?:column \d+: )?(.*)", words, re.DOTALL)
    line, says = (int(place[1]), place[2]) if place else (1, words)
    lines = text.splitlines()
    meant = _meant(text, lines[line - 1] if 0 < line <= len(lines) else "", says)
    return line, f"{says.rstrip('.')}. {meant}" if meant else says


def _meant(text: str, here: str, says: str) -> str:
    if text.lstrip().startswith("{") and '"model_config_list"' in text:
        return "This is JSON; Serving reads protobuf text: model_config_list { config { name: ... } }"
    if flag := re.search(r"--(\w+)", here):
        if flag[1] == "version_labels":
            return f"There is no flag --version_labels; {_LABEL}"
        return f"--{flag[1]} would be a flag of the command line; this file holds models alone"
    if "version_labels" in here:
        return _LABEL
    if wrong := re.search(r'type "tensorflow\.serving\.([\w.]+)" has no field named "(\w+)"', says):
        return _near(wrong[1], wrong[2])
    if "Expected string" in says:
        return "Texts stand in quotes"
    return ""


def _near(message: str, name: str) -> str:
    """Which field of that message was meant."""
    known = wire.POOL.FindMessageTypeByName(f"tensorflow.serving.{message}").fields
    fields = [field.name for field in known]
    close = difflib.get_close_matches(name, fields, n=1, cutoff=0.5)
    if not close and name in ("labels", "label", "version", "versions", "latest", "specific", "all"):
        close = ["version_labels" if name.startswith("label") else "model_version_policy"]
        close = [one for one in close if one in fields]
    return f"Did you mean {close[0]}?" if close else f"It has {', '.join(fields)}"
