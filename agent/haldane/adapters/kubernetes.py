"""What is asked of a Kubernetes API server, through the official client (extra `kubernetes`).

In a pod with its service account, elsewhere as kubectl would. Each answer is read anew and nothing is watched: one
list every few seconds is little to ask, is right after whatever went wrong before, and needs no second way for when
a watch breaks off or its resourceVersion has expired.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from haldane.adapters.listing import Form
from haldane.domain.fleet import Server
from haldane.ports import Malformed, NoData, PortError, Refused, StaleWrite, Unavailable

if TYPE_CHECKING:
    from kubernetes.client import ApiClient, ApiException

T = TypeVar("T")
SECONDS = 5.0  # for one answer
_FAMILIES = ("IPv4", "IPv6", "FQDN")  # where a service has several, the first of them is taken


def connect(name: str) -> "ApiClient":
    """A client of the cluster this process runs in, or else of the one that the kubeconfig names.

    Refused when there is neither, or the package is missing. `name`: what is opened, for the message.
    """
    try:
        from kubernetes import client, config
    except ImportError as error:
        raise Refused(name, 'asking Kubernetes needs its client: pip install "haldane[kubernetes]"') from error
    settings = client.Configuration()
    try:
        try:
            config.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
        except config.ConfigException:
            config.load_kube_config(client_configuration=settings, persist_config=False)  # type: ignore[no-untyped-call]
    except (config.ConfigException, yaml.YAMLError, OSError, ValueError) as error:
        says = "this is no pod with a token (automountServiceAccountToken), and no kubeconfig is right"
        raise Refused(name, f"{says}: {error}") from error
    settings.retries = 0  # who asks asks again by itself, and says so
    return client.ApiClient(settings)


async def ask(name: str, deed: Callable[[], T], right: str) -> T:
    """What the API server answers to `deed`, a call of the client; PortError when it does not.

    `right`: what the agent must be allowed for it, such as "list endpointslices.discovery.k8s.io in namespace serving".
    """
    from kubernetes.client import ApiException
    from urllib3.exceptions import HTTPError

    try:
        return await asyncio.to_thread(deed)
    except ApiException as error:
        raise _refusal(name, error, right) from error
    except HTTPError as error:
        raise Unavailable(name, f"the API server gave no answer: {type(error).__name__}") from error
    except (ValueError, TypeError, AttributeError, KeyError) as error:  # the client reads an answer that is none
        raise Malformed(name, f"the API server's answer cannot be read: {type(error).__name__}") from error


def _refusal(name: str, error: "ApiException", right: str) -> PortError:
    match error.status:
        case 401:
            return Refused(name, "the API server does not know this token (status 401); is it expired or revoked?")
        case 403:
            return Refused(name, f"not allowed to {right} (status 403); a Role with that verb must be bound to it")
        case 404:
            return Refused(name, f"not found (status 404), when asked to {right}")
        case 409:
            return StaleWrite(name, "somebody else wrote it meanwhile (status 409)")
        case 429 | None:
            return Unavailable(name, f"the API server wants to be asked later (status {error.status})")
        case status if status >= 500:
            return Unavailable(name, f"the API server fails (status {status})")
        case status:
            return Refused(name, f"the API server refuses with status {status}: {error.reason}")


class EndpointSlices:
    """A ServerList: the pods behind a Service, ready or not, of its EndpointSlices (discovery.k8s.io/v1).

    Pods that are being ended have left the list. `port_name`: of the gRPC listener; None: the only port there is.
    """

    def __init__(self, name: str, namespace: str, service: str, port_name: str | None, form: Form) -> None:
        from kubernetes.client import DiscoveryV1Api

        self._name, self._namespace, self._service = name, namespace, service
        self._port_name, self._form = port_name, form
        self._api = DiscoveryV1Api(connect(name))

    async def read(self) -> Sequence[Server]:
        right = f"list endpointslices.discovery.k8s.io in namespace {self._namespace}"
        found = await ask(self._name, self._list, right)
        slices = found.items or []
        if not slices:
            raise NoData(self._name, f"namespace {self._namespace} has no EndpointSlice of a service {self._service}")
        for family in _FAMILIES:
            of_family = [one for one in slices if one.address_type == family]
            # An endpoint may stand in two slices while Kubernetes moves it from one to the other.
            if servers := {server for one in of_family for server in self._servers(one)}:
                return sorted(servers, key=lambda server: server.name)
        raise NoData(self._name, f"service {self._service} has no pod")

    def _list(self) -> Any:
        selector = f"kubernetes.io/service-name={self._service}"
        return self._api.list_namespaced_endpoint_slice(
            self._namespace, label_selector=selector, _request_timeout=SECONDS
        )

    def _servers(self, one: Any) -> Iterator[Server]:
        for endpoint in one.endpoints or []:  # null where a service has no pod
            ending = endpoint.conditions is not None and endpoint.conditions.terminating
            if ending or not endpoint.addresses:
                continue
            # "Consumers should only use the first": further addresses are the same pod's.
            host, pod = endpoint.addresses[0], endpoint.target_ref
            named = pod.name if pod is not None and pod.kind == "Pod" and pod.name else ""
            server = self._form.server(host, self._port(one.ports or []), name=named)
            yield replace(server, process=pod.uid or "" if named else "")

    def _port(self, ports: Sequence[Any]) -> int | None:
        """The listed one that `port_name` names; None where none is needed."""
        if self._port_name is None and len(ports) != 1:
            if self._form.port and self._form.metrics_port:
                return None
            raise Malformed(self._name, f"service {self._service} has {_listed(ports)}; name one with port_name")
        for port in ports:
            if self._port_name in (None, port.name or "") and port.port:
                return int(port.port)
        raise Malformed(self._name, f"service {self._service} has no port {self._port_name}; it has {_listed(ports)}")


def _listed(ports: Sequence[Any]) -> str:
    return ", ".join(f"{port.name or '(no name)'} {port.port}" for port in ports) or "no port"


class ConfigMapText:
    """A ConfigSink: the text under one key of a ConfigMap, changed only where nobody else has written it meanwhile."""

    def __init__(self, name: str, namespace: str, config_map: str, key: str) -> None:
        from kubernetes.client import CoreV1Api

        self._name, self._namespace, self._map, self._key = name, namespace, config_map, key
        self._api = CoreV1Api(connect(name))
        self._read_at = ("", "")  # what was read last, and the resourceVersion it was read at

    async def read(self) -> str:
        found = await ask(self._name, self._get, self._right("get"))
        text = (found.data or {}).get(self._key)
        if text is None:
            has = ", ".join(sorted(found.data or {})) or "none"
            raise Refused(self._name, f"ConfigMap {self._namespace}/{self._map} has no key {self._key}; it has {has}")
        self._read_at = (text, found.metadata.resource_version)
        return str(text)

    async def write(self, before: str, after: str) -> None:
        text, version = self._read_at
        if text != before:
            raise StaleWrite(self._name, "it is no longer what was read")
        # The resourceVersion in a patch makes the API server refuse it (409) when any key was written since.
        patch = {"metadata": {"resourceVersion": version}, "data": {self._key: after}}
        await ask(self._name, lambda: self._patch(patch), self._right("patch"))

    def _get(self) -> Any:
        return self._api.read_namespaced_config_map(self._map, self._namespace, _request_timeout=SECONDS)

    def _patch(self, patch: dict[str, Any]) -> Any:
        return self._api.patch_namespaced_config_map(self._map, self._namespace, patch, _request_timeout=SECONDS)

    def _right(self, verb: str) -> str:
        return f"{verb} configmap {self._map} in namespace {self._namespace}"
