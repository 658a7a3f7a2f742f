from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from ctgen.evaluate.configs import ContinuityConfig
from ctgen.evaluate.continuity import Continuity, seam_ratio, second_differences, slice_differences
from ctgen.interfaces import EvaluationItem
from ctgen.volume import Volume

STARTS = (8, 16, 24)


def zigzag(depth=32, step=10.0):
    """Neighbouring slices differ by ``step`` everywhere, and bend everywhere by twice that."""
    return np.broadcast_to((np.arange(depth) % 2 * step)[:, None, None], (depth, 6, 5)).astype(np.float32).copy()


def scored(hu, starts=STARTS, real=None):
    metric = Continuity(ContinuityConfig())
    canonical = lambda array: Volume.canonical(array, (3.0, 3.0, 3.0))  # noqa: E731
    metric.update(
        EvaluationItem("a", generated=canonical(hu), real=None if real is None else canonical(real), boundaries=starts)
    )
    return metric.compute()


def test_uniform_differences_give_exactly_one():
    found = scored(zigzag())
    assert found == {"boundary_ratio": pytest.approx(1.0), "boundary_ratio_2nd": pytest.approx(1.0)}


def test_a_planted_seam_of_20_hu_is_seen_where_it_is():
    hu = zigzag()
    for start in STARTS:
        hu[start:] -= 20.0  # down, onto a downward step: |dz| there becomes 30 instead of 10
    found = scored(hu)
    assert found["boundary_ratio"] == pytest.approx(3.0)
    assert found["boundary_ratio_2nd"] > 1.5
    elsewhere = scored(hu, tuple(start + 3 for start in STARTS))
    assert elsewhere["boundary_ratio"] < 1.0


def test_the_ratio_grows_with_the_seam_in_noise():
    noise = np.random.default_rng(0).normal(0, 15, (32, 32, 32)).astype(np.float32)
    ratios = []
    for seam in (0, 10, 20, 40, 80):
        hu = noise.copy()
        for start in STARTS:
            hu[start:] += seam
        ratios.append(scored(hu)["boundary_ratio"])
    assert ratios[0] == pytest.approx(1.0, abs=0.03)
    assert all(more > 1.02 * less for less, more in pairwise(ratios))


def test_differences_in_closed_form():
    hu = np.array([0.0, 1.0, 4.0, 9.0, 16.0])[:, None, None] * np.ones((1, 3, 2))
    assert slice_differences(hu).tolist() == [1, 3, 5, 7]
    assert second_differences(hu).tolist() == [2, 2, 2]
    assert seam_ratio(np.array([1.0, 3.0, 5.0, 7.0]), [1, 9]) == pytest.approx(3 / (13 / 3))


def test_flat_blocks_with_a_step_are_infinitely_rough_and_flat_volumes_perfect():
    hu = np.zeros((16, 4, 4), np.float32)
    assert scored(hu, (8,))["boundary_ratio"] == 1.0
    hu[8:] = 20
    assert scored(hu, (8,))["boundary_ratio"] == np.inf


def test_a_volume_without_seams_has_no_say():
    assert scored(zigzag(), ()) == {}
    assert scored(zigzag(), (0, 32)) == {}


def test_the_real_scan_is_a_floor_and_may_be_shorter():
    assert scored(zigzag(), real=zigzag(20))["boundary_ratio_real"] == pytest.approx(1.0)
    assert "boundary_ratio_real" not in scored(zigzag(), real=zigzag(8))
