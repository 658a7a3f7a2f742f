"""Random numbers of a case: one stream per purpose, so that a change to one finding moves nothing else."""

from __future__ import annotations

import numpy as np

_STREAMS = (
    "presence",
    "patient",
    "warp",
    "scanner",
    "noise",
    "report",
    "pleural_effusion",
    "cardiomegaly",
    "lung_nodule",
    "consolidation",
    "emphysema",
)
"""Positions are part of the data set's definition: append, never reorder."""


def stream(seed: int, index: int, purpose: str) -> np.random.Generator:
    """The generator of one purpose in case ``index``; independent of every other (seed, index, purpose)."""
    return np.random.default_rng(np.random.SeedSequence((seed, index, _STREAMS.index(purpose))))


def bounded_normal(rng: np.random.Generator, mean: float, deviation: float, low: float, high: float) -> float:
    """A normal draw, clipped to [low, high]."""
    return float(np.clip(rng.normal(mean, deviation), low, high))
