"""The command line: one file per command group, talking to a running agent over its API.

Belongs here: arguments, sentences for a person, exit codes. Does not belong
here: any decision. Starting must stay light, so a command imports what it
needs when it is called.
"""

from haldane.cli.commands import main

__all__ = ["main"]
