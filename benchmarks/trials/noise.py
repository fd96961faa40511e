"""Noise that lasts: autoregressive, and in bursts. Arrays are (n,), spacing `dt` in seconds."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

Floats = NDArray[np.float64]


def autoregressive(rng: np.random.Generator, n: int, *, dt: float, tau: float, sd: float) -> Floats:
    """A stationary AR(1) process of this standard deviation that forgets within `tau` seconds."""
    keep = math.exp(-dt / tau) if tau > 0 else 0.0
    shocks = rng.standard_normal(n) * sd * math.sqrt(1 - keep * keep)
    if n:
        shocks[0] = rng.standard_normal() * sd
    noise: Floats = lfilter([1.0], [1.0, -keep], shocks)
    return noise


def bursts(rng: np.random.Generator, n: int, *, dt: float, duty: float, mean_seconds: float) -> Floats:
    """1 during bursts of this mean length, 0 between them; `duty` is the share of time in a burst."""
    on_mean, off_mean = mean_seconds / dt, mean_seconds / dt * (1 - duty) / duty
    noise = np.zeros(n)
    at, on = 0, rng.random() < duty
    while at < n:
        length = 1 + int(rng.exponential(on_mean if on else off_mean))
        if on:
            noise[at : at + length] = 1
        at, on = at + length, not on
    return noise
