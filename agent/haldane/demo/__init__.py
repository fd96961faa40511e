"""The demo: a good, a wrong, a slow, a broken and an identical canary, on real models, against the real agent.

Belongs here: making the models, staging the processes, telling the story.
Does not belong here: anything the agent itself needs. The demo talks to the
agent as a stranger would, through config, HTTP API and version directories.
"""

from pathlib import Path


def main(
    *,
    seed: int | None = None,
    json_file: Path | None = None,
    report: Path | None = None,
    keep: bool = False,
    prometheus: bool = False,
) -> int:
    """Play once: the exit code of `haldane demo`. See `performance`."""
    from haldane.demo import performance  # late: `python -m haldane.demo.prepare` must not import it first

    file = report or performance.REPORT
    wishes = performance.Wishes(seed=seed, json=json_file, report=file, keep=keep or prometheus, prometheus=prometheus)
    return performance.run(wishes)


__all__ = ["main"]
