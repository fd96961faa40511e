"""The agent itself: is it well, can it see and act, what does it cost."""

from grafana_foundation_sdk.models import dashboard
from tools.boards.frame import assemble
from tools.boards.panels import BLUE, GREEN, ORANGE, QUARTER, RED, THIRD, Panel, lines, number

OF_AGENT = "* on (job, instance) group_left () haldane_build_info"  # of the many processes that export these


def board() -> dashboard.Dashboard:
    return assemble(
        "haldane-agent",
        "Haldane: the agent itself",
        "Whether the agent is well: its right to act, how old its looks are, what it could not read or tell, its cost.",
        ("", _figures()),
        ("What it sees", _sees()),
        ("What it does", _does()),
        ("What it costs", _costs()),
    )


def _figures() -> list[Panel]:
    return [
        number(
            "Version",
            "Of each agent that is scraped.",
            ("haldane_build_info", "{{version}}"),
            by_name={},
            none="no agent",
            width=6,
        ),
        number(
            "Mode",
            "observe watches and judges; enforce also changes servers.",
            ("haldane_mode_info", "{{mode}}"),
            by_name={},
            none="no agent",
            width=6,
        ),
        number(
            "May act",
            "1 while it holds the store's lease. Without it, nothing is sent and nothing rolled back.",
            ("haldane_may_act", "{{instance}}"),
            steps=((None, RED), (1, GREEN)),
            none="no agent",
            width=6,
        ),
        number(
            "Running for",
            "Since the process started. Rollouts go on where they were after a restart.",
            (f"(time() - process_start_time_seconds) {OF_AGENT}", "{{instance}}"),
            unit="s",
            none="no agent",
            width=6,
        ),
    ]


def _sees() -> list[Panel]:
    return [
        lines(
            "Age of the last look",
            "By server. Past two minutes what is shown of the server is old; there is an alert on it.",
            ("time() - haldane_last_look_timestamp_seconds", "{{server}}"),
            unit="s",
            steps=((None, GREEN), (120, RED)),
            mark_steps=True,
            width=THIRD,
        ),
        lines(
            "What could not be looked at",
            "Unreadable lines and pages of Serving, base paths and lists of servers, by reason. What they would have"
            " said is missing, never zero.",
            ("sum by (server, reason) (rate(haldane_scrape_errors_total[$__rate_interval]))", "{{server}}: {{reason}}"),
            ("sum by (reason) (rate(haldane_storage_errors_total[$__rate_interval]))", "base paths: {{reason}}"),
            (
                "sum by (list, reason) (rate(haldane_server_list_errors_total[$__rate_interval]))",
                "{{list}}: {{reason}}",
            ),
            unit="ops",
            none="none",
            most=0.1,
            width=THIRD,
        ),
        lines(
            "Readings and records that could not be used",
            "Gauges that gave no number, and records of traffic that are no request.",
            (
                "sum by (model, metric, reason) (rate(haldane_reading_errors_total[$__rate_interval]))",
                "{{model}} {{metric}}: {{reason}}",
            ),
            (
                "sum by (model, reason) (rate(haldane_traffic_records_unusable_total[$__rate_interval]))",
                "{{model}} traffic: {{reason}}",
            ),
            unit="ops",
            none="none",
            most=0.1,
            width=THIRD,
        ),
    ]


def _does() -> list[Panel]:
    return [
        lines(
            "Changes of phase",
            "Stored ones over all models, since the agent started; and promotions that late labels took back.",
            ("sum by (phase) (haldane_rollout_transitions_total)", "{{phase}}"),
            ("sum(haldane_promotions_taken_back_total)", "promotion taken back"),
            stepped=True,
            most=1,
            width=QUARTER,
        ),
        lines(
            "Configs sent",
            "By result over all servers, since the agent started.",
            ("sum by (result) (haldane_reloads_total)", "{{result}}"),
            stepped=True,
            most=1,
            width=QUARTER,
        ),
        lines(
            "Notifications",
            "Conditions told, by receiver and result: told, or why not.",
            (
                "sum by (notifier, result) (rate(haldane_notifications_total[$__rate_interval]))",
                "{{notifier}} {{result}}",
            ),
            unit="ops",
            none="none",
            most=0.1,
            steps=((None, GREEN), (1, ORANGE)),
            width=QUARTER,
        ),
        lines(
            "Wanted and not allowed",
            "What people who are known asked for and may not, by the right they lack, and calls by nobody who is known,"
            " by what they showed; since the agent started.",
            ("sum by (right) (haldane_denied_total)", "{{right}}"),
            ("sum by (reason) (haldane_callers_refused_total)", "{{reason}}"),
            stepped=True,
            none="none",
            most=1,
            width=QUARTER,
        ),
    ]


def _costs() -> list[Panel]:
    return [
        lines(
            "CPU",
            "Cores in use. It judges in one process; near one core it falls behind.",
            (f"rate(process_cpu_seconds_total[$__rate_interval]) {OF_AGENT}", "{{instance}}"),
            unit="none",
            steps=((None, GREEN), (0.9, RED)),
            mark_steps=True,
            width=THIRD,
        ),
        lines(
            "Memory",
            "Resident memory of the process.",
            (f"process_resident_memory_bytes {OF_AGENT}", "{{instance}}"),
            unit="bytes",
            steps=((None, BLUE),),
            width=THIRD,
        ),
        lines(
            "Open files",
            "Files and connections, as a share of what the system allows it.",
            (f"process_open_fds / process_max_fds {OF_AGENT}", "{{instance}}"),
            unit="percentunit",
            steps=((None, GREEN), (0.8, RED)),
            most=0.01,
            width=THIRD,
        ),
    ]
