"""Exit codes, the same for every command, and errors that carry one."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

import click

PASS, FAIL, USAGE, INCONCLUSIVE, INFRASTRUCTURE, REFUSED, DIFFERENT = range(7)

TABLE = """\b
Exit codes: 0 ok or pass, 1 fail verdict, 2 usage or config, 3 inconclusive
or no data, 4 something could not be reached, 5 refused."""

Run = TypeVar("Run", bound=Callable[..., Any])


def leave(code: int, *sentences: str) -> NoReturn:
    """Say why on stderr and exit with that code."""
    for sentence in sentences:
        click.echo(sentence, err=True)
    raise SystemExit(code)


@contextmanager
def config_errors() -> Iterator[None]:
    """Every mistake of a config on its own line, and exit code 2."""
    from haldane.config import ConfigError

    try:
        yield
    except ConfigError as error:
        count = len(error.problems)
        leave(USAGE, *map(str, error.problems), f"{count} mistake{'s' if count != 1 else ''}; nothing was started")
