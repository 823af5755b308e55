"""Random inputs that executables are timed with, equal for every candidate and every runtime."""

from __future__ import annotations

import numpy as np

__all__ = ["random_input", "seeded_generator"]

_SEED = 20180911  # any fixed number


def seeded_generator() -> np.random.Generator:
    """A new generator that gives the same numbers every time."""
    return np.random.default_rng(_SEED)


def random_input(shape: tuple[int, ...], dtype: np.dtype, generator: np.random.Generator) -> np.ndarray:
    """Normal numbers, all values of 8-bit integers, zeros and ones for the rest.

    Not zeros: power and the speed of some kernels depend on the data.
    """
    if dtype.kind == "f":
        return generator.standard_normal(shape).astype(dtype)
    if dtype in (np.int8, np.uint8):
        limits = np.iinfo(dtype)
        return generator.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)
    # Wider integers and booleans are indices or masks; 0 and 1 are valid for all of them.
    return generator.integers(0, 2, shape).astype(dtype)
