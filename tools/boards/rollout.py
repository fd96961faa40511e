"""One rollout: what the evidence says and has said, check by check, against the margins it is held to."""

from collections.abc import Sequence

from grafana_foundation_sdk.models import dashboard
from tools.boards import words
from tools.boards.frame import Mark, assemble, choice, each
from tools.boards.panels import (
    BLUE,
    GREEN,
    ORANGE,
    RED,
    THIRD,
    WHOLE,
    Panel,
    column,
    fixed,
    lines,
    look,
    number,
    rows,
    states,
)

MODEL = 'model="$model"'
SHARES = 'unit=~"share|ratio"'
OTHERS = 'unit!~"share|ratio"'
NUMBERS = ("estimate", "lower", "upper", "margin", "evidence_log10")
DASHED = {"fill": "dash", "dash": [8, 6]}
# The name of the series without it being repeated for each number.
OF_CHECK = f"max by (metric) (haldane_check_%s{{{MODEL}}})"


def board() -> dashboard.Dashboard:
    return assemble(
        "haldane-rollout",
        "Haldane: rollout",
        "The newest rollout of one model in the time shown: phase and verdict, and the evidence with its margins.",
        ("", [*_figures(), _checks()]),
        ("Evidence", [_phases(), _evidence(), _sides()]),
        ("Harm against margin, canary compared with stable", [_harm("check", "percentunit")]),
        ("Pairs", _pairs()),
        folded=[("Checks in a unit of their own, canary alone against its limit", [_harm("other", "short")])],
        variables=[
            choice("model", "Model", "haldane_rollout_phase", of="model"),
            each("check", f"haldane_check_info{{{MODEL}, {SHARES}}}", of="metric"),
            each("other", f"haldane_check_info{{{MODEL}, {OTHERS}}}", of="metric"),
        ],
        marks=_marks(),
        span="now-30m",
    )


def _marks() -> list[Mark]:
    """The first minute of a verdict or a phase: a mark at its beginning."""
    began = f"changes(haldane_verdict{{{MODEL}}}[1m]) > 0"
    entered = f"changes(haldane_rollout_phase_started_timestamp_seconds{{{MODEL}}}[1m]) > 0"
    return [
        Mark(
            "Phases", f"(haldane_rollout_phase{{{MODEL}}} == 1) and on (instance, model) ({entered})", "{{phase}}", BLUE
        ),
        Mark("Verdict pass", f'(haldane_verdict{{{MODEL}, verdict="pass"}} == 1) and {began}', "verdict: pass", GREEN),
        Mark("Verdict fail", f'(haldane_verdict{{{MODEL}, verdict="fail"}} == 1) and {began}', "verdict: fail", RED),
        Mark(
            "Verdict inconclusive",
            f'(haldane_verdict{{{MODEL}, verdict="inconclusive"}} == 1) and {began}',
            "verdict: inconclusive",
            ORANGE,
        ),
    ]


def _figures() -> list[Panel]:
    return [
        number(
            "Phase",
            "Where the newest rollout stands. HELD and STUCK wait for a person.",
            (f"haldane_rollout_phase{{{MODEL}}} == 1", "{{phase}}"),
            by_name=words.PHASES,
            none="no rollout",
        ),
        number(
            "Verdict",
            "What all checks together say so far: pass, fail, continue, or inconclusive when the budget is spent.",
            (f"haldane_verdict{{{MODEL}}} == 1", "{{verdict}}"),
            by_name=words.VERDICTS,
        ),
        number(
            "In this phase for",
            "Time since the phase was entered.",
            (f"time() - haldane_rollout_phase_started_timestamp_seconds{{{MODEL}}}", "age"),
            unit="s",
        ),
        number(
            "Versions",
            "The version each label names on most servers; -1: it resolves to nothing.",
            (f"max by (label) (haldane_label_version{{{MODEL}}})", "{{label}}"),
            named=True,
            none="no labels",
        ),
        number(
            "Stable fails",
            "Servers of stable fail more shadow requests than a baseline may. While they do nothing is promoted.",
            (f"max(haldane_stable_failing{{{MODEL}}})", "fails"),
            values={0: ("no", GREEN), 1: ("yes", RED)},
        ),
        number(
            "Servers set aside",
            "Servers whose pairs are not judged because stable is sick there.",
            (f"max(haldane_servers_set_aside{{{MODEL}}})", "servers"),
            steps=((None, GREEN), (1, ORANGE)),
        ),
    ]


