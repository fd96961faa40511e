"""Two answers to one request, turned into numbers: do they agree, was either wrong, by how much.

Pure array work on many pairs at once: answers come stacked by layout and are
compared together, so no element is touched by a Python loop.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from haldane.judge.outputs import Answer, Array, Floats, Loss, OutputKind, OutputRule, Scores, Stack, Tolerance, Truth

# Compared in one go: with what is made of them on the way they should fit in the processor's cache.
_VALUES_AT_ONCE = 1 << 14


@dataclass(frozen=True, slots=True)
class _Read:
    """A stack of n answers to one-row or many-row requests, as far as classes go."""

    chosen: Array  # (n, rows): class index, or class name of a Classify answer
    probability: Array  # (n, rows, classes)
    names: Array | None  # (n, rows, classes) class names of a Classify answer
    finite: NDArray[np.bool_]  # (n,)
    top: Array  # (n, rows, k): the k classes that must agree, as a set


def score(stable: Sequence[Stack], canary: Sequence[Stack], truth: Sequence[Truth], rule: OutputRule) -> Scores:
    """The numbers of n pairs, n being that of `truth`; a side of a pair that is in no stack did not answer.

    Where only one side answered and the truth is known, the other counts as wrong
    with full loss, as a user would have found it. Where none did, nothing is known.
    """
    scores = Scores.unknown(len(truth))
    for at, old, new in _side_by_side(stable, canary, len(truth)):
        _compare(scores, at, old, new, rule)
    if rule.kind is not OutputKind.ANY and any(value is not None for value in truth):
        known = np.array([rule.truth_number(value) for value in truth], np.float64)
        _hold_against_truth(scores.stable_wrong, scores.stable_loss, stable, canary, known, rule, truth)
        _hold_against_truth(scores.canary_wrong, scores.canary_loss, canary, stable, known, rule, truth)
    return scores


def _side_by_side(
    stable: Sequence[Stack], canary: Sequence[Stack], n: int
) -> Iterator[tuple[NDArray[np.intp], Answer, Answer]]:
    """Pairs that both sides answered, in one layout each: which they are, stable's outputs, canary's."""
    old_of, new_of = _stack_of(stable, n), _stack_of(canary, n)
    combined = np.where((old_of < 0) | (new_of < 0), -1, old_of * len(canary) + new_of)
    for number in np.unique(combined[combined >= 0]).tolist():
        at = np.flatnonzero(combined == number)
        old, new = divmod(number, len(canary))
        yield at, stable[old].of(at), canary[new].of(at)


def _stack_of(stacks: Sequence[Stack], n: int) -> NDArray[np.intp]:
    """(n,) which stack holds each pair's answer; -1: none."""
    found = np.full(n, -1)
    for number, stack in enumerate(stacks):
        found[stack.at] = number
    return found


# --- agreement ---------------------------------------------------------------


def _compare(scores: Scores, at: NDArray[np.intp], stable: Answer, canary: Answer, rule: OutputRule) -> None:
    """Fill in agreement and outputs for pairs that answered in one layout each."""
    names = _compared(stable, canary, rule)
    if names is None:
        return
    if any(not _comparable(stable.get(name), canary.get(name)) for name in names):
        scores.disagrees[at], scores.distance[at] = 1.0, np.inf
        return
    beyond, distance = np.zeros(len(at), bool), np.zeros(len(at))
    for name in names:
        further, apart = differences(stable[name], canary[name], rule.tolerance_of(name))
        beyond |= further
        distance = np.maximum(distance, apart)
    numbers = None
    if rule.of_classes and stable[names[0]].size:  # of no class at all nothing can be read
        old_read, new_read = _read(stable, names[0], rule), _read(canary, names[0], rule)
        beyond |= _flips(old_read, new_read)
        numbers = _class_numbers(old_read, rule), _class_numbers(new_read, rule)
    elif len(names) == 1:
        numbers = _numbers(stable[names[0]]), _numbers(canary[names[0]])
    with np.errstate(over="ignore"):  # a distance beyond float32 is stored as infinite
        scores.disagrees[at], scores.distance[at] = beyond, distance
    if numbers is not None:
        scores.stable_output[at], scores.canary_output[at] = numbers


def _compared(stable: Answer, canary: Answer, rule: OutputRule) -> list[str] | None:
    """The outputs to compare; None when neither answer has the judged one."""
    if rule.kind is OutputKind.ANY and not rule.output:
        return sorted({*stable, *canary})
    name = rule.name_in(stable) or rule.name_in(canary)
    return None if name is None else [name]


def _comparable(stable: Array | None, canary: Array | None) -> bool:
    return stable is not None and canary is not None and stable.dtype == canary.dtype and stable.shape == canary.shape


