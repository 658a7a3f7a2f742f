from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import wasserstein_distance

from ctgen.evaluate.configs import HuHistogramConfig
from ctgen.evaluate.hu_histogram import RANGES_HU, HuHistogram, bin_centres, histogram, jensen_shannon, wasserstein_hu
from ctgen.interfaces import EvaluationItem
from ctgen.volume import Volume

WINDOW = (-1000.0, 1000.0)


def body(seed):
    """Voxels of all tissues, well inside their ranges."""
    generator = np.random.default_rng(seed)
    centres = generator.choice([-990.0, -800.0, -100.0, 50.0, 400.0], size=(8, 16, 16))
    return np.round(centres + generator.uniform(-5, 5, centres.shape)).astype(np.int16)


def item(case_id, real, generated, reconstructed=None):
    volumes = [None if hu is None else Volume.canonical(hu, (3.0, 3.0, 3.0)) for hu in (real, generated, reconstructed)]
    return EvaluationItem(case_id, real=volumes[0], generated=volumes[1], reconstructed=volumes[2])


def metric_of(*items, **fields):
    metric = HuHistogram(HuHistogramConfig(**fields))
    for each in items:
        metric.update(each)
    return metric


def test_identical_volumes_are_at_distance_zero():
    found = metric_of(item("a", body(0), body(0), body(0)), item("b", body(1), body(1), body(1))).compute()
    assert found.pop("wasserstein_hu_real_halves") > 0
    assert found == dict.fromkeys(found, 0.0)
    assert {f"wasserstein_hu.{name}" for name in RANGES_HU} <= found.keys()


def test_a_shift_of_one_tissue_is_measured_in_hu_and_only_there():
    real = body(0)
    made = np.where((real > -30) & (real < 150), real + 15, real)
    found = metric_of(item("a", real, made)).compute()
    assert found["wasserstein_hu.soft"] == pytest.approx(15.0)
    assert found["wasserstein_hu.lung"] == 0 and found["wasserstein_hu.bone"] == 0 and found["share_error.soft"] == 0
    assert found["wasserstein_hu"] == pytest.approx(15.0 * np.mean((real > -30) & (real < 150)))


def test_missing_bone_is_a_share_error_without_a_distance():
    real = body(0)
    found = metric_of(item("a", real, np.where(real > 150, 50, real))).compute()
    assert found["share_error.bone"] == pytest.approx(np.mean(real > 150)) and found["share_error.air"] == 0
    assert "wasserstein_hu.bone" not in found


def test_distances_agree_with_scipy():
    generator = np.random.default_rng(0)
    one, other = (histogram(generator.normal(m, 200, (4, 30, 30)).clip(*WINDOW), WINDOW, 5.0) for m in (0, 60))
    centres = bin_centres(WINDOW, 5.0)
    assert wasserstein_hu(one, other, 5.0) == pytest.approx(wasserstein_distance(centres, centres, one, other), rel=1e-9)
    assert jensen_shannon(one, other) == pytest.approx(jensenshannon(one, other, base=2), rel=1e-9)
    assert jensen_shannon(np.array([1.0, 0.0]), np.array([0.0, 3.0])) == 1.0


def test_bins_hold_every_voxel_and_clip_at_the_ends():
    hu = np.array([-1000.0, -997.6, -997.4, 0.0, 999.9, 1000.0]).reshape(1, 2, 3)
    counts = histogram(hu, WINDOW, 5.0)
    assert counts.sum() == 6 and counts[0] == 2 and counts[1] == 1 and counts[200] == 1 and counts[400] == 2
    found = metric_of(item("a", np.full((2, 4, 4), -3024), np.full((2, 4, 4), -1000))).compute()
    assert found["wasserstein_hu"] == 0


def test_halves_merge_to_the_whole_in_any_order():
    items = [item(str(k), body(k), body(k + 10) + k, body(k) + 1) for k in range(5)]
    left, right = metric_of(*items[3:]), metric_of(*reversed(items[:3]))
    left.merge(right)
    assert left.compute() == metric_of(*items).compute()


def test_pooling_differs_from_averaging():
    low, high = np.zeros((2, 4, 4)), np.full((2, 4, 4), 100)
    found = metric_of(item("a", low, high), item("b", high, low))
    assert found.compute()["wasserstein_hu"] == 0
    assert {values["wasserstein_hu"] for values in found.per_case().values()} == {100.0}