def _checks() -> Panel:
    says = (
        f"(haldane_check_state{{{MODEL}}} == 1)"
        " * on (instance, model, metric) group_left (unit, role) haldane_check_info"
    )
    names = ("estimate", "lower", "upper", "margin", "evidence (log10)")
    return rows(
        "Checks now",
        "Harm is canary compared with stable, positive is worse. Harmless: the whole interval lies below the margin."
        " Harmful: it lies above. Shares and ratios as numbers: 0.01 is one percent.",
        (f"max by (metric, state, unit, role) ({says})", "says"),
        *[(OF_CHECK % series, name) for series, name in zip(NUMBERS, names, strict=True)],
        order=["metric", "role", "state", "estimate", "lower", "upper", "margin", "evidence (log10)", "unit"],
        hidden=["Value #A"],
        overrides=[column("state", values=words.CHECKS), column("evidence (log10)", decimals=2)],
        none="–",
        width=WHOLE,
    )


def _phases() -> Panel:
    return states(
        "Phases",
        "When each phase was entered and left.",
        (f"haldane_rollout_phase{{{MODEL}}} == 1", "{{phase}}"),
        values={1: (" ", BLUE)},
        width=THIRD,
    )


def _harm(check: str, unit: str) -> Panel:
    """Repeated for each check: its interval is filled, its margin a dashed red line."""
    series = f'{{{MODEL}, metric="${check}"}}'
    queries = [(f"max(haldane_check_{name}{series})", name) for name in ("upper", "lower", "estimate", "margin")]
    made = lines(
        f"${check}",
        "Estimate and confidence sequence of the harm, positive is worse. Harmless once the whole band is below the"
        " dashed line, harmful once it is above. A side of the band that is missing is not bounded yet.",
        *queries,
        unit=unit,
        least=None,
        width=THIRD,
    )
    for one in (
        look("/^estimate$/", color=fixed(BLUE), custom_lineWidth=2),
        look("/^upper$/", color=fixed(BLUE), custom_fillBelowTo="lower", custom_fillOpacity=20),
        look("/^lower$/", color=fixed(BLUE)),
        look("/^margin$/", color=fixed(RED), custom_lineWidth=2, custom_lineStyle=DASHED),
    ):
        made = made.with_override(one.matcher, one.properties)
    return made.repeat(check).repeat_direction("h").max_per_row(3)


def _evidence() -> Panel:
    return lines(
        "Evidence for a rollback",
        "log10 of each check's e-value. The dashed line is that of alpha = 1 in 100, the default; the verdict weighs"
        " all checks together, so a single one needs more than that.",
        (OF_CHECK % "evidence_log10", "{{metric}}"),
        unit="none",
        steps=((None, GREEN), (2, RED)),
        mark_steps=True,
        width=THIRD,
    )


def _sides() -> Panel:
    ended = f"rate(haldane_pair_outcomes_total{{{MODEL}}}[$__rate_interval])"
    return lines(
        "How both sides answered",
        "Share of each side's answers by how they ended. What only canary has is canary's doing.",
        (f"sum by (side, status) ({ended}) / on (side) group_left () sum by (side) ({ended})", "{{side}} {{status}}"),
        unit="percentunit",
        most=1,
        width=THIRD,
    )


def _pairs() -> Sequence[Panel]:
    return [
        lines(
            "Pairs that count",
            "Shadow pairs a second: ab compares the versions, aa stable with itself; and all that were sent.",
            (f"sum by (kind) (rate(haldane_pairs_total{{{MODEL}}}[$__rate_interval]))", "{{kind}}"),
            (f"sum(rate(haldane_pairs_sent_total{{{MODEL}}}[$__rate_interval]))", "sent"),
            unit="reqps",
            width=THIRD,
        ),
        lines(
            "Not counted",
            "By reason: pairs set aside, pairs out when shadowing ended, requests not shadowed to protect stable.",
            (
                f"sum by (reason) (rate(haldane_pairs_set_aside_total{{{MODEL}}}[$__rate_interval]))",
                "set aside: {{reason}}",
            ),
            (f"sum by (reason) (rate(haldane_shadow_shed_total{{{MODEL}}}[$__rate_interval]))", "shed: {{reason}}"),
            (
                f"sum by (reason) (rate(haldane_pairs_dropped_total{{{MODEL}}}[$__rate_interval]))",
                "dropped: {{reason}}",
            ),
            unit="reqps",
            none="all count",
            width=THIRD,
        ),
        lines(
            "Labels that came later",
            "Right answers a second by what became of them; only joined ones are evidence.",
            (f"sum by (result) (rate(haldane_labels_total{{{MODEL}}}[$__rate_interval]))", "{{result}}"),
            unit="ops",
            none="none",
            width=THIRD,
        ),
    ]