def differences(
    stable: Array, canary: Array, tolerance: Tolerance | None
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Per pair, of arrays (n, ...): differs beyond the tolerance, and the largest difference.

    NaN agrees with NaN, infinity with the same infinity; either against a finite
    number differs by infinity, whatever the tolerance. Strings that differ are 1 apart.
    """
    old, new = stable.reshape(len(stable), -1), canary.reshape(len(canary), -1)
    if old.dtype in (object, bool):
        unequal = (old != new).any(axis=1)
        return unequal & (tolerance is not None), unequal.astype(np.float64)
    if old.shape[1] == 0:
        return np.zeros(len(old), bool), np.zeros(len(old))
    at_once = max(1, _VALUES_AT_ONCE // old.shape[1])
    parts = [
        _apart(old[start : start + at_once], new[start : start + at_once], tolerance)
        for start in range(0, len(old), at_once)
    ]
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def _apart(old: Array, new: Array, tolerance: Tolerance | None) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """`differences` of numbers (n, values), few enough for the processor's cache."""
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.subtract(new, old, dtype=np.float64)
        np.abs(apart, out=apart)
        most = np.asarray(apart.max(axis=1))
        if not np.isfinite(most).all():  # NaN or infinity on either side: which of them are the same
            same = (old == new) | (np.isnan(old) & np.isnan(new))
            apart = np.where(same, 0.0, np.where(np.isnan(apart), np.inf, apart))
            most = np.asarray(apart.max(axis=1))
        if tolerance is None:
            return np.isinf(most), most
        allowed = np.multiply(old, tolerance.relative, dtype=np.float64)
        np.abs(allowed, out=allowed)
        allowed += tolerance.absolute
        return np.asarray((apart > allowed).any(axis=1) | np.isinf(most)), most


# --- one number ---------------------------------------------------------------


def _numbers(raw: Array) -> Floats:
    """(n, ...) as one number per pair; NaN where an answer holds none or several."""
    flat = raw.reshape(len(raw), -1)
    if flat.dtype == object or flat.shape[1] != 1:
        return np.full(len(raw), np.nan, np.float32)
    with np.errstate(over="ignore"):
        values = flat[:, 0].astype(np.float32)
    return np.where(np.isnan(values), np.float32(np.inf), values)  # answered, so not "not known"


def _class_numbers(read: _Read, rule: OutputRule) -> Floats:
    """Probability of the positive class, or index of the chosen one; NaN for several rows, or a name without index."""
    if read.chosen.shape[1] != 1:
        return np.full(len(read.chosen), np.nan, np.float32)
    if rule.kind is OutputKind.BINARY_PROBABILITY:
        number = read.probability[:, 0, 1]
    elif read.names is None:
        number = read.chosen[:, 0]
    else:
        number = np.array([rule.truth_number(name.decode(errors="replace")) for name in read.chosen[:, 0]])
    return np.where(read.finite, number, np.inf).astype(np.float32)


# --- classes -----------------------------------------------------------------


def _read(answers: Answer, name: str, rule: OutputRule) -> _Read:
    """What stacked answers say of classes."""
    raw = answers[name].astype(np.float64)
    finite = np.asarray(np.isfinite(raw.reshape(len(raw), -1)).all(axis=1))
    probability = _probabilities(raw, rule)
    if rule.kind is OutputKind.BINARY_PROBABILITY:
        positive = (probability[..., 1] >= rule.threshold).astype(np.int64)
        return _Read(positive, probability, None, finite, positive[..., None])
    names = answers["classes"] if name == "scores" and _named(answers) else None
    best = probability.argmax(axis=-1)[..., None]
    highest = best if rule.top == 1 else _highest(probability, rule.top)
    if names is not None:
        best, highest = (np.take_along_axis(names, at, axis=-1) for at in (best, highest))
    return _Read(best[..., 0], probability, names, finite, np.sort(highest, axis=-1))


def _highest(probability: Array, k: int) -> Array:
    """(n, rows, k): where the k largest of each row are; all of them where there are no more."""
    k = min(k, probability.shape[-1])
    return np.asarray(np.argpartition(-probability, k - 1, axis=-1)[..., :k])


def _named(answers: Answer) -> bool:
    classes = answers.get("classes")
    return classes is not None and classes.dtype == object and classes.shape == answers["scores"].shape


def _probabilities(raw: Array, rule: OutputRule) -> Array:
    """(n, rows, classes) from scores of any of the accepted shapes."""
    if rule.kind is OutputKind.BINARY_PROBABILITY:
        if raw.ndim > 2 and raw.shape[-1] == 2:
            shaped = raw.reshape(len(raw), -1, 2)
            return _softmax(shaped) if rule.logits else shaped
        positive = raw.reshape(len(raw), -1)
        if rule.logits:
            positive = 0.5 * (1.0 + np.tanh(0.5 * positive))  # the sigmoid, without overflow
        return np.stack([1.0 - positive, positive], axis=-1)
    shaped = raw.reshape(len(raw), -1, raw.shape[-1] if raw.ndim > 1 else 1)
    return _softmax(shaped) if rule.logits else shaped


def _softmax(logits: Array) -> Array:
    with np.errstate(invalid="ignore"):
        powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def _flips(stable: _Read, canary: _Read) -> NDArray[np.bool_]:
    """Per pair: any row has another class, or others among its highest, or only one side is finite."""
    flips = np.asarray(stable.top != canary.top).any(axis=(1, 2))
    return np.asarray(flips | (stable.finite != canary.finite), bool)


# --- against the truth -------------------------------------------------------


def _hold_against_truth(
    wrong: Floats,
    loss: Floats,
    answers: Sequence[Stack],
    others: Sequence[Stack],
    known: NDArray[np.float64],
    rule: OutputRule,
    truth: Sequence[Truth],
) -> None:
    """Fill in one side's wrong and loss, for one-row requests whose truth is known."""
    asked = np.array([value is not None for value in truth])
    failed = asked & (_stack_of(answers, len(truth)) < 0)
    for other in others:
        # The truth would have been held against an answer: a number, or a name of a Classify answer.
        named = np.array([isinstance(truth[place], str) and "classes" in other.outputs for place in other.at.tolist()])
        at = other.at[failed[other.at] & (named | ~np.isnan(known[other.at]))]
        wrong[at], loss[at] = 1.0, 1.0
    for stack in answers:
        at = stack.at[asked[stack.at]]
        side, name = stack.of(at), rule.name_in(stack.outputs)
        if not len(at) or name is None or side[name].dtype == object or not side[name].size:
            continue
        if rule.of_classes:
            wrong[at], loss[at] = _class_truth(_read(side, name, rule), known[at], [truth[i] for i in at], rule)
        else:
            wrong[at], loss[at] = _number_truth(side[name], known[at], rule)


def _class_truth(
    read: _Read, known: NDArray[np.float64], truth: Sequence[Truth], rule: OutputRule
) -> tuple[Array, Array]:
    n, rows, classes = read.probability.shape
    if rows != 1:
        return np.full(n, np.nan), np.full(n, np.nan)
    if read.names is not None:
        names = np.array([_class_name(value, rule) for value in truth], object)
        is_true = np.asarray(read.names[:, 0, :] == names[:, None], bool)
    else:
        is_true = np.arange(classes)[None, :] == known[:, None]
    right = np.take_along_axis(is_true, _chosen_column(read, is_true), axis=1)[:, 0]
    usable = is_true.any(axis=1)
    loss = _class_loss(read.probability[:, 0, :], is_true, rule)
    wrong = np.where(read.finite, ~right, True).astype(np.float64)
    return np.where(usable, wrong, np.nan), np.where(usable, np.where(read.finite, loss, 1.0), np.nan)


def _chosen_column(read: _Read, is_true: NDArray[np.bool_]) -> Array:
    """(n, 1): the column of the class each answer chose."""
    if read.names is not None:
        return np.asarray(read.probability[:, 0, :].argmax(axis=1)[:, None])
    return read.chosen.astype(np.int64)[:, :1].clip(0, is_true.shape[1] - 1)


def _class_name(truth: Truth, rule: OutputRule) -> bytes:
    """The truth as Classify writes class names; an index is looked up in `classes`."""
    if isinstance(truth, str):
        return truth.encode(errors="surrogatepass")  # JSON may hold half a character: no class is called so
    number = rule.truth_number(truth)
    index = int(number) if number.is_integer() else -1
    return (rule.classes[index] if 0 <= index < len(rule.classes) else str(index)).encode()


def _class_loss(probability: Array, is_true: NDArray[np.bool_], rule: OutputRule) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        if rule.judged_loss is Loss.BRIER:
            # Two classes that sum to one: both squares are equal, so half the sum is the usual (p - y)^2.
            return np.asarray(np.clip(((probability - is_true) ** 2).sum(axis=1) / 2.0, 0.0, 1.0))
        of_truth = np.clip((probability * is_true).sum(axis=1), 0.0, 1.0)
        return np.asarray(np.minimum(-np.log(of_truth), rule.judged_reach) / rule.judged_reach)


def _number_truth(raw: Array, known: NDArray[np.float64], rule: OutputRule) -> tuple[Array, Array]:
    flat = raw.reshape(len(raw), -1).astype(np.float64)
    if flat.shape[1] != 1:
        return np.full(len(flat), np.nan), np.full(len(flat), np.nan)
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.abs(flat[:, 0] - known)
        error = np.where(np.isfinite(flat[:, 0]), error, np.inf)
        size = error if rule.judged_loss is Loss.ABSOLUTE else error**2
        loss = np.minimum(size, rule.judged_reach) / rule.judged_reach
    wrong = np.full(len(flat), np.nan) if rule.wrong_beyond is None else (error > rule.wrong_beyond).astype(float)
    return np.where(np.isnan(known), np.nan, wrong), np.where(np.isnan(known), np.nan, loss)
