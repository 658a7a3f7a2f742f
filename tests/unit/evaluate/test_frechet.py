"""The Frechet distance against SciPy, torchmetrics and the values of the parity fixture."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from scipy import linalg
from torchmetrics.image.fid import _compute_fid

from ctgen.evaluate.frechet import Gram, frechet_of_moments, frechet_of_rows
from ctgen.evaluate.moments import Moments


@pytest.fixture(scope="module")
def fixture(shared_folder):
    folder = shared_folder / "fixtures" / "frechet"
    if not folder.is_dir():
        pytest.skip(f"no fixture at {folder}")
    return load_file(folder / "io.safetensors"), json.loads((folder / "expected.json").read_text())


def moments_of(rows, parts=1):
    moments = Moments(rows.shape[1])
    for part in np.array_split(rows, parts):
        moments.add(part)
    return moments


def sets(n, m, width, seed=0):
    random = np.random.default_rng(seed)
    mix = random.normal(size=(width, width)) / np.sqrt(width)
    return random.normal(size=(n, width)) @ mix + 30.0, 1.2 * random.normal(size=(m, width)) + 30.3


def by_scipy(one, other):
    first, second = np.cov(one.T), np.cov(other.T)
    apart = one.mean(0) - other.mean(0)
    root = np.trace(linalg.sqrtm(first @ second)).real
    return apart @ apart + np.trace(first) + np.trace(second) - 2 * root


def test_moments_are_the_covariance_however_they_are_split():
    rows = sets(700, 1, 12)[0] + 1e3
    for parts in (1, 3, 50):
        moments = moments_of(rows, parts)
        np.testing.assert_allclose(moments.mean, rows.mean(0), rtol=1e-13)
        np.testing.assert_allclose(moments.covariance(), np.cov(rows.T), rtol=1e-9, atol=1e-12)
    merged = moments_of(rows[:123], 4)
    merged.merge(moments_of(rows[123:], 5))
    merged.merge(Moments(12))
    np.testing.assert_allclose(merged.covariance(0), np.cov(rows.T, ddof=0), rtol=1e-9, atol=1e-12)
    assert merged.trace() == pytest.approx(np.trace(np.cov(rows.T)), rel=1e-10)


def test_memory_does_not_grow_with_the_number_of_rows():
    def peak(chunks):
        rows = np.random.default_rng(0).normal(size=(64, 48)).astype(np.float32)
        tracemalloc.start()
        sets = Moments(48), Moments(48)
        for _ in range(chunks):
            for moments in sets:
                moments.add(rows)
        frechet_of_moments(*sets)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(2)
    assert peak(200) < peak(10) + 4096


def test_a_weight_is_a_repetition():
    rows = sets(60, 1, 5)[0]
    moments = Moments(5)
    moments.add(rows[:20], 3)
    moments.add(rows[20:])
    again = np.concatenate([rows[:20]] * 3 + [rows[20:]])
    np.testing.assert_allclose(moments.covariance(), np.cov(again.T), rtol=1e-10, atol=1e-13)


def test_full_rank_agrees_with_scipy_and_torchmetrics():
    one, other = sets(400, 350, 24)
    value = frechet_of_moments(moments_of(one, 7), moments_of(other, 3))
    assert value == pytest.approx(by_scipy(one, other), rel=1e-9)
    theirs = _compute_fid(*(torch.from_numpy(part) for rows in (one, other) for part in (rows.mean(0), np.cov(rows.T))))
    assert value == pytest.approx(float(theirs), rel=1e-9)
    assert frechet_of_rows(one, other) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(("n", "m"), [(10, 12), (10, 200), (200, 10), (30, 31)])
def test_rows_and_moments_agree_where_rows_are_few(n, m):
    one, other = sets(n, m, 30)
    assert frechet_of_rows(one, other) == pytest.approx(frechet_of_moments(moments_of(one), moments_of(other)), rel=1e-6)


def test_weighted_gram_is_the_distance_of_repeated_rows():
    one, other = sets(15, 11, 40)
    w, v = np.arange(15) % 3, 1 + np.arange(11) % 2
    wanted = frechet_of_rows(np.repeat(one, w, axis=0), np.repeat(other, v, axis=0))
    assert Gram(one, other).distance(w, v) == pytest.approx(wanted, rel=1e-9)


def test_constant_features_and_equal_sets():
    one, other = sets(300, 300, 10)
    one[:, 3] = other[:, 3] = 5.0
    other[:, 7] = 2.0
    value = frechet_of_moments(moments_of(one), moments_of(other))
    assert value == pytest.approx(by_scipy(one, other), rel=1e-5)
    assert frechet_of_moments(moments_of(one), moments_of(one)) == pytest.approx(0, abs=1e-8)
    with pytest.raises(ValueError, match="2 rows"):
        frechet_of_moments(moments_of(one[:1]), moments_of(other))


def test_fixture(fixture):
    tensors, expected = fixture
    a, b, low_a, low_b = (tensors[name].astype(np.float64) for name in ("feat_a", "feat_b", "low_a", "low_b"))
    full, low = expected["frechet"]["full_rank"], expected["frechet"]["rank_deficient"]
    assert frechet_of_moments(moments_of(a, 9), moments_of(b)) == pytest.approx(full["exact_nuclear_norm"], rel=1e-9)
    biased = frechet_of_moments(moments_of(a), moments_of(b), ddof=0)
    assert biased == pytest.approx(full["exact_with_biased_covariance_1_over_n"], rel=1e-9)
    assert frechet_of_rows(low_a, low_b) == pytest.approx(low["exact_nuclear_norm"], rel=1e-9)
    for name in ("torchmetrics__compute_fid", "scipy_sqrtm_plain", "monai_get_fid_score"):
        assert frechet_of_rows(low_a, low_b) == pytest.approx(low[name], rel=1e-6)
        assert frechet_of_rows(a, b) == pytest.approx(full[name], rel=1e-9)
    groups = expected["mean_over_groups_of_4"]
    found = [frechet_of_rows(a[k : k + 4], b[k : k + 4]) for k in range(0, 280, 4)]
    assert np.mean(found) == pytest.approx(groups["mean"], rel=1e-9)
