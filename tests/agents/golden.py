"""Inputs of the golden updates, and how their results are compared."""

from __future__ import annotations

import numpy as np
import pytest

GOLDEN_RATIO = (1 + 5**0.5) / 2


def wave(shape: tuple[int, ...], key: int, scale: float) -> np.ndarray:
    """A chirp in [-scale, scale], a different one for each key."""
    i = np.arange(np.prod(shape), dtype=np.float64)
    phase = 0.37 * (key + 1) + GOLDEN_RATIO * i * (1 + 0.1 * key) + 0.001 * (i % 97) ** 2
    return (scale * np.sin(phase)).reshape(shape)


def compare_sums(parameters, expected, rtol):
    assert set(parameters) == set(expected)
    for key, sums in expected.items():
        ours = parameters[key].detach().double()
        scale = sums["abs"]  # a plain sum nearly cancels: its error is relative to the sum of magnitudes
        assert float(ours.abs().sum()) == pytest.approx(sums["abs"], rel=rtol), key
        assert float(ours.sum()) == pytest.approx(sums["sum"], abs=rtol * scale), key
        assert float(ours.flatten()[0]) == pytest.approx(sums["first"], rel=rtol, abs=rtol / 100), key
        assert float(ours.flatten()[-1]) == pytest.approx(sums["last"], rel=rtol, abs=rtol / 100), key
