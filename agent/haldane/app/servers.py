"""The servers of the fleet: the lists they stand on, and what is done with one from when it is known until it left."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import structlog

from haldane.app.access import tls_of
from haldane.app.jsonfile import JsonFile
from haldane.app.lists import open_list
from haldane.app.meters import open_page
from haldane.app.parts import Parts
from haldane.config import Config
from haldane.domain.fleet import ReplicaView, Server
from haldane.engine.converge import Converge, Pace
from haldane.engine.observe import Observer
from haldane.engine.roster import Listed, Names, Roster
from haldane.engine.supervisor import Supervisor
from haldane.ports import PortError, ProcessMeter
from haldane.serving.client import ServingClient, open_client
from haldane.serving.polledfile import PolledFile

log = structlog.get_logger()

OPEN_RETRY_SECONDS = 5.0


def open_lists(config: Config) -> dict[str, Listed]:
    """All lists of `discover`, by title."""
    return {one.title: Listed(open_list(one), one.every.total_seconds()) for one in config.discover}


def open_roster(parts: Parts, observer: Observer, supervisor: Supervisor) -> Roster:
    """Who is in the fleet, by the lists of the config."""
    memory = JsonFile(parts.config.state_dir / "servers.json")
    return Roster(
        desk=parts.desk,
        fixed=parts.config.fleet,
        lists=open_lists(parts.config),
        telemetry=parts.telemetry,
        look_after=lambda server: look_after(parts, observer, supervisor, server),
        recalled=recalled(memory.load()),
        remember=lambda known: memory.save({name: [asdict(one) for one in found] for name, found in known.items()}),
    )


def recalled(saved: Mapping[str, Any]) -> Names:
    """What lists said in an earlier life; nothing when that was written by a version which knew servers otherwise."""
    try:
        return {name: [Server(**one) for one in found] for name, found in saved.items()}
    except TypeError:
        log.warning("servers_not_recalled", detail="written by another version of the agent", then="lists are awaited")
        return {}


async def look_after(parts: Parts, observer: Observer, supervisor: Supervisor, server: Server) -> None:
    """One server that a list named: looked at, scraped and kept at what is wanted, until cancelled."""
    while True:
        try:
            async with open_client(server, tls_of(parts.config)) as client, open_page(server) as page:
                with _in_fleet(parts, observer, server, client, page):
                    async with asyncio.TaskGroup() as group:
                        scraping = observer.keep_scraping(server.name, client)
                        group.create_task(scraping, name=f"scrape {server.name}")
                        converging = converge(parts, observer, supervisor, server, client)
                        group.create_task(converging.run(), name=f"converge {server.name}")
        except PortError as error:  # a TLS file that is being replaced
            log.error("server_not_opened", server=server.name, detail=error.detail)
        await asyncio.sleep(OPEN_RETRY_SECONDS)


@contextmanager
def _in_fleet(
    parts: Parts, observer: Observer, server: Server, client: ServingClient, page: ProcessMeter | None
) -> Iterator[None]:
    """Known to every part for as long as the block lasts, and to none after it."""
    observer.add(server.name)
    parts.clients[server.name] = client
    parts.gauges_from.add(server.name, page)
    parts.desk.put_server(server)
    log.info("server_joined", server=server.name, address=server.address)
    try:
        yield
    finally:
        parts.clients.pop(server.name, None)
        parts.gauges_from.drop(server.name)
        parts.footprints.drop(server.name)
        parts.batch_waits.drop(server.name)
        parts.desk.drop_server(server.name)
        observer.drop(server.name)


def converge(
    parts: Parts, observer: Observer, supervisor: Supervisor, server: Server, client: ServingClient
) -> Converge:
    """The task that keeps one server at what is wanted of it."""

    async def guard(server: Server, _: Any) -> str:
        return await parts.clear(server.name)

    def on_view(server: Server, view: ReplicaView | None) -> None:
        try:
            observer.on_view(server, view)
            parts.footprints.on_view(server, view)
        except Exception:  # the comfort ring begins here: a gauge or a condition never ends the looking
            log.exception("observing_broke", what=f"view {server.name}")

    def may_act() -> bool:
        return parts.lease.held() and supervisor.taken_up

    every, managed = parts.config.look_every.total_seconds(), server.config_file
    return Converge(
        server=server,
        client=PolledFile(server.name, client, Path(managed), lambda: parts.desk.watched, may_act)
        if managed
        else client,
        desk=parts.desk,
        telemetry=parts.telemetry,
        may_act=may_act,
        guard=guard,
        note=parts.note,
        on_view=on_view,
        pace=Pace(live=every, rest=max(every, 5.0) if every >= 1 else every),
    )
