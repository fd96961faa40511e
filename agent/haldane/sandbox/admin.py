"""The admin endpoint: faults and the process's own use, on 127.0.0.1 only, off unless --admin_port is given.

GET    /metrics       CPU seconds and resident bytes of this process, as a process exporter tells them
GET    /faults        what is in force
POST   /faults        put one in force, answers with its id
DELETE /faults[/ID]   end one, or all
"""

import json
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest

from haldane.sandbox.faults import Faults, read

_PROCESS = CollectorRegistry()
ProcessCollector(registry=_PROCESS)


def start(port: int, faults: Faults) -> ThreadingHTTPServer:
    """Serve the endpoint in a thread of its own; OSError when the port is taken."""

    class Bound(_Handler):
        subject = faults

    server = ThreadingHTTPServer(("127.0.0.1", port), Bound)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="admin", daemon=True).start()
    return server


class _Handler(BaseHTTPRequestHandler):
    subject: Faults

    def do_GET(self) -> None:
        if self.path == "/metrics":
            self._send(HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest(_PROCESS))
            return
        if self.path != "/faults":
            self._not_found()
            return
        self._answer(HTTPStatus.OK, {"faults": self.subject.listing()})

    def do_POST(self) -> None:
        if self.path != "/faults":
            self._not_found()
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            fields = json.loads(body)
            if not isinstance(fields, dict):
                raise ValueError("a fault is a JSON object")
            fault = read(fields)
        except ValueError as error:
            self._answer(HTTPStatus.BAD_REQUEST, {"error": str(error)})
            return
        self._answer(HTTPStatus.OK, {"id": self.subject.add(fault)})

    def do_DELETE(self) -> None:
        root, _, number = self.path.removeprefix("/").partition("/")
        if root != "faults" or (number and not number.isdigit()):
            self._not_found()
            return
        found = self.subject.remove(int(number) if number else None)
        if number and not found:
            self._not_found()
        else:
            self._answer(HTTPStatus.OK, {"faults": self.subject.listing()})

    def _not_found(self) -> None:
        self._answer(HTTPStatus.NOT_FOUND, {"error": f"nothing at {self.path}"})

    def _answer(self, status: HTTPStatus, body: dict[str, Any]) -> None:
        self._send(status, "application/json", json.dumps(body).encode() + b"\n")

    def _send(self, status: HTTPStatus, content_type: str, data: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: what was asked for shows in its effect."""
