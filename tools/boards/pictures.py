"""python -m tools.boards.pictures PROMETHEUS PAGE: draw the boards with Grafana's own components.

For people who change a board: its panels are drawn in Chromium by the React
components that Grafana itself uses, with data from a Prometheus that watches a
real agent (`haldane demo --with-prometheus` leaves one running). `make
board-pictures` installs what it needs. It is no Grafana: see draw/page.tsx for
what stands in.
"""

import copy
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import httpx
from playwright.sync_api import sync_playwright
from tools.boards.queries import BOARDS, filled, load, variables

PAGE = """<!doctype html><meta charset=utf-8><link rel=stylesheet href="page.css"><div id=root></div>
<script>const BOARD = {board};</script><script src="page.js"></script>"""
CHROMIUM = ("--no-sandbox", "--disable-gpu", "--allow-file-access-from-files")
COLUMNS = 24

Values = Mapping[str, str]


@dataclass(frozen=True)
class Window:
    """A span of time in a Prometheus, Unix seconds, read at every `step` seconds."""

    prometheus: str
    begin: float
    end: float
    step: int = 2
    scrape: int = 2

    def ask(self, query: str, *, now: bool = False) -> list[dict[str, Any]]:
        """The series of an answer. httpx.HTTPError when Prometheus refuses."""
        what, when = ("query", {"time": self.end}) if now else ("query_range", self._whole())
        answer = httpx.get(f"{self.prometheus}/api/v1/{what}", params={"query": query, **when}, trust_env=False)
        answer.raise_for_status()
        found: list[dict[str, Any]] = answer.json()["data"]["result"]
        return found

    def _whole(self) -> dict[str, Any]:
        return {"start": self.begin, "end": self.end, "step": self.step}


def choices(board: Any, window: Window, chosen: Values) -> dict[str, list[str]]:
    """What each variable stands for: what was chosen, everything, or the values it has, of which the first counts."""
    found = {"__rate_interval": [f"{4 * window.scrape}s"]}
    for name, variable in variables(board).items():
        query = f"group by ({variable.label}) ({filled(variable.series, _firsts(found))})"
        values = sorted(one["metric"][variable.label] for one in window.ask(query))
        wanted = chosen.get(name) or variable.all
        found[name] = [wanted] if wanted else values
    return found


def _firsts(values: Mapping[str, list[str]]) -> Values:
    """A variable without values is asked for as nothing, as Grafana does."""
    return {name: some[0] if some else "" for name, some in values.items()}


def placed(panels: list[Any], values: Mapping[str, list[str]]) -> Iterator[tuple[Any, Values]]:
    """Every panel with the values its variables have, repeated ones side by side as Grafana puts them."""
    shift, first = 0, _firsts(values)
    for panel in panels:
        repeats = values[panel["repeat"]] if "repeat" in panel else [""]
        beside = int(panel.get("maxPerRow", 1))
        for place, value in enumerate(repeats or [""]):
            one = copy.deepcopy(panel)
            spot = one["gridPos"]
            spot["y"] += shift + (place // beside) * spot["h"]
            own = {**first, panel["repeat"]: value} if "repeat" in panel else first
            if "repeat" in panel:
                spot["w"] = COLUMNS // beside
                spot["x"] = (place % beside) * spot["w"]
            one["title"] = filled(one["title"], own)
            yield one, own
        shift += max(0, (len(repeats) - 1) // beside) * panel["gridPos"]["h"]


def answered(panel: Any, values: Values, window: Window) -> list[dict[str, Any]]:
    """The answers to a panel's queries, in order."""
    return [
        {
            "refId": target["refId"],
            "legend": target["legendFormat"],
            "table": target["format"] == "table",
            "result": window.ask(filled(target["expr"], values), now=bool(target.get("instant"))),
        }
        for target in panel.get("targets", [])
    ]


def marks(board: Any, values: Values, window: Window) -> list[dict[str, Any]]:
    """Where each annotation begins."""
    found = []
    for one in board["annotations"].get("list", []):
        for series in window.ask(filled(one["expr"], values)):
            times = [at for at, _ in series["values"]]
            begins = [at for before, at in zip([0.0, *times], times, strict=False) if at - before > 2 * window.step]
            found += [{"at": at * 1000, "title": one["name"], "color": one["iconColor"]} for at in begins]
    return found


def drawn(board: Any, window: Window, chosen: Values) -> dict[str, Any]:
    """All that the page needs of one board."""
    values = choices(board, window, chosen)
    return {
        "title": board["title"],
        "from": window.begin * 1000,
        "to": window.end * 1000,
        "panels": [
            {"panel": panel, "answers": answered(panel, own, window)} for panel, own in placed(board["panels"], values)
        ],
        "marks": marks(board, _firsts(values), window),
    }


@click.command()
@click.argument("prometheus")
@click.argument("page", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path("docs/images"), show_default=True)
@click.option("--minutes", default=10.0, show_default=True, help="How far back the boards look.")
@click.option("--until", default=None, type=float, help="Unix seconds at which they end.  [default: now]")
@click.option("--set", "chosen", multiple=True, metavar="NAME=VALUE", help="Choose a variable's value.")
@click.option("--only", default="", help="Only boards whose name holds this.")
def main(
    prometheus: str, page: Path, out: Path, minutes: float, until: float | None, chosen: tuple[str, ...], only: str
) -> None:
    """Write OUT/board-NAME.png for every board. PAGE is the folder in which page.js and page.css were built."""
    end = until or time.time()
    window = Window(prometheus, end - 60 * minutes, end, step=max(1, round(minutes * 60 / 400)))
    values = dict(one.split("=", 1) for one in chosen)
    with sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path="/usr/bin/chromium", args=list(CHROMIUM))
        for file in (path for path in BOARDS if only in path.stem):
            board = drawn(load(file), window, values)
            (page / "board.html").write_text(PAGE.replace("{board}", json.dumps(board).replace("</", "<\\/")))
            tab = browser.new_page(viewport={"width": 1640, "height": 900})
            tab.on("pageerror", lambda error: click.echo(f"the page says: {error}", err=True))
            tab.goto((page / "board.html").resolve().as_uri())
            tab.wait_for_selector("#board")
            tab.wait_for_timeout(1500)  # charts draw after their data is there
            target = out / f"board-{file.stem.removeprefix('haldane-')}.png"
            tab.locator("#board").screenshot(path=target)
            tab.close()
            click.echo(f"wrote {target}")
        browser.close()


if __name__ == "__main__":
    main()
