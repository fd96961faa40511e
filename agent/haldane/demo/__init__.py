"""The demo: a good, a wrong, a slow, a broken and an identical canary, on real models, against the real agent.

Belongs here: making the models, staging the processes, telling the story.
Does not belong here: anything the agent itself needs. The demo talks to the
agent as a stranger would, through config, HTTP API and version directories.
"""

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """The command `haldane demo`: plays once, returns the exit code. See `performance`."""
    from haldane.demo import performance  # late: `python -m haldane.demo.prepare` must not import it first

    return performance.main(argv)


__all__ = ["main"]
