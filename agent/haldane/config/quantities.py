"""How a person writes quantities: "30m", "host:port", URLs; and what they become."""

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(k|M|G|T|Ki|Mi|Gi|Ti)?B\s*")
POWERS: dict[str, int] = {"": 1, **{letter: 1000 ** (i + 1) for i, letter in enumerate("kMGT")}}
POWERS |= {f"{letter}i": 1024 ** (i + 1) for i, letter in enumerate("KMGT")}


def _duration(value: Any) -> Any:
    """ "90s", "5m", "1h" or seconds as a number; ISO 8601 ("PT5M") is left to pydantic."""
    if isinstance(value, str) and (match := _DURATION.fullmatch(value.strip())):
        return timedelta(seconds=float(match[1]) * _UNITS[match[2]])
    if isinstance(value, bool) or (isinstance(value, str) and not value.startswith("P")):
        raise ValueError(f'must be a duration such as "30s", "5m" or "PT5M", got {value!r}')
    return value


def _share(value: Any) -> Any:
    """ "10%" as 0.1; a bare number could mean either, so it is refused."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", value) if isinstance(value, str) else None
    if match is None or not 0.0 < float(match[1]) < 100.0:
        raise ValueError(f'must be a share between 0 and 100 %, with its unit, such as "10%"; got {value!r}')
    return float(match[1]) / 100


def _share_or_all(value: Any) -> Any:
    return 1.0 if isinstance(value, str) and value.replace(" ", "") == "100%" else _share(value)


def _size(value: Any) -> Any:
    """ "64MiB", "1GB"; a bare number could be any unit, so it is refused."""
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None or float(match[1]) <= 0:
        raise ValueError(f'must be a size with its unit, such as "64MiB" or "1GB"; got {value!r}')
    return int(float(match[1]) * POWERS[match[2] or ""])


def address_of(value: str, *, also: str = "") -> str:
    """host:port; a name, an IPv4 address or an IPv6 address in brackets. `also`: what else would have been right."""
    host, colon, port = value.rpartition(":")
    if "//" in value or not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"must be {also}{' or ' if also else ''}HOST:PORT, got {value!r}")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise ValueError(f"an IPv6 host stands in brackets, [::1]:8500; got {value!r}")
    return value


def _http(value: str) -> str:
    if not re.fullmatch(r"https?://[^\s/@]+(/\S*)?", value):
        raise ValueError(f"must be an http:// or https:// URL without a password, got {value!r}")
    return value


def _scheduler(value: str) -> str:
    kind, found, address = value.partition("://")
    if not found or kind not in ("tcp", "tls"):
        raise ValueError(f"must be tcp://HOST:PORT or tls://HOST:PORT of a Dask scheduler, got {value!r}")
    address_of(address)
    return value


Duration = Annotated[timedelta, BeforeValidator(_duration), Field(gt=timedelta(0))]
DurationOrZero = Annotated[timedelta, BeforeValidator(_duration), Field(ge=timedelta(0))]
Share = Annotated[float, BeforeValidator(_share)]
ShareOrAll = Annotated[float, BeforeValidator(_share_or_all)]
Size = Annotated[int, BeforeValidator(_size)]
Address = Annotated[str, AfterValidator(address_of)]
HttpUrl = Annotated[str, AfterValidator(_http)]
Name = Annotated[str, Field(pattern=r"^[^\s/]+$", max_length=200)]
GrpcThreads = Annotated[int, Field(ge=1)]
SchedulerUrl = Annotated[str, AfterValidator(_scheduler)]


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach that address."""
    host = address.rpartition(":")[0].strip("[]")
    return host in ("localhost", "::1") or host.startswith("127.")
