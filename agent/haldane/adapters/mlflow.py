"""What a training run in MLflow says of itself: parameters, metrics, data and who ran it.

Asks the tracking server by its REST API, so MLflow itself is not needed here.
Source: MLflow 3, REST API, "Get Run".
"""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import httpx

from haldane.ports import Malformed, Refused, Unavailable

_PATH = "/api/2.0/mlflow/runs/get"
_SECONDS = 10.0
_NO_GOOD = ("FAILED", "KILLED")  # one that is RUNNING may be the very pipeline that publishes
_OWN = "mlflow."  # tags with this prefix are MLflow's, most of them for its own pages
_COMMIT, _USER = "mlflow.source.git.commit", "mlflow.user"


def run_notes(address: str, run: str) -> dict[str, Any]:
    """A run as JSON values: run, status, name, user, commit, params, metrics, data, tags; what it lacks is left out.

    `data` are its logged datasets as name@digest. Unavailable: no answer. Refused: there
    is no such run, the server wants credentials (give them in the address), or the run
    failed or was killed. Malformed: no answer of this API. Errors show neither address nor credentials.
    """
    try:
        # Proxies of the environment are for the outside world.
        with httpx.Client(base_url=address, timeout=_SECONDS, trust_env=False) as http:
            reply = http.get(_PATH, params={"run_id": run})
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unavailable("mlflow", f"{type(error).__name__}; is that the address of a tracking server?") from error
    if reply.status_code >= 500 or reply.status_code == 429:
        raise Unavailable("mlflow", f"status {reply.status_code}")
    try:
        body = json.loads(reply.content)
        if reply.status_code >= 400:
            raise Refused("mlflow", f"run {run}: status {reply.status_code}: {body.get('message', 'no reason given')}")
        notes = dict(_notes(body["run"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        why = f"status {reply.status_code}, and not as MLflow answers; is that the address of a tracking server?"
        raise Malformed("mlflow", why) from error
    if notes["status"] in _NO_GOOD:
        raise Refused("mlflow", f"run {run} is {notes['status']}; nothing is released of a run that did not end well")
    return notes


def _notes(run: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    info, data = run["info"], run["data"]
    tags = {one["key"]: one["value"] for one in data.get("tags", ())}
    yield "run", info["run_id"]
    yield "status", info["status"]
    for name, value in (
        ("name", info.get("run_name")),
        ("user", tags.get(_USER)),
        ("commit", tags.get(_COMMIT)),
        ("params", {one["key"]: one["value"] for one in data.get("params", ())}),
        ("metrics", {one["key"]: _number(one["value"]) for one in data.get("metrics", ())}),
        ("data", [_dataset(one["dataset"]) for one in run.get("inputs", {}).get("dataset_inputs", ())]),
        ("tags", {key: value for key, value in tags.items() if not key.startswith(_OWN)}),
    ):
        if value:
            yield name, value


def _number(value: Any) -> float | None:
    """A metric; None for NaN and infinity, which JSON has no word for and MLflow writes as text."""
    number = float(value)
    return number if math.isfinite(number) else None


def _dataset(dataset: Mapping[str, Any]) -> str:
    return f"{dataset['name']}@{dataset['digest']}"
