"""How a gRPC call ended, from what HTTP/2 and libcurl say of it: the code that gRPC's own client would give, and words.

Owns this reading alone; what a code means to us is `serving.answers`.

Source: grpc/doc PROTOCOL-HTTP2.md (Trailers-Only, the map of RST_STREAM's codes), http-grpc-status-mapping.md.
"""

import re
from collections.abc import Sequence
from urllib.parse import unquote_to_bytes

import grpc
import pycurl

Code = grpc.StatusCode
_CODES = {code.value[0]: code for code in Code}
_STREAM_RESET = 92  # CURLE_HTTP2_STREAM, which pycurl has no name for
_BY_RESET = {
    7: Code.UNAVAILABLE,  # REFUSED_STREAM
    8: Code.CANCELLED,
    11: Code.RESOURCE_EXHAUSTED,  # ENHANCE_YOUR_CALM
    12: Code.PERMISSION_DENIED,  # INADEQUATE_SECURITY
}
_BY_HTTP = {
    400: Code.INTERNAL,
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.UNIMPLEMENTED,
    429: Code.UNAVAILABLE,
    502: Code.UNAVAILABLE,
    503: Code.UNAVAILABLE,
    504: Code.UNAVAILABLE,
}


def ending(head: Sequence[bytes], failure: int, words: str) -> tuple[grpc.StatusCode, str]:
    """`head`: the lines of all headers and trailers, as libcurl hands them over. `failure`: a CURLcode, 0 when the
    answer is whole; `words`: libcurl's about it.

    A status that the server gave counts whatever happened afterwards.
    """
    fields = dict(line.rstrip(b"\r\n").split(b": ", 1) for line in head if b": " in line)
    if (status := fields.get(b"grpc-status")) is not None:
        code = _CODES.get(int(status), Code.UNKNOWN) if status.isdigit() else Code.UNKNOWN
        return code, unquote_to_bytes(fields.get(b"grpc-message", b"")).decode(errors="replace")
    if failure == pycurl.E_OPERATION_TIMEDOUT:
        return Code.DEADLINE_EXCEEDED, "Deadline Exceeded"
    if failure == _STREAM_RESET:
        reset = re.search(r"\(error 0x([0-9a-f]+)", words)
        return _BY_RESET.get(int(reset[1], 16) if reset else 0, Code.INTERNAL), words
    if failure == pycurl.E_ABORTED_BY_CALLBACK:
        return Code.UNAVAILABLE, "connection lost or stream refused before there was an answer"
    if failure:
        return Code.UNAVAILABLE, words
    lines = [line for line in head if line.startswith(b"HTTP/")]
    number = int(lines[-1].split()[1]) if lines else 0
    return _BY_HTTP.get(number, Code.UNKNOWN), f"HTTP status {number} and no grpc-status"
