#!/usr/bin/env python3
"""The least that pycurl does, as a caller: libcurl's multi interface without asyncio, half of the calls to each server.

    python benchmarks/wirespeed/curl.py curl STABLE_PORT CANARY_PORT CALLS IN_FLIGHT

Only to measure. Says "ready", waits for a line, then calls.
"""

import sys
from collections.abc import Iterator
from io import BytesIO
from itertools import count, islice

import pycurl

from wirespeed.meter import WARM_UP_CALLS, start
from wirespeed.responder import framed, request_body

URL = "http://127.0.0.1:{}/tensorflow.serving.PredictionService/Predict"


def handles(ports: tuple[int, int], number: int) -> Iterator[pycurl.Curl]:
    """Reused call after call, one for each call in flight."""
    body = framed(request_body())
    for place in range(number):
        curl = pycurl.Curl()
        curl.setopt(pycurl.URL, URL.format(ports[place % 2]))
        curl.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE)
        curl.setopt(pycurl.PIPEWAIT, 1)
        curl.setopt(pycurl.HTTPHEADER, ["te: trailers", "content-type: application/grpc", "Expect:"])
        curl.setopt(pycurl.POST, 1)
        curl.setopt(pycurl.POSTFIELDS, body)
        curl.setopt(pycurl.TIMEOUT, 10)
        yield curl


def run(multi: pycurl.CurlMulti, curls: list[pycurl.Curl], calls: int) -> None:
    """So many calls, as many at once as there are handles."""
    turns, back = count(), 0

    def call(curl: pycurl.Curl) -> None:
        if next(turns) < calls:
            curl.answer = BytesIO()
            curl.setopt(pycurl.WRITEDATA, curl.answer)
            multi.add_handle(curl)

    for curl in curls:
        call(curl)
    while back < calls:
        multi.perform()
        _, done, failed = multi.info_read(len(curls))
        for curl in done:
            multi.remove_handle(curl)
            if failed or not curl.answer.getvalue():
                raise SystemExit("a call failed; nothing is measured here")
            call(curl)
        back += len(done)
        if not done:
            multi.select(0.01)


def main() -> None:
    stable, canary, calls, in_flight = map(int, sys.argv[2:])
    multi = pycurl.CurlMulti()
    multi.setopt(pycurl.M_PIPELINING, pycurl.PIPE_MULTIPLEX)
    multi.setopt(pycurl.M_MAX_HOST_CONNECTIONS, 1)
    curls = list(islice(handles((stable, canary), in_flight), in_flight))
    run(multi, curls, WARM_UP_CALLS)
    meter = start()
    run(multi, curls, calls)
    meter.say(calls)


if __name__ == "__main__":
    main()
