"""What was left out of the evidence, and why, as short sentences for the reader."""

from haldane.judge.columns import Tally


def left_out(tally: Tally) -> list[str]:
    """Pairs that count for less than others, or for nothing."""
    lost, rejected = sum(tally.lost), sum(tally.rejected)
    sent = tally.pairs + tally.warmup + tally.poisoned + lost + rejected
    told = [
        (tally.warmup, f"{tally.warmup:,} pairs of the warm-up do not count for errors and latency"),
        (tally.masked, f"{tally.masked:,} pairs do not count for latency: a model was loading on their server"),
        (tally.poisoned, f"{tally.poisoned:,} pairs failed on both sides and say nothing of the canary"),
        (lost, f"{lost:,} of {sent:,} pairs ({share(lost, sent)}) were lost: no such version, or no thread free"),
        (rejected, f"{rejected:,} of {sent:,} pairs ({share(rejected, sent)}) held readings that cannot be"),
    ]
    return [sentence for count, sentence in told if count]


def share(part: int, whole: int) -> str:
    """A share in percent, to two digits."""
    return f"{100 * part / max(1, whole):.2g} %"
