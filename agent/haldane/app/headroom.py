"""Before a rollout starts: have the servers whose memory limit is known room for the new version?"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from haldane.adapters.storage import listing
from haldane.app.candidate import STORAGE_SECONDS
from haldane.config import Config
from haldane.domain.fleet import ModelName, ModelView, Placement, ServerName
from haldane.engine.apart import Apart
from haldane.engine.desk import Desk
from haldane.judge.headroom import Earlier, Need, Room, headroom, need_of
from haldane.ports import NoData, PortError, ProcessMeter, Refused
from haldane.release.shelf import Release
from haldane.release.vouch import measured_before, release_of


async def nothing_known_of_room(model: ModelName, version: int) -> list[str]:
    """Of an agent without limits."""
    return []


@dataclass(frozen=True)
class Headroom:
    """`meters` may come and go with their servers."""

    config: Config
    desk: Desk
    meters: Mapping[ServerName, ProcessMeter]
    _storage: Apart = field(default_factory=Apart)

    async def check(self, model: ModelName, version: int) -> list[str]:
        """What was found, a sentence a server; Refused, naming all servers without room.

        Nothing is said of servers without a limit, or where the version is loaded already. What cannot be told is
        told as no data, and stops nothing.
        """
        limits = {
            name: server.memory
            for name, server in self.desk.servers.items()
            if server.memory and self._lacks(name, model, version)
        }
        if not limits:
            return []
        try:
            second = self.config.models[model].where is Placement.SECOND_NAME
            need_of_it = partial(self._need_apart if second else self._need, model, version)
            need = await self._storage.ask((model, version), need_of_it, STORAGE_SECONDS)
        except (PortError, TimeoutError) as error:
            why = error.detail if isinstance(error, PortError) else "its storage does not answer"
            return [f"no data on what version {version} needs: {why}"]
        rooms = {server: await self._room(server, limit) for server, limit in limits.items()}
        short, told = headroom(version, need, rooms)
        if short:
            raise Refused(model, f"there is no room for it; {'; '.join(short)}")
        return told

    def _lacks(self, server: ServerName, model: ModelName, version: int) -> bool:
        view = self.desk.views.get(server)
        return view is None or not view.models.get(model, ModelView()).available(version)

    def _need(self, model: ModelName, version: int) -> Need:
        """Blocks. PortError when nothing is known of the version's size."""
        base_path, published = self.config.base_path(model), self.config.models[model].published or ""
        full_name = self.config.full_name(model)
        try:
            release = release_of(base_path, version, published=published, model=full_name)
        except PortError as error:
            files = (listing(base_path, lambda _: {version}) or {}).get(version) if base_path else None
            profile, size, why = None, sum(files.values()) if files else None, error.detail
        else:
            profile, size, why = release.profile, release.size_bytes, "its record gives no size"
        earlier = None
        if not (profile and profile.memory_bytes):
            earlier = _as_earlier(measured_before(base_path, version, published=published, model=full_name))
        if (found := need_of(profile, size, earlier)) is None:
            raise NoData(model, why)
        return found

    def _need_apart(self, model: ModelName, version: int) -> Need:
        """The same with one copy more, where the canary has a name of its own.

        That is stable's while the canary loads, since it introduces the name, and the canary's where it is promoted.
        """
        need, stable = self._need(model, version), self.desk.watched[model].stable
        try:
            more = max(need.size, self._need(model, stable).size)
        except PortError:  # nothing is known of stable's size: like the new one
            more = need.size
        return Need(need.size + more, f"{need.how}, with the second copy that its canary's own name takes")

    async def _room(self, server: ServerName, limit: int) -> Room:
        if (meter := self.meters.get(server)) is None:
            return Room(limit, None, "nothing tells what its process uses; give servers[].process_url")
        try:
            return Room(limit, await meter.resident_bytes())
        except PortError as error:
            return Room(limit, None, error.detail)


def _as_earlier(release: Release | None) -> Earlier | None:
    if release is None or release.profile is None:
        return None
    return Earlier(release.version, release.profile.memory_bytes, release.size_bytes)
