"""What goes wrong: each fault does its harm, and mends it before it returns where the world would."""

import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from tests.fault.stage import AGENTS_GROUP, STATE_MEGABYTES, Stage, nap

LASTS_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Fault:
    """`strike` may put another agent in `stage.agent`. `needs` is what must be there before the agent starts."""

    name: str
    strike: Callable[[Stage], None]
    needs: frozenset[str] = frozenset()


def agent_killed(stage: Stage) -> None:
    stage.agent.kill()
    stage.agent.start()


def agent_killed_another_stands_by(stage: Stage) -> None:
    assert stage.other is not None
    stage.agent.kill()
    stage.agent = stage.other
    stage.agent.wait(lambda: stage.agent.get("/-/ready").status_code == 200, "leading")


def agent_paused_past_its_lease(stage: Stage) -> None:
    """It wakes up when another has acted for a while, and must send nothing more."""
    assert stage.other is not None
    paused = stage.agent
    stage.signal_agent(signal.SIGSTOP)
    stage.agent, stage.other = stage.other, paused
    stage.agent.wait(lambda: stage.agent.get("/-/ready").status_code == 200, "leading")
    nap(1.0)
    assert paused.process is not None
    paused.process.send_signal(signal.SIGCONT)


def server_killed(stage: Stage) -> None:
    stage.fleet.restart(stage.last)


def half_the_servers_killed(stage: Stage) -> None:
    half = stage.fleet.sandboxes[: max(1, len(stage.fleet.sandboxes) // 2)]
    for sandbox in half:
        sandbox.stop()
    for sandbox in half:
        stage.fleet.boot(sandbox)


def server_stands_still(stage: Stage) -> None:
    sandbox = stage.fleet.sandboxes[stage.last]
    sandbox.freeze()
    nap(LASTS_SECONDS)
    sandbox.thaw()


def server_slow(stage: Stage) -> None:
    _for_a_while(stage, kind="delay", seconds=0.3)


def server_answers_nan(stage: Stage) -> None:
    """For the new version only, and for good."""
    stage.fleet.break_(stage.last, kind="corrupt", version=2, how="nan")


def server_refuses_reloads(stage: Stage) -> None:
    _for_a_while(stage, kind="reload", how="refuse")


def server_hangs_in_reloads(stage: Stage) -> None:
    _for_a_while(stage, kind="reload", how="hang")


def agent_cut_off_from_half_the_servers(stage: Stage) -> None:
    half = stage.fleet.sandboxes[: max(1, len(stage.fleet.sandboxes) // 2)]
    ports = ", ".join(str(port) for one in half for port in (one.port, one.rest_port))
    rules = (
        "add table inet haldane_test",
        "add chain inet haldane_test out { type filter hook output priority 0 ; }",
        f"add rule inet haldane_test out meta skgid {AGENTS_GROUP} tcp dport {{ {ports} }} drop",
    )
    try:
        for rule in rules:
            subprocess.run(["nft", rule], check=True)
        nap(LASTS_SECONDS)
    finally:
        subprocess.run(["nft", "delete table inet haldane_test"], check=True)


def disk_full(stage: Stage) -> None:
    place = stage.agent.directory / "state" / "filler"
    try:
        with place.open("wb") as file:
            for _ in range(STATE_MEGABYTES * 16):
                file.write(bytes(1 << 16))
    except OSError:
        pass  # full
    nap(LASTS_SECONDS)
    place.unlink()


def clock_set(stage: Stage) -> None:
    assert stage.clock is not None
    for offset in ("+3600", "-3600", "+0"):
        stage.clock.write_text(f"{offset}\n")
        nap(LASTS_SECONDS / 2)


def store_restarts(stage: Stage) -> None:
    assert stage.cluster is not None
    stage.cluster.stop()
    nap(LASTS_SECONDS)
    stage.cluster.start()


def _for_a_while(stage: Stage, **fault: object) -> None:
    stage.fleet.break_(stage.last, **fault)
    nap(LASTS_SECONDS)
    stage.fleet.mend(stage.last)


FAULTS = (
    Fault("agent killed", agent_killed),
    Fault("agent killed, another takes over", agent_killed_another_stands_by, frozenset({"other"})),
    Fault("agent paused past its lease, then wakes", agent_paused_past_its_lease, frozenset({"other"})),
    Fault("server killed", server_killed),
    Fault("half of the servers killed", half_the_servers_killed),
    Fault("server stands still for 5 s", server_stands_still),
    Fault("server slow for 5 s", server_slow),
    Fault("server answers NaN for the new version", server_answers_nan),
    Fault("server refuses reloads for 5 s", server_refuses_reloads),
    Fault("server hangs in reloads for 5 s", server_hangs_in_reloads),
    Fault("agent cut off from half of the servers for 5 s", agent_cut_off_from_half_the_servers, frozenset({"group"})),
    Fault("disk full for 5 s", disk_full, frozenset({"small disk"})),
    Fault("the agent's clock set an hour ahead, then back", clock_set, frozenset({"clock"})),
    Fault("PostgreSQL away for 5 s", store_restarts, frozenset({"postgresql"})),
)
