"""Haldane: canary analysis for TensorFlow Serving.

The rooms, from the pure core outward: `domain` and `stats`; `judge` and
`rollout`; `ports` and `wire`; `config` and `telemetry`; `serving`, `adapters`,
`release`, `engine` and `web`; `app`; `cli`. A room imports only from rooms
named before it. `sandbox` is a server of its own, started by module name.
"""

__version__ = "0.1.0"
