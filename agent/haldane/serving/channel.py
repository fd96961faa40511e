"""How a channel to one TF Serving process is opened: TLS, sizes, no retries of gRPC's own."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from haldane.domain.fleet import Server
from haldane.ports import Refused

OPTIONS: tuple[tuple[str, Any], ...] = (
    # Python's client stops at 4 MiB unless told otherwise; Serving takes 2 GiB.
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # A reload repeated behind our back may be applied twice, the second time over someone else's.
    ("grpc.enable_retries", 0),
    # One connection per server: gRPC otherwise shares them between channels of a process.
    ("grpc.use_local_subchannel_pool", 1),
    # A proxy would spread reloads and probes over replicas.
    ("grpc.enable_http_proxy", 0),
    # gRPC's own back-off grows to two minutes; a restarted server should be seen within one look or two.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2000),
    # A host that vanished without a word would else hold the connection for a quarter of an hour. Pings go out only
    # while a call waits, so a live server (which minds pings closer than five minutes without data) never counts them.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Where the PEM files of a TLS channel are. With `cert` and `key` it is mTLS.

    `ca` None means the system's roots. `server_name` is the name to expect in
    the server's certificate when its address is not in it, as with pod IPs.
    """

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            raise ValueError("mTLS needs both a certificate and its key")

    def options(self) -> Sequence[tuple[str, Any]]:
        return (("grpc.ssl_target_name_override", self.server_name),) if self.server_name else ()


def open_channel(server: Server, tls: Tls | None) -> grpc.aio.Channel:
    """A channel to that server; it connects at the first call. Refused when a TLS file cannot be read."""
    if tls is None:
        return grpc.aio.insecure_channel(server.address, options=OPTIONS)
    ca, cert, key = read_pem(server, tls)
    credentials = grpc.ssl_channel_credentials(root_certificates=ca, private_key=key, certificate_chain=cert)
    return grpc.aio.secure_channel(server.address, credentials, options=(*OPTIONS, *tls.options()))


def read_pem(server: Server, tls: Tls) -> tuple[bytes | None, bytes | None, bytes | None]:
    """What is in the files of `ca`, `cert` and `key` now. Refused when one cannot be read."""
    try:
        ca, cert, key = (path.read_bytes() if path else None for path in (tls.ca, tls.cert, tls.key))
    except OSError as error:
        raise Refused(server.name, f"cannot read TLS file {error.filename}: {error.strerror}") from error
    return ca, cert, key
