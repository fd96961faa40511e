"""A receiver of CloudEvents for tests: checks signature and form with the specs' own packages."""

import asyncio
import queue
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from standardwebhooks import Webhook, WebhookVerificationError

SECRET = "whsec_" + "c2VjcmV0IG9mIHRoZSB0ZXN0cywgbm90IG9mIGFueWJvZHk="


class Receiver:
    """Events in the order in which they came, those that are not signed rightly left out; answers `status`."""

    def __init__(self) -> None:
        self.events: queue.Queue[Any] = queue.Queue()
        self.status = 204
        self.asked = 0
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver.asked += 1
                body, headers = self.rfile.read(int(self.headers["Content-Length"])), dict(self.headers.items())
                try:
                    Webhook(SECRET).verify(body, headers)
                except WebhookVerificationError:
                    self.send_response(401)
                else:
                    if receiver.status < 300:
                        receiver.events.put(from_http_event(HTTPMessage(headers, body)))
                    self.send_response(receiver.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def next(self, seconds: float = 60) -> Any:
        return self.events.get(timeout=seconds)

    async def soon(self) -> Any:
        return await asyncio.to_thread(self.next, 30)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
