"""A Kubernetes API server for tests: tokens, EndpointSlices by label, ConfigMaps with optimistic locking.

No real one is to be had without downloads, so this speaks the little of the API that is used, by its documented form.
What it cannot show is how a cluster behaves; the official client on the other side is real.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

TOKEN = "of-the-tests"


class KubernetesApi:
    """`status` overrides every answer; `raw` is sent instead of any; `asked` notes method and path."""

    def __init__(self) -> None:
        self.slices: list[dict[str, Any]] = []
        self.maps: dict[str, dict[str, Any]] = {}  # ConfigMaps by namespace/name
        self.status, self.raw, self.asked = 200, b"", list[str]()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def kubeconfig(self, folder: Path, token: str = TOKEN) -> Path:
        """A kubeconfig file that leads here."""
        url = f"http://127.0.0.1:{self.server.server_address[1]}"
        path = folder / "kubeconfig"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": url}}],
            "users": [{"name": "test", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        }
        path.write_text(yaml.safe_dump(config))
        return path

    def put_map(self, where: str, data: dict[str, str]) -> None:
        """Somebody writes that ConfigMap, NAMESPACE/NAME, whole."""
        version = int(self.maps.get(where, {"metadata": {"resourceVersion": "0"}})["metadata"]["resourceVersion"]) + 1
        namespace, _, name = where.partition("/")
        metadata = {"name": name, "namespace": namespace, "resourceVersion": str(version)}
        self.maps[where] = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        match path.strip("/").split("/"):
            case ["apis", "discovery.k8s.io", "v1", "namespaces", namespace, "endpointslices"]:
                wanted = dict(one.split("=") for one in query["labelSelector"][0].split(","))
                items = [
                    one
                    for one in self.slices
                    if one["metadata"]["namespace"] == namespace and wanted.items() <= one["metadata"]["labels"].items()
                ]
                return 200, {"kind": "EndpointSliceList", "apiVersion": "discovery.k8s.io/v1", "items": items}
            case ["api", "v1", "namespaces", namespace, "configmaps", name] if f"{namespace}/{name}" in self.maps:
                where = f"{namespace}/{name}"
                if method == "PATCH":
                    known = self.maps[where]["metadata"]["resourceVersion"]
                    if body.get("metadata", {}).get("resourceVersion", known) != known:
                        return 409, {}
                    self.put_map(where, {**self.maps[where]["data"], **body["data"]})
                return 200, self.maps[where]
            case _:
                return 404, {}


def _handler(api: KubernetesApi) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _do(self) -> None:
            url = urlsplit(self.path)
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            api.asked.append(f"{self.command} {url.path}")
            if self.headers.get("Authorization", "").lower() != f"bearer {TOKEN}":
                status, said = 401, {}
            elif api.status != 200:
                status, said = api.status, {}
            else:
                status, said = api.answer(self.command, url.path, parse_qs(url.query), body)
            text = api.raw or json.dumps(said if status < 300 else {"kind": "Status", "code": status}).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_PATCH = _do

        def log_message(self, *_: object) -> None:
            """Quiet."""

    return Handler


def a_slice(*endpoints: dict[str, Any], service: str = "tfs", family: str = "IPv4", **ports: int) -> dict[str, Any]:
    """An EndpointSlice as a cluster's controller writes it; without endpoints both lists are null."""
    return {
        "metadata": {
            "name": f"{service}-abcde",
            "namespace": "serving",
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": family,
        "endpoints": list(endpoints) or None,
        "ports": [{"name": name, "port": port, "protocol": "TCP"} for name, port in ports.items()] or None,
    }


def a_pod(name: str, address: str, *, uid: str = "", ready: bool = True, terminating: bool = False) -> dict[str, Any]:
    """One endpoint of a slice."""
    target = {"kind": "Pod", "namespace": "serving", "name": name, "uid": uid or f"uid-of-{name}"}
    conditions = {"ready": ready, "serving": ready, "terminating": terminating}
    return {"addresses": [address], "conditions": conditions, "targetRef": target}
