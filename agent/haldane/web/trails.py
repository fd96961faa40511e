"""Evidence over time of several judgements as one SVG file that stands by itself. Pure."""

import math
from collections.abc import Mapping, Sequence
from importlib.resources import files

from markupsafe import Markup

from haldane.judge.verdict import odds
from haldane.web.charts import LOWEST, MOST_ABOVE, level_name
from haldane.web.plot import LEFT, LETTER_WIDTH, Line, Plot, Rule, draw

LOOKS = ("m-accuracy", "m-errors", "m-latency", "m-disagreement", "m-loss", "m-other")
MOST_NAMES = 5
PLOT_WIDTH = 760  # of a Plot unless told otherwise

Trail = Sequence[tuple[float, float]]  # seconds, log10 of the joint evidence against the canary


def drawn(trails: Mapping[str, Trail], *, alpha: float) -> str:
    """One line per judgement, by name, against the level at which a canary is withdrawn; an SVG document."""
    need = -math.log10(alpha)
    lines = [Line(name, LOOKS[index % len(LOOKS)], trail) for index, (name, trail) in enumerate(trails.items())]
    values = [value for line in lines for _, value in line.points] or [0.0]
    low, high = max(LOWEST, min(-0.5, *values)), min(need + MOST_ABOVE, max(need + 0.6, *values))
    last = max((line.points[-1][0] for line in lines), default=1.0)
    ticks = [(float(level), level_name(level)) for level in range(math.ceil(low), math.floor(high) + 1)]
    picture = str(
        draw(
            Plot(
                title="evidence against the canary: "
                + "; ".join(f"{line.name} {odds(line.points[-1][1])}" for line in lines),
                x=(0.0, last or 1.0),
                y=(low, high),
                ticks=ticks,
                lines=lines,
                rules=[Rule(need, f"withdraw at {odds(need)}", "bad-rule")],
            )
        )
    )
    style = files("haldane.web").joinpath("templates", "style.css").read_text(encoding="utf-8")
    head, rest = picture.split(">", 1)
    opening = head.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    return (
        f"{opening}><style><![CDATA[{style} svg.plot {{ background: var(--card); }}]]></style>{_legend(lines)}{rest}\n"
    )


def _legend(lines: Sequence[Line]) -> Markup:
    """The names in one row above the plot; further ones are in the tooltips only."""
    step = (PLOT_WIDTH - LEFT) / max(1, min(len(lines), MOST_NAMES))
    entry = Markup('<path class="line {0}" d="M{1:.0f} 12h16"/><text class="tick" x="{2:.0f}" y="16">{3}</text>')
    return Markup("").join(
        entry.format(
            line.look, LEFT + step * index, LEFT + step * index + 21, line.name[: int((step - 25) / LETTER_WIDTH)]
        )
        for index, line in enumerate(lines[:MOST_NAMES])
    )
