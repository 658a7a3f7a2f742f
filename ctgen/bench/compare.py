"""Two models over the same cases: paired bootstrap of the difference, and a permutation test where cases have values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctgen.evaluate.cases import Resampled
from ctgen.evaluate.driver import CONFIDENCE, FEWEST_CASES, FLOOR, EvaluationResult
from ctgen.interfaces import Metric

PERMUTATIONS = 10_000
EXACT = 13
"""Up to so many pairs every one of the 2^n sign patterns is looked at."""


@dataclass(frozen=True)
class Difference:
    """``value`` = first - second over the ``n`` cases that both have. ``p``: two-sided; ``test`` says which one it is from.

    ``low`` and ``high`` bound the paired bootstrap interval. ``better``: the model that is ahead, "" if neither direction is
    better; whether that is more than chance, ``p`` says.
    """

    first: str
    second: str
    metric: str
    key: str
    value: float
    n: int
    low: float | None = None
    high: float | None = None
    p: float | None = None
    test: str = ""
    better: str = ""


def compare(
    first: str,
    second: str,
    results: Mapping[str, EvaluationResult],
    metrics: Mapping[str, Mapping[str, Metric]],
    *,
    resamples: int,
    seed: int,
) -> list[Difference]:
    """One Difference for each value that both models have."""
    found = []
    for name, scores in results[first].values.items():
        one, other = metrics[first][name], metrics[second][name]
        keys = [key for key in scores if key in results[second].values.get(name, {})]
        if not keys or not isinstance(one, Resampled) or not isinstance(other, Resampled):
            continue
        drawn = min(resamples, int(getattr(one, "resamples", resamples)))
        draws, whole, n = _bootstrap(one, other, drawn, seed)
        for key in keys:
            if key not in whole or scores[key].meaning.startswith(FLOOR):
                continue
            low = high = p = None
            test = ""
            values = draws.get(key, np.empty(0))
            if n >= FEWEST_CASES and len(values) >= 20:
                tail = 100 * (1 - CONFIDENCE) / 2
                low, high = (float(end) for end in np.percentile(values, [tail, 100 - tail]))
                p, test = bootstrap_p(values), "paired bootstrap"
            pairs = _pairs(one, other, key)
            if (
                pairs is not None
                and len(pairs) >= FEWEST_CASES
                and math.isclose(pairs.mean(), whole[key], rel_tol=1e-6, abs_tol=1e-9)
            ):
                p, test = permutation_p(pairs, seed), "paired permutation"
            direction = scores[key].higher_is_better
            ahead = "" if direction is None or whole[key] == 0 else first if (whole[key] > 0) == direction else second
            found.append(Difference(first, second, name, key, whole[key], n, low, high, p, test, ahead))
    return found


def permutation_p(differences: NDArray[np.float64], seed: int) -> float:
    """Two-sided p of a mean difference under flipped signs: exact for few pairs, else from PERMUTATIONS random patterns."""
    n = len(differences)
    if n <= EXACT:
        patterns = 1.0 - 2.0 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
        means = patterns @ differences / n
        return float(np.mean(np.abs(means) >= abs(differences.mean()) * (1 - 1e-12)))
    generator = np.random.default_rng(seed)
    patterns = 1.0 - 2.0 * generator.integers(0, 2, size=(PERMUTATIONS, n))
    means = patterns @ differences / n
    return float((1 + np.sum(np.abs(means) >= abs(differences.mean()) * (1 - 1e-12))) / (PERMUTATIONS + 1))


def bootstrap_p(draws: NDArray[np.float64]) -> float:
    """Two-sided: twice the smaller share of draws on one side of zero, never below what so many draws can show."""
    below, above = float(np.mean(draws <= 0)), float(np.mean(draws >= 0))
    return min(1.0, max(2 * min(below, above), 1 / len(draws)))


def _bootstrap(one: Resampled, other: Resampled, resamples: int, seed: int) -> tuple[dict[str, Any], dict[str, float], int]:
    """(key -> differences over resampled cases, key -> difference over all, cases that both have)."""
    both = sorted(set(one.ids) & set(other.ids))
    if not both:
        return {}, {}, 0
    places = [np.searchsorted(np.asarray(metric.ids), both) for metric in (one, other)]

    def difference(counts: NDArray[np.int64]) -> dict[str, float]:
        values = []
        for metric, place in zip((one, other), places, strict=True):
            own = np.zeros(len(metric.ids), np.int64)
            own[place] = counts
            values.append(metric.estimate(own))
        shared = values[0].keys() & values[1].keys()
        apart = {key: values[0][key] - values[1][key] for key in shared}
        return {key: value for key, value in apart.items() if math.isfinite(value)}

    whole = difference(np.ones(len(both), np.int64))
    draws: dict[str, list[float]] = {}
    generator = np.random.default_rng(seed)
    for _ in range(resamples if len(both) >= FEWEST_CASES else 0):
        counts = np.bincount(generator.integers(len(both), size=len(both)), minlength=len(both)).astype(np.int64)
        for key, value in difference(counts).items():
            draws.setdefault(key, []).append(value)
    return {key: np.asarray(values) for key, values in draws.items()}, whole, len(both)


def _pairs(one: Resampled, other: Resampled, key: str) -> NDArray[np.float64] | None:
    """Differences case by case, None if the metric has no value for single cases."""
    values = one.per_case(), other.per_case()
    both = sorted(set(one.ids) & set(other.ids))
    try:
        pairs = np.array([values[0][case_id][key] - values[1][case_id][key] for case_id in both], np.float64)
    except KeyError:
        return None
    return pairs if np.isfinite(pairs).all() else None
