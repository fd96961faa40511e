"""Aliases of MLflow's model registry, by its REST API.

Source: MLflow 3, REST API, "Search ModelVersions", "Set Registered Model Alias", "Delete Registered Model Alias".
"""

import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx

from haldane.ports import Malformed, Refused, Unavailable

_API = "/api/2.0/mlflow/"
_RUN = re.compile(r"[0-9A-Za-z_-]{1,64}")  # it stands in a filter, and comes from whoever published


class MlflowRegistry:
    """A Registry. Made by `open_registry`."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def version_of(self, name: str, run: str) -> str | None:
        if not _RUN.fullmatch(run):
            return None
        found = await self._ask("GET", "model-versions/search", {"filter": f"run_id='{run}'"})
        try:  # by name here: MLflow's filters have no way to write a quote
            numbers = [int(one["version"]) for one in found.get("model_versions", ()) if one["name"] == name]
        except (KeyError, TypeError, ValueError) as error:
            raise _malformed("a version without a number") from error
        return str(max(numbers)) if numbers else None

    async def aliases(self, name: str) -> Mapping[str, str]:
        found = await self._ask("GET", "registered-models/get", {"name": name})
        try:
            return {one["alias"]: str(one["version"]) for one in found["registered_model"].get("aliases", ())}
        except (KeyError, TypeError, AttributeError) as error:
            raise _malformed("no registered model in it") from error

    async def set_alias(self, name: str, alias: str, version: str) -> None:
        await self._ask("POST", "registered-models/alias", {"name": name, "alias": alias, "version": version})

    async def drop_alias(self, name: str, alias: str) -> None:
        await self._ask("DELETE", "registered-models/alias", {"name": name, "alias": alias})

    async def _ask(self, method: str, path: str, what: Mapping[str, str]) -> dict[str, Any]:
        given: dict[str, Any] = {"params": what} if method == "GET" else {"json": what}
        try:
            reply = await self._http.request(method, _API + path, **given)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unavailable("mlflow", type(error).__name__) from error
        if reply.status_code >= 500 or reply.status_code == 429:
            raise Unavailable("mlflow", f"status {reply.status_code}")
        try:
            body = json.loads(reply.content)
        except ValueError as error:
            raise _malformed(f"status {reply.status_code}") from error
        if not isinstance(body, dict):
            raise _malformed(f"status {reply.status_code}")
        if reply.status_code >= 400:
            raise Refused("mlflow", f"status {reply.status_code}: {body.get('message', 'no reason given')}")
        return body


def _malformed(what: str) -> Malformed:
    return Malformed("mlflow", f"{what}, and not as MLflow answers; is mlflow.url the address of a tracking server?")


@asynccontextmanager
async def open_registry(url: str, *, token: str | None, timeout_seconds: float) -> AsyncIterator[MlflowRegistry]:
    """The registry at that address; one that is away now is no error yet."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    # Proxies of the environment are for the outside world.
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=timeout_seconds, trust_env=False) as http:
        yield MlflowRegistry(http)
