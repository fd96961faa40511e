"""Figures written into a page of the docs, between markers, so that prose around them stays."""

from collections.abc import Iterable, Sequence
from pathlib import Path


class Block:
    """What stands between `<!-- NAME: begin -->` and `<!-- NAME: end -->`. ValueError where a page lacks them."""

    def __init__(self, page: Path, name: str) -> None:
        self.page = page
        self.begin, self.end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        self._around()  # before hours of trials, not after them

    def write(self, text: str) -> None:
        before, after = self._around()
        self.page.write_text(f"{before}{self.begin}\n{text.strip()}\n{self.end}{after}")

    def _around(self) -> tuple[str, str]:
        if not self.page.is_file():
            raise ValueError(f"{self.page}: no such page")
        before, found, rest = self.page.read_text().partition(self.begin)
        _, ended, after = rest.partition(self.end)
        if not found or not ended:
            raise ValueError(f"{self.page}: expected the lines {self.begin} and {self.end}, in this order")
        return before, after


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """First column to the left, the others to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
