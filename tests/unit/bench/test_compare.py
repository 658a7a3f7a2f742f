"""Differences of two models: tests that hold their level, and see what is there."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from ctgen.bench.compare import bootstrap_p, compare, permutation_p
from ctgen.evaluate.configs import CostConfig
from ctgen.evaluate.cost import Cost
from ctgen.evaluate.driver import evaluate
from ctgen.interfaces import EvaluationItem
from ctgen.testing import phantom


@pytest.mark.parametrize("n", [5, 9, 13])
def test_the_exact_permutation_test_is_scipys(n):
    differences = np.random.default_rng(n).normal(0.4, 1.0, n)
    theirs = stats.permutation_test(
        (differences,), lambda x, axis: x.mean(axis=axis), permutation_type="samples", vectorized=True, n_resamples=np.inf
    )
    assert permutation_p(differences, 0) == pytest.approx(theirs.pvalue, abs=1e-12)


def test_random_permutations_come_near_the_exact_value():
    differences = np.random.default_rng(1).normal(0.5, 1.0, 40)
    assert permutation_p(differences, 0) == pytest.approx(stats.ttest_1samp(differences, 0).pvalue, abs=0.01)


def test_without_a_difference_one_in_twenty_is_marked():
    generator = np.random.default_rng(3)
    found = [permutation_p(generator.normal(0, 1, 10), 0) < 0.05 for _ in range(400)]
    assert 0.02 < np.mean(found) < 0.085


def test_bootstrap_p_is_two_sided_and_never_zero():
    assert bootstrap_p(np.full(100, 2.0)) == pytest.approx(0.01)
    assert bootstrap_p(np.r_[np.full(50, -1.0), np.full(50, 1.0)]) == 1.0
    assert bootstrap_p(np.r_[np.full(5, -1.0), np.full(95, 1.0)]) == pytest.approx(0.1)


def scored(seconds):
    volume = phantom((4, 8, 8), (10.0, 10.0, 10.0))
    metric = Cost(CostConfig())
    items = [EvaluationItem(f"c{index}", generated=volume, seconds=value) for index, value in enumerate(seconds)]
    return evaluate(items, {"cost": metric}, resamples=50), {"cost": metric}


def test_the_faster_model_is_ahead_by_its_mean():
    base = np.linspace(1, 2, 8)
    (slow, slow_metrics), (fast, fast_metrics) = scored(base + 0.5), scored(base)
    results, metrics = {"slow": slow, "fast": fast}, {"slow": slow_metrics, "fast": fast_metrics}
    found = {entry.key: entry for entry in compare("slow", "fast", results, metrics, resamples=200, seed=0)}
    one = found["seconds_per_volume"]
    assert one.value == pytest.approx(0.5) and one.better == "fast" and one.n == 8
    assert one.test == "paired permutation" and one.p == pytest.approx(2 / 2**8)
    assert one.low == pytest.approx(0.5) and one.high == pytest.approx(0.5)


def test_only_cases_that_both_have_are_compared():
    (one, one_metrics), (other, other_metrics) = scored([1.0, 2.0, 3.0, 4.0]), scored([1.0, 2.0, 3.0])
    results, metrics = {"a": one, "b": other}, {"a": one_metrics, "b": other_metrics}
    found = {entry.key: entry for entry in compare("a", "b", results, metrics, resamples=50, seed=0)}
    assert found["seconds_per_volume"].n == 3
    assert found["seconds_per_volume"].value == 0.0 and found["seconds_per_volume"].better == ""
