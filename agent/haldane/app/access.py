"""What every process of ours needs to be let in: the TLS files, and a folder that it may write."""

from collections.abc import Iterator
from contextlib import contextmanager

from haldane.config import Config
from haldane.ports import Unavailable
from haldane.serving.channel import Tls


def tls_of(config: Config) -> Tls | None:
    """TLS to the servers, as the config says."""
    return Tls(ca=config.tls.ca, cert=config.tls.cert, key=config.tls.key) if config.tls else None


@contextmanager
def writable(config: Config) -> Iterator[None]:
    """Unavailable, naming the key to correct, where state_dir cannot be made, written or read."""
    try:
        yield
    except OSError as error:
        says = f"cannot use {error.filename or config.state_dir}: {error.strerror}; set `state_dir:` to a folder that"
        raise Unavailable("state_dir", f"{says} this user may write") from error
