"""How Python's garbage collector is set for a process that shadows."""

import gc

# New objects before a pass: those of the few hundred calls under way are no garbage. About 5 MB.
_NEW_OBJECTS = 50_000


def quieten() -> None:
    """Let the collector look at what is new only, and seldom; call it once everything is loaded.

    With a pass for every 700 new objects, as Python has it, a fifth of a shadow pair's CPU
    time goes into passes over calls that are still under way, and over modules that stay
    for good; what a call leaves is freed without the collector.
    """
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, 10, 10)
