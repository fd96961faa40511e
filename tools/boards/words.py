"""The closed sets of words that boards show, and their colours."""

from tools.boards.panels import BLUE, GREEN, GREY, ORANGE, RED, coloured

PHASES = coloured(
    {
        **dict.fromkeys(("PENDING", "LOADING", "SHADOWING", "RAMPING", "PROMOTING", "BAKING"), BLUE),
        **dict.fromkeys(("HELD", "ROLLING_BACK", "ROLLED_BACK"), ORANGE),
        "SUCCEEDED": GREEN,
        "STUCK": RED,
    }
)
VERDICTS = coloured({"pass": GREEN, "fail": RED, "continue": BLUE, "inconclusive": ORANGE})
CHECKS = coloured({"harmless": GREEN, "harmful": RED, "undecided": BLUE, "no data": GREY})
