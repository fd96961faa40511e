"""A server that is changed through the model config file it polls, in place of reloads.

Such a server undoes every reload within one period of polling, so the file is what must be right. Only the models we
look after are changed in it: the others are their owners'. What was read when it was written is what the next look
shows; here only the file is known.

Source: server_core.cc and main.cc, --model_config_file_poll_wait_seconds.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from haldane.domain.fleet import ModelName, ReplicaView, ServerConfig, ServerName
from haldane.domain.traffic import Choice, Outcome, Request
from haldane.files import replace_text
from haldane.ports import ModelServer, Refused, StaleWrite, Unavailable
from haldane.serving.configedit import edited

_NOT_TAKEN = "says so already, and the server does not: does it run with --model_config_file_poll_wait_seconds?"


class PolledFile:
    """A ModelServer whose reloads are writes of `path`; all else is asked of the server. `ours`: the models changed.

    `may_act` is asked in the very thread that writes: it may have been waited for while the lease ran out.
    """

    def __init__(
        self,
        name: ServerName,
        server: ModelServer,
        path: Path,
        ours: Callable[[], Collection[ModelName]],
        may_act: Callable[[], bool] = lambda: True,
    ) -> None:
        self._name, self._server, self._path, self._ours, self._may_act = name, server, path, ours, may_act

    async def look(
        self, models: Mapping[ModelName, Sequence[str]], golden: Mapping[ModelName, Sequence[tuple[int, Request]]]
    ) -> ReplicaView:
        return await self._server.look(models, golden)

    async def predict(
        self, model: ModelName, request: Request, *, version: int | str | None, deadline: float
    ) -> Outcome:
        return await self._server.predict(model, request, version=version, deadline=deadline)

    async def predict_both(
        self, model: ModelName, request: Request, *, first: Choice, second: Choice, deadline: float
    ) -> tuple[Outcome, Outcome]:
        return await self._server.predict_both(model, request, first=first, second=second, deadline=deadline)

    async def scrape(self) -> str | None:
        return await self._server.scrape()

    async def reload(self, config: ServerConfig) -> None:
        """Write the file once, by rename. Refused when it cannot be changed as asked, and left as it was then.

        Unavailable when it cannot be read or written, or says all this already.
        """
        await asyncio.to_thread(self._write, config)

    def _write(self, config: ServerConfig) -> None:
        ours = self._ours()
        try:
            before = self._path.read_text(encoding="utf-8")
            after = edited(before, [one for one in config.models if one.name in ours], source=str(self._path))
            if after == before:
                raise Unavailable(self._name, f"{self._path} {_NOT_TAKEN}")
            if not self._may_act():
                raise Unavailable(self._name, f"{self._path} was not changed: the lease ran out meanwhile")
            replace_text(self._path, before, after)
        except StaleWrite as error:
            raise Unavailable(self._name, error.detail) from error
        except OSError as error:
            raise Unavailable(self._name, f"cannot change {self._path}: {error.strerror}") from error
        except ValueError as error:  # no UTF-8, or text that cannot be changed
            raise Refused(self._name, str(error)) from error
