"""The server's own rules: reloads with all their traps, labels, ModelSpecs, GetModelStatus.

A reload is one sequence under one lock, nothing is rolled back, and a config is
remembered as current before its labels and platforms have been found good. That
is how a refused reload can change labels, and how one bad entry can poison a
server: kept, since it is what an agent must live with.

Source: model_servers/server_core.cc, model_servers/get_model_status_impl.cc.
"""

import os
import re
import threading
from collections.abc import Collection
from typing import Any

import grpc

from haldane import wire
from haldane.sandbox import log
from haldane.sandbox.handles import HeldHandle
from haldane.sandbox.harness import Retries
from haldane.sandbox.manager import AspiredVersionsManager
from haldane.sandbox.servable import Executor, StatusError
from haldane.sandbox.states import Event, EventBus, State, StateMonitor, not_available
from haldane.sandbox.storage import StorageSource, Watched

INVALID = grpc.StatusCode.INVALID_ARGUMENT
FAILED_PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
INITIAL_LOAD_THREADS = 4 * (os.cpu_count() or 1)  # core/load_servables_fast.h

_LIST = "model_config_list"
_PLATFORM_TEXTS = {
    "neither": "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
    "ModelServerConfig::model_platform, model name is {name}",
    "both": "Illegal setting both ModelServerConfig::model_type (deprecated) and "
    "ModelServerConfig::model_platform, model name is {name}",
}


def platform_of(config: Any) -> str:
    """The platform of one ModelConfig; StatusError INVALID_ARGUMENT unless exactly one field names it."""
    if config.model_type:
        if config.model_platform:
            raise StatusError(INVALID, _PLATFORM_TEXTS["both"].format(name=config.name))
        return "tensorflow" if config.model_type == 1 else "other"
    if not config.model_platform:
        raise StatusError(INVALID, _PLATFORM_TEXTS["neither"].format(name=config.name))
    return str(config.model_platform)


def check_list(configs: Any) -> None:
    """StatusError INVALID_ARGUMENT when a model is listed twice or has a relative base path."""
    names: set[str] = set()
    for config in configs:
        if config.name in names:
            raise StatusError(INVALID, f"Illegal to list model {config.name} multiple times in config list")
        names.add(config.name)
    for config in configs:
        if not re.match(r"/|[a-zA-Z][0-9a-zA-Z.]*://", config.base_path):
            text = f"Expected model {config.name} to have an absolute path or URI; got base_path()={config.base_path}"
            raise StatusError(INVALID, text)


def check_platforms_kept(old: Any, new: Any) -> None:
    """StatusError INVALID_ARGUMENT when a model's platform changes.

    The old list is read too: an entry without platform that once got in makes
    every later list fail here.
    """
    before = {config.name: platform_of(config) for config in old}
    for config in new:
        if config.name in before and before[config.name] != (platform := platform_of(config)):
            raise StatusError(
                INVALID,
                f"Illegal to change a model's platform. For model {config.name} platform was {before[config.name]} "
                f"and new platform requested is {platform}",
            )


