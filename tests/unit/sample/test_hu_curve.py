"""The HU curve: what it does to a voxel, what is refused, and that a fitted one brings histograms together."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from ctgen.recipe.settings import SampleSettings
from ctgen.sample.hu_curve import calibrated, fitted

CURVE = ((-900.0, -880.0), (-60.0, -90.0), (0.0, -10.0), (100.0, 100.0))


def test_points_are_met_lines_are_straight_and_ends_keep_their_shift():
    hu = np.array([-1000.0, -900.0, -480.0, -60.0, -30.0, 0.0, 50.0, 100.0, 700.0], dtype=np.float32)
    found = calibrated(hu, CURVE)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [-980, -880, -485, -90, -50, -10, 45, 100, 700], atol=1e-3)
    assert calibrated(hu, ()) is hu


def test_order_is_kept():
    hu = np.linspace(-1024, 3071, 5000)
    assert (np.diff(calibrated(hu, CURVE)) > 0).all()


@pytest.mark.parametrize(
    ("curve", "message"),
    [
        ([[0, 10]], "one pair makes no curve"),
        ([[0, 10], [0, 20]], "both HU must rise"),
        ([[0, 10], [5, 10]], "both HU must rise"),
        ([[0, 10], [5000, 5000]], "3071"),
    ],
)
def test_what_is_no_curve_is_refused(curve, message):
    with pytest.raises(ValidationError, match=message):
        SampleSettings(hu_curve=curve)


def test_no_curve_leaves_the_identity_as_it_was():
    assert "hu_curve" not in SampleSettings().identity()
    assert SampleSettings(hu_curve=CURVE).identity()["hu_curve"] == [list(pair) for pair in CURVE]


def test_a_fitted_curve_gives_other_draws_the_real_quantiles():
    rng = np.random.default_rng(0)

    def draw(fat, number):
        lung, soft = rng.normal(-860, 40, number), rng.normal(40, 30, number)
        return np.rint(np.concatenate([lung, rng.normal(fat, 20, number), soft])).astype(np.int16)

    made, real = draw(-60, 4000), draw(-100, 5000)
    curve = fitted([made[:5000], made[5000:]], [real], range(-1000, 200, 20))
    SampleSettings(hu_curve=curve)
    others, truth = draw(-60, 6000), draw(-100, 6000)
    shares = np.linspace(0.01, 0.99, 50)
    before, after = (
        np.abs(np.quantile(values, shares) - np.quantile(truth, shares)).mean()
        for values in (others, calibrated(others, curve))
    )
    assert after < before / 4


def test_a_curve_fitted_to_the_same_voxels_is_none():
    hu = np.arange(-1000, 1000, dtype=np.int16).repeat(3)
    curve = fitted([hu], [hu], (-2000, -900, -100, 0, 50, 4000))
    assert [decoded for decoded, _ in curve] == [-900, -100, 0, 50], "knots outside the values say nothing"
    assert all(abs(decoded - wanted) <= 1 for decoded, wanted in curve)


def test_nothing_to_fit_to():
    hu = np.zeros(3, dtype=np.int16)
    with pytest.raises(ValueError, match="no voxels"):
        fitted([hu], [], (0,))
    assert fitted([hu], [hu + 5], (-10, 0, 10)) == [(0.0, 5.0)]
