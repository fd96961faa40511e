"""`haldane render`: what servers should boot with, for a review in Git."""

from pathlib import Path

import click

from haldane.cli.connection import Connection, agent_options
from haldane.cli.exits import REFUSED, USAGE, leave


@click.command()
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--write", is_flag=True, help="Change FILE itself, by rename, instead of printing it.")
@agent_options
def render(connection: Connection, file: Path, write: bool) -> None:
    """Serving's model config FILE with every model on the version that is stable.

    For servers whose boot config is kept under version control: the agent is
    asked which versions are stable, those are put in place, and not a letter
    else is changed. A canary is never in it, and a promotion once it has baked.

    \b
      haldane render serving/models.config
      haldane render --write serving/models.config

    Exit codes: 0 done, 2 FILE cannot be read or has no such model, 4 the agent
    did not answer, 5 somebody else wrote FILE just now.
    """
    from haldane.files import replace_text
    from haldane.ports import StaleWrite
    from haldane.rollout.boot import at_rest
    from haldane.serving.configedit import edited
    from haldane.serving.modelconfig import parse_leniently

    stable = connection.get("/v1/status")["stable"]
    try:
        text = file.read_text(encoding="utf-8")
        listed = parse_leniently(text, source=str(file))
        entries = [at_rest(one, stable[one.name]) for one in listed.models if stable.get(one.name) is not None]
        after = edited(text, entries, source=str(file))
    except OSError as error:
        leave(USAGE, f"{file}: cannot read it: {error.strerror}")
    except ValueError as error:
        leave(USAGE, str(error))
    for name in sorted(stable.keys() - {one.name for one in listed.models}):
        click.echo(f"note: {file} does not have model {name}", err=True)
    if not write:
        click.echo(after, nl=False)
    elif after != text:
        try:
            replace_text(file, text, after)
        except StaleWrite as error:
            leave(REFUSED, error.detail)
        except OSError as error:
            leave(USAGE, f"{file}: cannot write it: {error.strerror}")