class ServerCore:
    """One server's models: their config, versions, labels and states."""

    def __init__(
        self,
        executor: Executor,
        *,
        retries: Retries,
        load_threads: int = 0,
        unload_threads: int = 0,
        poll_seconds: float = 1,
        allow_unavailable_labels: bool = False,
        platforms: Collection[str] = ("tensorflow",),
    ) -> None:
        self._bus = EventBus()
        self._monitor = StateMonitor(self._bus)
        self._manager = AspiredVersionsManager(
            executor, self._bus, retries=retries, load_threads=load_threads, unload_threads=unload_threads
        )
        self._load_threads = load_threads
        self._poll_seconds = poll_seconds
        self._allow_unavailable_labels = allow_unavailable_labels
        self._platforms = platforms
        self._config_lock = threading.Lock()
        self._config = wire.ModelServerConfig()
        self._source: StorageSource | None = None
        self._labels: dict[str, dict[str, int]] | None = None  # replaced as a whole, never changed in place
        self._manager.start()

    # -- requests
    def acquire(self, model_spec: Any) -> HeldHandle:
        """The handle a ModelSpec resolves to; StatusError with TF Serving's own code and text."""
        name = model_spec.name
        if not name:
            raise StatusError(INVALID, "ModelSpec has no name specified.")
        choice = model_spec.WhichOneof("version_choice")
        if choice == "version":
            return self._manager.acquire(name, model_spec.version.value)
        if choice == "version_label":
            return self._manager.acquire(name, self._labelled(name, model_spec.version_label))
        return self._manager.acquire(name, None)

    def _labelled(self, model: str, label: str) -> int:
        labels = self._labels
        if labels is None:
            raise StatusError(grpc.StatusCode.UNAVAILABLE, f"Model labels does not init yet.{label}")
        version = labels.get(model, {}).get(label)
        if version is None:
            raise StatusError(INVALID, f"Unrecognized servable version label: {label}")
        return version

    def model_status(self, request: Any) -> Any:
        """GetModelStatus: every version ever seen, highest first, or the one asked for. Labels are ignored."""
        if not request.HasField("model_spec"):
            raise StatusError(INVALID, "Missing ModelSpec")
        spec = request.model_spec
        versions = self._monitor.versions(spec.name)
        if spec.WhichOneof("version_choice") == "version":
            wanted = spec.version.value
            if wanted not in versions:
                text = f"Could not find version {wanted} of model {spec.name}"
                raise StatusError(grpc.StatusCode.NOT_FOUND, text)
            versions = {wanted: versions[wanted]}
        if not versions:
            raise StatusError(grpc.StatusCode.NOT_FOUND, f"Could not find any versions of model {spec.name}")
        response = wire.GetModelStatusResponse()
        for version, event in versions.items():
            _add_status(response, version, event)
        return response

    # -- configuration
    def reload(self, config: Any) -> None:
        """Take a whole ModelServerConfig as the new one; StatusError, with whatever was done before it staying done.

        Returns when models whose names are new have settled; new versions of
        known models load later.
        """
        with self._config_lock:
            kind, current = config.WhichOneof("config"), self._config.WhichOneof("config")
            if current is not None and (current != _LIST or kind != _LIST):
                raise StatusError(
                    FAILED_PRECONDITION,
                    "Cannot transition to requested config. It is only legal to transition from one ModelConfigList "
                    "to another.",
                )
            if kind is None:
                log.info("Taking no action for empty config.")
                return
            if kind == _LIST:
                check_list(config.model_config_list.config)
                if current is not None:
                    check_platforms_kept(self._config.model_config_list.config, config.model_config_list.config)
            if kind != _LIST:
                log.fatal("ModelServer does not yet support custom model config.")
            self._config.CopyFrom(config)
            self._labels = self._checked_labels()
            self._apply()
            self._refuse_logging()

    def _checked_labels(self) -> dict[str, dict[str, int]]:
        """The new label map; StatusError when any label of any model points where it may not."""
        fresh: dict[str, dict[str, int]] = {}
        for config in self._config.model_config_list.config:
            states = self._monitor.versions(config.name)
            # In a fixed order, so that of two bad labels always the same one is named.
            for label, version in sorted(config.version_labels.items()):
                available = version in states and states[version].state is State.AVAILABLE
                if not available and not self._may_dangle(config.name, label, version):
                    raise StatusError(
                        FAILED_PRECONDITION,
                        f"Request to assign label to version {version} of model {config.name}, which is not currently "
                        "available for inference",
                    )
                fresh.setdefault(config.name, {})[label] = version
        return fresh

    def _may_dangle(self, model: str, label: str, version: int) -> bool:
        """With the allow flag a label that is new, or stays where it is, may name an unavailable version."""
        assigned = (self._labels or {}).get(model, {}).get(label)
        return self._allow_unavailable_labels and assigned in (None, version)

    def _apply(self) -> None:
        log.info("Adding/updating models.")
        watched = self._watched()
        if self._source is None:
            self._first_load(watched)
            return
        monitor = StateMonitor(self._bus)  # a fresh one: what happened before this reload does not count
        try:
            new = {item.name for item in watched} - self._source.names
            self._source.update(watched)
            _raise_unless_available(monitor, new, "model")
        finally:
            monitor.close()

    def _watched(self) -> list[Watched]:
        watched = []
        for config in self._config.model_config_list.config:
            log.info(f" (Re-)adding model: {config.name}")
            platform = platform_of(config)
            if platform not in self._platforms:
                raise StatusError(INVALID, f"Model {config.name} requests unsupported platform {platform}")
            policy = type(config.model_version_policy)()
            policy.CopyFrom(config.model_version_policy)
            watched.append(Watched(config.name, config.base_path, policy))
        return watched

    def _first_load(self, watched: list[Watched]) -> None:
        """Load with many threads, then go back to the configured number, which waits for loads under way."""
        source = StorageSource(self._manager.aspire, poll_seconds=self._poll_seconds, watched=watched)
        self._manager.set_load_threads(INITIAL_LOAD_THREADS)
        source.start()
        try:
            _raise_unless_available(self._monitor, {item.name for item in watched}, "servable")
        except StatusError:
            source.stop()  # the manager keeps what it has, but hears nothing more from this source
            raise
        finally:
            self._manager.set_load_threads(self._load_threads)
        self._source = source

    def _refuse_logging(self) -> None:
        # The open-source server registers no log collector, so any logging_config fails, after all else was done.
        if any(config.HasField("logging_config") for config in self._config.model_config_list.config):
            raise StatusError(INVALID, "No request-logger-creator provided.")


def _raise_unless_available(monitor: StateMonitor, models: Collection[str], noun: str) -> None:
    text = not_available(monitor.wait_settled(models), noun)
    if text is not None:
        raise StatusError(grpc.StatusCode.UNKNOWN, text)


def _add_status(response: Any, version: int, event: Event) -> None:
    entry = response.model_version_status.add(version=version, state=int(event.state))
    entry.status.SetInParent()
    if event.error is not None:
        entry.status.error_code = code_number(event.error.code)
        entry.status.error_message = event.error.message


def code_number(code: grpc.StatusCode) -> int:
    """The canonical number of a status code, as in tensorflow.error.Code."""
    return int(code.value[0])
