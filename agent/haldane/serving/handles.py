"""How a libcurl handle to one TF Serving process is set up: what `serving.channel` is for gRPC's own library."""

import ssl
from ipaddress import ip_address
from typing import Any

import pycurl

from haldane.domain.fleet import Server
from haldane.ports import Refused
from haldane.serving.channel import Tls, read_pem

_LEAST = 0x081700  # 8.23.0; 8.13 to 8.15 wait for ever after a first call that timed out (curl issue 18177)
_TIMEOUT_DIGITS = 99_999_999  # the most that the header may say


class Handles:
    """Makes handles for calls to that server. Refused when a TLS file cannot be read, or libcurl is not fit."""

    def __init__(self, server: Server, tls: Tls | None) -> None:
        _, name, number, _, features, *_ = pycurl.version_info()
        if number < _LEAST or not features & pycurl.VERSION_HTTP2:
            raise Refused(
                server.name, f"needs libcurl 8.23 or later with HTTP/2, as in pycurl's wheels; here is {name}"
            )
        host, _, port = server.address.rpartition(":")
        self.by_name = not _is_ip(host)
        self._settings: dict[int, Any] = {
            pycurl.HTTP_VERSION: pycurl.CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE,  # with TLS: nothing else is negotiated
            pycurl.PIPEWAIT: 1,
            pycurl.POST: 1,
            pycurl.PROXY: "",  # one from the environment would spread pairs over replicas
            pycurl.NOSIGNAL: 1,
            pycurl.USERAGENT: "haldane",
        }
        self._authority, self._url = server.address, f"http://{server.address}"
        if tls is not None:
            self._settings |= _secured(server, tls)
            self._url = f"https://{server.address}"
            if tls.server_name:  # expected of the certificate, told to the server, and looked for at its address
                self._authority, self._url = tls.server_name, f"https://{tls.server_name}:{port}"
                self._settings[pycurl.CONNECT_TO] = [f"{tls.server_name}:{port}:{host}:{port}"]

    def make(self, path: str) -> pycurl.Curl:
        curl = pycurl.Curl()
        for option, value in self._settings.items():
            curl.setopt(option, value)
        curl.setopt(pycurl.URL, self._url + path)
        return curl

    def headers(self, milliseconds: int) -> list[str]:
        """Of a call that may take so long. Compressed answers are not asked for."""
        return [
            f"Host: {self._authority}",
            "te: trailers",
            "content-type: application/grpc",
            f"grpc-timeout: {min(milliseconds, _TIMEOUT_DIGITS)}m",
            *("Accept:", "Content-Length:", "Expect:"),  # which libcurl would add
        ]


def _is_ip(host: str) -> bool:
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def _secured(server: Server, tls: Tls) -> dict[int, Any]:
    ca, cert, key = read_pem(server, tls)
    found: dict[int, Any] = {pycurl.SSLVERSION: pycurl.SSLVERSION_TLSv1_2}
    if ca is None:
        # pycurl's wheel has the paths of the machine it was built on
        system = ssl.get_default_verify_paths()
        found |= {pycurl.CAINFO: system.cafile or "", pycurl.CAPATH: system.capath or ""}
    else:
        found |= {pycurl.CAINFO_BLOB: ca, pycurl.CAPATH: ""}
    if cert is not None:
        found |= {pycurl.SSLCERT_BLOB: cert, pycurl.SSLKEY_BLOB: key}
    return found
