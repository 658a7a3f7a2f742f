"""AUROC and F1 of scores, with cases counted several times."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]


def auroc(scores: Rows, truth: Rows, counts: NDArray[np.int64]) -> float | None:
    """Probability that a positive case scores above a negative one, ties half; None without both. NaN in either: left out."""
    known = (counts > 0) & ~np.isnan(scores) & ~np.isnan(truth)
    s, t, c = scores[known], truth[known] > 0.5, counts[known].astype(np.float64)
    positives, negatives = float(c[t].sum()), float(c[~t].sum())
    if not positives or not negatives:
        return None
    _, place = np.unique(s, return_inverse=True)
    levels = int(place.max()) + 1
    below = np.bincount(place, c * ~t, levels)
    above = np.bincount(place, c * t, levels)
    beaten = np.cumsum(below) - below + below / 2
    return float(above @ beaten) / (positives * negatives)


def f1(scores: Rows, truth: Rows, counts: NDArray[np.int64], threshold: float) -> float | None:
    """Harmonic mean of precision and recall at ``threshold``; None if the label neither is asked for nor found."""
    known = (counts > 0) & ~np.isnan(scores) & ~np.isnan(truth)
    found, wanted, c = scores[known] >= threshold, truth[known] > 0.5, counts[known].astype(np.float64)
    both, total = float(c[found & wanted].sum()), float(c[found].sum() + c[wanted].sum())
    return 2 * both / total if total else None
