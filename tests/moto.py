"""An S3 server on loopback (moto), empty but for one bucket."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import s3fs

from haldane.testing.sandboxes import free_port


@contextmanager
def bucket(name: str) -> Iterator[str]:
    """The URL of an empty bucket, and the environment that leads there, as a user would set it."""
    program = shutil.which("moto_server", path=str(Path(sys.executable).parent))
    assert program, 'moto is missing: pip install "haldane[test]"'
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [program, "-H", "127.0.0.1", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    settings = {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    before = dict(os.environ)
    os.environ.update(settings)
    try:
        for _ in range(300):
            try:
                httpx.put(f"{address}/{name}").raise_for_status()
                break
            except httpx.TransportError:
                time.sleep(0.1)
        s3fs.S3FileSystem.clear_instance_cache()  # one of an earlier server may still be known
        yield f"s3://{name}"
    finally:
        os.environ.clear()
        os.environ.update(before)
        process.terminate()
        process.wait(60)
