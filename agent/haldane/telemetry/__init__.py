"""What we say of ourselves: every metric that agent and tap export, and how their logs look.

What a series shows is set by those who know it; nothing is decided here.
"""

from haldane.telemetry.logs import set_up_logs
from haldane.telemetry.pages import TapTelemetry, Telemetry

__all__ = ["TapTelemetry", "Telemetry", "set_up_logs"]
