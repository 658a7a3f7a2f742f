"""Scores of a common space of reports and volumes: is the right report found, do scores rank positive cases first."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata


def retrieved(similarity: NDArray[Any], candidates: int, top: int = 1) -> float:
    """Share of rows whose own column (the diagonal) is among the ``top`` most similar of ``candidates`` columns.

    ``similarity`` (N, N) is cut into consecutive groups of ``candidates``; a last one that is shorter is left out unless it is
    the only one. Ties count against the row.
    """
    count = len(similarity)
    size = min(candidates, count)
    if not count:
        return float("nan")
    hits = []
    for start in range(0, count - size + 1, size):
        block = similarity[start : start + size, start : start + size]
        own = np.diagonal(block)[:, None]
        hits.append(((block >= own).sum(axis=1) <= top).mean())
    return float(np.mean(hits))


def auroc(scores: NDArray[Any], labels: NDArray[Any]) -> float:
    """Probability that a positive case scores above a negative one, ties half; NaN without cases of both kinds."""
    positive = np.asarray(labels) > 0.5
    ones, zeros = int(positive.sum()), int((~positive).sum())
    if not ones or not zeros:
        return float("nan")
    ranks = rankdata(scores)
    return float((ranks[positive].sum() - ones * (ones + 1) / 2) / (ones * zeros))
