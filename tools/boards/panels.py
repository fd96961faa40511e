"""How a panel of each kind looks.

Every panel has a sentence that says how to read it, a unit, and what it shows
when there is nothing. Colours mean the same everywhere: green is well, orange
wants a look, red is wrong, blue is a fact.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from grafana_foundation_sdk.builders import common as build
from grafana_foundation_sdk.builders import dashboard as boards
from grafana_foundation_sdk.builders import prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models.dashboard import DashboardFieldConfigSourceOverrides as Override
from grafana_foundation_sdk.models.dashboard import DataTransformerConfig, DynamicConfigValue, MatcherConfig
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = dashboard.DataSourceRef(type_val="prometheus", uid="${datasource}")
GREEN, ORANGE, RED, BLUE, GREY = "green", "orange", "red", "blue", "text"
QUARTER, THIRD, HALF, WHOLE = 6, 8, 12, 24  # widths; Grafana's grid has 24 columns
# Serving's numbers; of the versions that ended the agent shows only those that failed.
VERSION_STATES = {
    10: ("starting", GREY),
    20: ("loading", BLUE),
    30: ("available", GREEN),
    40: ("unloading", ORANGE),
    50: ("failed", RED),
}
WELL_AT_ZERO = ((None, GREEN), (1, RED))

Panel = Builder[dashboard.Panel]
Steps = Sequence[tuple[float | None, str]]  # from which value on (None: the least) which colour
Query = tuple[str, str]  # PromQL, legend


def _targets(queries: Sequence[Query], *, as_table: bool = False, instant: bool = False) -> list[Any]:
    made = []
    for place, (expr, legend) in enumerate(queries):
        one = prometheus.Dataquery().expr(expr).legend_format(legend).ref_id(chr(ord("A") + place)).datasource(SOURCE)
        one = one.instant() if instant or as_table else one.range()
        made.append(one.format(PromQueryFormat.TABLE if as_table else PromQueryFormat.TIME_SERIES))
    return made


def thresholds(steps: Steps) -> boards.ThresholdsConfig:
    marks = [dashboard.Threshold(value=value, color=colour) for value, colour in steps]
    return boards.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(marks)


def names(values: Mapping[Any, tuple[str, str]]) -> list[dashboard.ValueMapping]:
    """Numbers or words shown as words, each in its colour."""
    results = {
        str(value): dashboard.ValueMappingResult(text=text, color=colour, index=place)
        for place, (value, (text, colour)) in enumerate(values.items())
    }
    return [dashboard.ValueMap(options=results)]


def number(
    title: str,
    says: str,
    *queries: Query,
    unit: str = "none",
    steps: Steps = ((None, BLUE),),
    named: bool = False,
    by_name: Mapping[str, tuple[str, str]] | None = None,
    values: Mapping[int, tuple[str, str]] | None = None,
    none: str = "none",
    width: int = 4,
) -> Panel:
    """One figure a series, as it is now; `named`: with its legend; `by_name`: only that, in these words' colours.

    `values`: words for figures, in their colours.
    """
    text = common.BigValueTextMode.VALUE_AND_NAME if named else common.BigValueTextMode.AUTO
    last = build.ReduceDataOptions().calcs(["lastNotNull"]).fields("").values(False)
    panel = (
        stat.Panel()
        .title(title)
        .description(says)
        .datasource(SOURCE)
        .targets(_targets(queries, instant=True))
        .unit(unit)
        .thresholds(thresholds(steps))
        .color_scheme(boards.FieldColor().mode(dashboard.FieldColorModeId.THRESHOLDS))
        .no_value(none)
        .reduce_options(last)
        .graph_mode(common.BigValueGraphMode.NONE)
        .color_mode(common.BigValueColorMode.VALUE)
        .text_mode(text if by_name is None else common.BigValueTextMode.NAME)
        .span(width)
        .height(4)
    )
    panel = panel.mappings(names(values)) if values else panel
    for word, (_, colour) in (by_name or {}).items():
        panel = panel.override_by_name(word, [DynamicConfigValue(id_val="color", value=fixed(colour))])
    return panel


def lines(
    title: str,
    says: str,
    *queries: Query,
    unit: str = "short",
    steps: Steps = ((None, GREEN),),
    mark_steps: bool = False,
    least: float | None = 0,
    most: float | None = None,
    none: str = "no data",
    stepped: bool = False,
    width: int = HALF,
) -> timeseries.Panel:
    """Figures over time. `mark_steps` draws the steps as dashed lines; the axis always holds `least` and `most`."""
    legend = build.VizLegendOptions().show_legend(True).placement(common.LegendPlacement.BOTTOM)
    if width < HALF:
        legend = legend.display_mode(common.LegendDisplayMode.LIST).calcs([])
    else:
        legend = legend.display_mode(common.LegendDisplayMode.TABLE).calcs(["lastNotNull", "max"])
    style = common.GraphThresholdsStyleMode.DASHED if mark_steps else common.GraphThresholdsStyleMode.OFF
    panel = (
        timeseries.Panel()
        .title(title)
        .description(says)
        .datasource(SOURCE)
        .targets(_targets(queries))
        .unit(unit)
        .thresholds(thresholds(steps))
        .thresholds_style(build.GraphThresholdsStyleConfig().mode(style))
        .color_scheme(boards.FieldColor().mode(dashboard.FieldColorModeId.PALETTE_CLASSIC))
        .no_value(none)
        .legend(legend)
        .tooltip(build.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING))
        .line_interpolation(common.LineInterpolation.STEP_AFTER if stepped else common.LineInterpolation.LINEAR)
        .line_width(1)
        .fill_opacity(0)
        .show_points(common.VisibilityMode.NEVER)
        .span_nulls(False)
        .span(width)
        .height(8)
    )
    panel = panel if least is None else panel.axis_soft_min(least)
    return panel if most is None else panel.axis_soft_max(most)


def states(
    title: str,
    says: str,
    *queries: Query,
    values: Mapping[int, tuple[str, str]],
    none: str = "no data",
    width: int = WHOLE,
    height: int = 8,
) -> Panel:
    """Bands of colour over time, a row a series; a number without a name is shown as it is."""
    return (
        statetimeline.Panel()
        .title(title)
        .description(says)
        .datasource(SOURCE)
        .targets(_targets(queries))
        .unit("none")
        .mappings(names(values))
        .thresholds(thresholds([(None, BLUE)]))
        .color_scheme(boards.FieldColor().mode(dashboard.FieldColorModeId.CONTINUOUS_BL_PU))
        .no_value(none)
        .merge_values(True)
        .show_value(common.VisibilityMode.AUTO)
        .fill_opacity(70)
        .line_width(1)
        .row_height(0.9)
        .legend(build.VizLegendOptions().show_legend(False))
        .span(width)
        .height(height)
    )


def rows(
    title: str,
    says: str,
    *columns: tuple[str, str],
    order: Sequence[str],
    hidden: Sequence[str] = (),
    overrides: Sequence[Override] = (),
    none: str = "none",
    width: int = HALF,
    height: int = 8,
) -> Panel:
    """A table as things are now: `columns` are queries with the name of their figure, joined on the labels they share.

    `order` names labels and figures from left to right, as they are to be read;
    what it does not name and `hidden` lists is left out.
    """
    figures = {f"Value #{chr(ord('A') + place)}": name for place, (_, name) in enumerate(columns)}
    figures = figures if len(columns) > 1 else {"Value": columns[0][1]}
    by_place = {name: field for field, name in figures.items()}
    arranged = {
        "excludeByName": dict.fromkeys(("Time", *hidden), True),
        "indexByName": {by_place.get(name, name): place for place, name in enumerate(order)},
        "renameByName": figures,
    }
    one_table = [DataTransformerConfig(id_val="merge", options={})] if len(columns) > 1 else []
    panel = (
        table.Panel()
        .title(title)
        .description(says)
        .datasource(SOURCE)
        .targets(_targets([(expr, "") for expr, _ in columns], as_table=True))
        .transformations([*one_table, DataTransformerConfig(id_val="organize", options=arranged)])
        .unit("none")
        .thresholds(thresholds([(None, GREY)]))
        .no_value(none)
        .show_header(True)
        .cell_height(common.TableCellHeight.SM)
        .span(width)
        .height(height)
    )
    for one in overrides:
        panel = panel.with_override(one.matcher, one.properties)
    return panel


def column(
    name: str,
    *,
    unit: str = "",
    decimals: int | None = None,
    steps: Steps = (),
    values: Mapping[Any, tuple[str, str]] | None = None,
) -> Override:
    """How one column of a table is shown; with steps or values its text has their colour."""
    properties = [DynamicConfigValue(id_val="unit", value=unit)] if unit else []
    if decimals is not None:
        properties.append(DynamicConfigValue(id_val="decimals", value=decimals))
    if steps:
        properties.append(DynamicConfigValue(id_val="thresholds", value=thresholds(steps).build()))
    if values:
        properties.append(DynamicConfigValue(id_val="mappings", value=names(values)))
    if steps or values:
        properties.append(DynamicConfigValue(id_val="custom.cellOptions", value={"type": "color-text"}))
    return Override(matcher=MatcherConfig(id_val="byName", options=name), properties=properties)


def look(series: str, **settings: Any) -> Override:
    """How the lines whose legend matches a pattern are drawn; `custom_lineWidth` means Grafana's custom.lineWidth."""
    properties = [DynamicConfigValue(id_val=key.replace("_", "."), value=value) for key, value in settings.items()]
    return Override(matcher=MatcherConfig(id_val="byRegexp", options=series), properties=properties)


def fixed(colour: str) -> dashboard.FieldColor:
    return dashboard.FieldColor(mode=dashboard.FieldColorModeId.FIXED, fixed_color=colour)


def coloured(words: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Words that stay as they are, in these colours."""
    return {word: (word, colour) for word, colour in words.items()}
