"""What stands around the panels of a board: variables, annotations, links to the other boards."""

from collections.abc import Sequence
from itertools import count

from grafana_foundation_sdk.builders import dashboard as boards
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard
from tools.boards.panels import ORANGE, SOURCE, Panel

TAG = "haldane"
EVERYTHING = dashboard.VariableOption(selected=True, text=["All"], value=["$__all"])

Row = tuple[str, Sequence[Panel]]  # a heading and what stands below it
Variable = Builder[dashboard.VariableModel]


class Mark(Builder[dashboard.AnnotationQuery]):
    """Moments marked in every chart: wherever `expr` gives a value. The SDK's own builder knows no `titleFormat`."""

    def __init__(self, name: str, expr: str, title: str, colour: str = ORANGE) -> None:
        self._made = _Titled(name=name, datasource=SOURCE, enable=True, icon_color=colour, expr=expr, built_in=None)
        self._made.title = title

    def build(self) -> dashboard.AnnotationQuery:
        return self._made


class _Titled(dashboard.AnnotationQuery):
    title: str

    def to_json(self) -> dict[str, object]:
        return {**super().to_json(), "titleFormat": self.title, "step": "15s"}


def choice(name: str, label: str, series: str, *, of: str, many: bool = False) -> boards.QueryVariable:
    """A list to choose from: the values that the label `of` has in `series`."""
    made = (
        boards.QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query(f"label_values({series}, {of})")
        .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(dashboard.VariableSort.ALPHABETICAL_ASC)
    )
    return made.multi(True).include_all(True).all_value(".*").current(EVERYTHING) if many else made


def each(name: str, series: str, *, of: str) -> boards.QueryVariable:
    """What a panel is repeated for: all values, chosen by nobody."""
    hidden = choice(name, name, series, of=of).hide(dashboard.VariableHide.HIDE_VARIABLE)
    return hidden.multi(True).include_all(True).current(EVERYTHING)


def assemble(
    uid: str,
    title: str,
    says: str,
    *rows: Row,
    folded: Sequence[Row] = (),
    variables: Sequence[Variable] = (),
    marks: Sequence[Mark] = (),
    span: str = "now-1h",
) -> dashboard.Dashboard:
    """The board: rows below one another, `folded` ones last; a menu with the other boards that keeps model and time."""
    others = boards.DashboardLink("Haldane").type(dashboard.DashboardLinkType.DASHBOARDS).tags([TAG])
    made = (
        boards.Dashboard(title)
        .uid(uid)
        .description(says)
        .tags([TAG, "tensorflow-serving"])
        .timezone("browser")
        .refresh("15s")
        .time(span, "now")
        .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        .link(others.as_dropdown(True).include_vars(True).keep_time(True))
        .with_variable(boards.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    )
    for variable in variables:
        made = made.with_variable(variable)
    for mark in marks:
        made = made.annotation(mark)
    for heading, panels in rows:
        if heading:
            made = made.with_row(boards.Row(heading))
        for panel in panels:
            made = made.with_panel(panel)
    for heading, panels in folded:
        row = boards.Row(heading).collapsed(True)
        for panel in panels:
            row = row.with_panel(panel)
        made = made.with_row(row)
    return _numbered(made.build())


def _numbered(board: dashboard.Dashboard) -> dashboard.Dashboard:
    """The SDK gives panels no number, and Grafana wants each to have its own."""
    numbers = count(1)
    for placed in board.panels or []:
        placed.id_val = next(numbers)
        if isinstance(placed, dashboard.RowPanel):
            for panel in placed.panels:
                panel.id_val = next(numbers)
    return board
