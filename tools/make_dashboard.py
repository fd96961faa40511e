#!/usr/bin/env python3
"""Write dashboards/haldane-overview.json: what a rollout shows, at a glance.

python tools/make_dashboard.py [FILE]
"""

import json
import sys
from pathlib import Path
from typing import Any

OUT = Path(__file__).resolve().parent.parent / "dashboards" / "haldane-overview.json"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH = 24  # of Grafana's grid


def target(expr: str, legend: str, ref: str) -> dict[str, Any]:
    return {"datasource": SOURCE, "expr": expr, "legendFormat": legend, "refId": ref, "range": True}


def panel(title: str, kind: str, queries: list[tuple[str, str]], *, unit: str = "short", says: str) -> dict[str, Any]:
    return {
        "title": title,
        "description": says,
        "type": kind,
        "datasource": SOURCE,
        "targets": [target(expr, legend, chr(ord("A") + place)) for place, (expr, legend) in enumerate(queries)],
        "fieldConfig": {"defaults": {"unit": unit}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}} if kind == "timeseries" else {},
    }


MODEL = 'model=~"$model"'
PANELS = [
    panel(
        "Phase",
        "stat",
        [(f"haldane_rollout_phase{{{MODEL}}} == 1", "{{model}}: {{phase}}")],
        says="Where the newest rollout of each model stands.",
    ),
    panel(
        "Verdict",
        "stat",
        [(f"haldane_verdict{{{MODEL}}} == 1", "{{model}}: {{verdict}}")],
        says="What the evidence says so far.",
    ),
    panel(
        "Servers seen",
        "stat",
        [("sum(haldane_server_up)", "seen"), ("count(haldane_server_up)", "of")],
        says="Servers that answered the last look.",
    ),
    panel(
        "Conditions",
        "stat",
        [("sum by (condition, model) (haldane_condition) > 0", "{{condition}} {{model}}")],
        says="What is wrong now. Empty is good, as long as servers are seen.",
    ),
    panel(
        "Harm against margin",
        "timeseries",
        [
            (f"haldane_check_estimate{{{MODEL}}}", "{{metric}} estimate"),
            (f"haldane_check_lower{{{MODEL}}}", "{{metric}} lower"),
            (f"haldane_check_upper{{{MODEL}}}", "{{metric}} upper"),
            (f"haldane_check_margin{{{MODEL}}}", "{{metric}} margin"),
        ],
        unit="percentunit",
        says="Canary against stable, positive is worse. Below the margin with its whole interval: shown harmless.",
    ),
    panel(
        "Evidence for a rollback (log10)",
        "timeseries",
        [(f"haldane_check_evidence_log10{{{MODEL}}}", "{{metric}}")],
        says="log10 of the e-value: 2 is the default threshold of 1 in 100.",
    ),
    panel(
        "Pairs",
        "timeseries",
        [
            (f"model:haldane_pairs:rate5m{{{MODEL}}}", "{{kind}}"),
            (f"model:haldane_pairs_set_aside:rate5m{{{MODEL}}}", "set aside: {{reason}}"),
            (f"sum by (reason) (rate(haldane_shadow_shed_total{{{MODEL}}}[5m]))", "shed: {{reason}}"),
        ],
        unit="reqps",
        says="Shadow pairs that count, that do not, and requests not shadowed to protect stable.",
    ),
    panel(
        "Labels by server",
        "timeseries",
        [(f"haldane_label_version{{{MODEL}}}", "{{server}} {{label}}")],
        says="The version each label resolves to; -1: to nothing.",
    ),
    panel(
        "Failed loads",
        "timeseries",
        [
            (
                f"sum by (model, version) (increase(tensorflow_serving_load_failures_total{{{MODEL}}}[10m]))",
                "{{model}} version {{version}}",
            ),
            (
                f"sum by (model, version) (increase(tensorflow_serving_load_requests_total{{{MODEL}}}[10m]))",
                "{{model}} version {{version}}, all attempts",
            ),
        ],
        says="Attempts to load in ten minutes, by version. Serving itself has no such series.",
    ),
    panel(
        "Errors by server",
        "timeseries",
        [("model_name_instance:tensorflow_serving_errors:ratio_rate5m", "{{model_name}} {{instance}}")],
        unit="percentunit",
        says="Serving's own count. It knows no version: this compares servers.",
    ),
    panel(
        "p99 by server",
        "timeseries",
        [("model_name_instance:tensorflow_serving_latency_seconds:p99_rate5m", "{{model_name}} {{instance}}")],
        unit="s",
        says="Only calls that succeeded: read it next to the errors. Buckets grow by 1.8, so small shifts hide in one.",
    ),
    panel(
        "Reloads sent",
        "timeseries",
        [("sum by (server, result) (increase(haldane_reloads_total[10m]))", "{{server}} {{result}}")],
        says="Configs the agent sent to each server in ten minutes.",
    ),
]


def placed(panels: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Four small panels in the first row, then two a row."""
    laid = []
    for place, one in enumerate(panels):
        small = place < 4
        wide, high = (WIDTH // 4, 5) if small else (WIDTH // 2, 8)
        row, column = (0, place) if small else divmod(place - 4, 2)
        top = 0 if small else 5 + 8 * row
        laid.append({"id": place + 1, "gridPos": {"x": column * wide, "y": top, "w": wide, "h": high}, **one})
    return laid


def dashboard() -> dict[str, Any]:
    return {
        "uid": "haldane-overview",
        "title": "Haldane: overview",
        "tags": ["haldane", "tensorflow-serving"],
        "schemaVersion": 39,
        "timezone": "browser",
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [
                {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"},
                {
                    "name": "model",
                    "type": "query",
                    "datasource": SOURCE,
                    "query": "label_values(haldane_rollout_phase, model)",
                    "includeAll": True,
                    "multi": True,
                    "refresh": 2,
                },
            ]
        },
        "annotations": {
            "list": [
                {
                    "name": "Phase changes",
                    "datasource": SOURCE,
                    "enable": True,
                    "expr": f"changes(haldane_rollout_phase_started_timestamp_seconds{{{MODEL}}}[1m]) > 0",
                    "titleFormat": "{{model}} changed phase",
                }
            ]
        },
        "panels": placed(PANELS),
    }


if __name__ == "__main__":
    target_file = Path(sys.argv[1]) if len(sys.argv) > 1 else OUT
    target_file.write_text(json.dumps(dashboard(), indent=2) + "\n")
    print(f"wrote {target_file}")
