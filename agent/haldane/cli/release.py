"""`haldane release`: a version before it is served, and all versions of late."""

import click

from haldane.cli.announce import announce_
from haldane.cli.gc import gc_
from haldane.cli.hold import hold, unhold
from haldane.cli.publish import publish_, sync_
from haldane.cli.shelf import list_, show, verify
from haldane.cli.validate import validate_


@click.group()
def release() -> None:
    """Versions before they are served: validate, publish, announce, bring to the servers' disks, clean up."""


for command in (validate_, publish_, announce_, sync_, list_, show, verify, hold, unhold, gc_):
    release.add_command(command)
