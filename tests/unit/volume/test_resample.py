"""Resampling and fitting in physical space."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctgen.errors import ConfigError
from ctgen.volume import Volume
from ctgen.volume.body import body_centre_mm
from ctgen.volume.resample import crop_or_pad, fit, resample

SPACINGS = st.tuples(*[st.floats(0.5, 6.0)] * 3)


def positions(volume: Volume) -> np.ndarray:
    """(3, D, H, W) LPS mm of every voxel."""
    index = np.stack([*np.indices(volume.shape), np.ones(volume.shape)]).reshape(4, -1)
    return (volume.affine @ index)[:3].reshape(3, *volume.shape)


def ramp(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> Volume:
    """HU that depend linearly on the position in the patient."""
    volume = Volume.canonical(np.zeros(shape, np.float32), spacing, (-100.0, 50.0, -30.0))
    x, y, z = positions(volume)
    return Volume((2.0 * x - 3.0 * y + 0.5 * z).astype(np.float32), volume.affine)


def edges(volume: Volume) -> tuple[np.ndarray, np.ndarray]:
    ends = np.array([[-0.5, size - 0.5] for size in volume.shape])
    return volume.affine @ [*ends[:, 0], 1], volume.affine @ [*ends[:, 1], 1]


@settings(max_examples=40, deadline=None)
@given(shape=st.tuples(*[st.integers(6, 24)] * 3), old=SPACINGS, new=SPACINGS)
def test_geometry_is_exact_and_the_extent_kept(shape: tuple[int, int, int], old: tuple, new: tuple) -> None:
    volume = ramp(shape, old)
    result = resample(volume, new)
    np.testing.assert_allclose(result.spacing_mm, new)
    for before, after in zip(edges(volume), edges(result), strict=True):
        assert (np.abs(before - after)[:3] <= np.array(new)[::-1] / 4 + 1e-6).all() or min(result.shape) == 1


@settings(max_examples=30, deadline=None)
@given(old=SPACINGS, new=st.tuples(*[st.floats(0.5, 4.5)] * 3))
def test_a_linear_ramp_stays_where_it_is(old: tuple, new: tuple) -> None:
    volume = ramp((40, 40, 40), old)
    result = resample(volume, new)
    x, y, z = positions(result)
    wanted = 2.0 * x - 3.0 * y + 0.5 * z
    # The middle only: near an edge the low-pass sees the last voxel repeated.
    inner = tuple(slice((size - 1) // 2, size // 2 + 1) for size in result.shape)
    np.testing.assert_allclose(result.hu[inner], wanted[inner], atol=0.05)


def test_the_same_spacing_changes_nothing() -> None:
    volume = ramp((5, 6, 7), (2.0, 1.0, 1.5))
    np.testing.assert_array_equal(resample(volume, (2.0, 1.0, 1.5)).hu, volume.hu)


def test_fine_stripes_become_grey_and_not_aliased() -> None:
    hu = np.zeros((4, 120, 8), np.float32)
    hu[:, ::2] = 1000.0
    coarse = resample(Volume.canonical(hu, (1.0, 1.0, 1.0)), (1.0, 3.1, 1.0)).hu[:, 2:-2]
    assert abs(coarse.mean() - 500) < 5
    assert coarse.std() < 60  # plain interpolation gives about 350


def test_a_constant_stays_constant_to_the_edge() -> None:
    result = resample(Volume.canonical(np.full((9, 10, 11), -700, np.int16), (1.0, 1.0, 1.0)), (2.7, 3.3, 0.4))
    np.testing.assert_allclose(result.hu, -700, atol=1e-3)


def test_nearest_keeps_values_and_dtype() -> None:
    labels = np.random.default_rng(0).choice(np.array([0, 7, 104], np.int16), (6, 7, 8))
    result = resample(Volume.canonical(labels, (1.0, 1.0, 1.0)), (0.7, 1.9, 1.0), order="nearest")
    assert result.hu.dtype == np.int16
    assert set(np.unique(result.hu)) <= {0, 7, 104}


@pytest.mark.parametrize("spacing", [(0, 1, 1), (1, 1), (1, 1, float("nan"))])
def test_impossible_spacings_are_refused(spacing: tuple) -> None:
    with pytest.raises(ConfigError, match="three positive numbers"):
        resample(ramp((3, 3, 3), (1, 1, 1)), spacing)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 9)] * 3),
    size=st.tuples(*[st.integers(1, 12)] * 3),
    shift=st.tuples(*[st.floats(-20, 20)] * 3),
)
def test_cropping_and_padding_move_nothing(shape: tuple, size: tuple, shift: tuple) -> None:
    volume = ramp(shape, (2.0, 1.0, 1.5))
    centre = [-100.0 + shift[0], 50.0 + shift[1], -30.0 + shift[2]]
    result = crop_or_pad(volume, size, fill_hu=-9999, centre_mm=centre)
    assert result.shape == size
    inside = result.hu != -9999
    x, y, z = positions(result)
    np.testing.assert_allclose(result.hu[inside], (2.0 * x - 3.0 * y + 0.5 * z)[inside], atol=1e-3)
    middle = (result.affine @ [*((np.array(size) - 1) / 2), 1])[:3]
    assert (np.abs(middle - centre) <= np.array([1.5, 1.0, 2.0]) / 2 + 1e-6).all()


def test_only_the_named_axes_change() -> None:
    volume = ramp((4, 5, 6), (1, 1, 1))
    assert crop_or_pad(volume, (9, 3, 8), fill_hu=0, axes="HW").shape == (4, 3, 8)
    assert crop_or_pad(volume, volume.shape, fill_hu=0) is volume
    with pytest.raises(ConfigError, match="DHW"):
        crop_or_pad(volume, (1, 1, 1), fill_hu=0, axes="XY")


def patient(centre: tuple[int, int], depth: int = 20, table: bool = True) -> Volume:
    """A cylinder of tissue on a thin table, 3 mm voxels, corners padded with -3024."""
    hu = np.full((depth, 100, 100), -1000, np.int16)
    y, x = np.mgrid[:100, :100]
    hu[:, (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < 25**2] = 40
    if table:
        hu[:, centre[0] + 26 : centre[0] + 28, 5:95] = 100
    hu[:, (y - 50) ** 2 + (x - 50) ** 2 > 49**2] = -3024
    return Volume.canonical(hu, (3.0, 3.0, 3.0))


@pytest.mark.parametrize("table", [False, True])
def test_fit_centres_the_body_and_not_the_table(table: bool) -> None:
    volume = patient((45, 60), table=table)
    result = fit(volume, (16, 64, 64), fill_hu=-1000, centre_mm=body_centre_mm(volume))
    assert result.shape == (16, 64, 64)
    assert result.hu.dtype == np.int16
    tissue = np.argwhere(result.hu[8] == 40)
    assert (np.abs(tissue.mean(axis=0) - 31.5) <= 1.0).all()


def test_fit_pads_depth_only_when_asked() -> None:
    short = patient((50, 50), depth=10)
    assert fit(short, (16, 64, 64), fill_hu=-1000).shape == (10, 64, 64)
    padded = fit(short, (16, 64, 64), fill_hu=-1000, pad_depth=True)
    assert padded.shape == (16, 64, 64)
    assert (padded.hu[0] == -1000).all()


def test_fit_survives_a_volume_without_a_body() -> None:
    empty = Volume.canonical(np.full((5, 20, 20), -1000, np.int16), (3, 3, 3))
    assert body_centre_mm(empty) is None
    assert fit(empty, (5, 8, 32), fill_hu=-1000, centre_mm=None, pad_depth=True).shape == (5, 8, 32)


def test_fit_refuses_what_is_not_canonical() -> None:
    volume = patient((50, 50))
    with pytest.raises(ConfigError, match="canonical"):
        fit(Volume(volume.hu, volume.affine @ np.diag([1, -1, 1, 1])), (8, 8, 8), fill_hu=0)


def test_padding_becomes_air_before_it_is_blurred_into_its_surroundings() -> None:
    volume = patient((50, 50))
    clean = Volume(np.maximum(volume.hu, np.int16(-1024)), volume.affine)
    for spacing in ((3.0, 3.0, 3.0), (6.0, 7.0, 5.0)):
        raised = resample(volume, spacing, floor_hu=-1024)
        np.testing.assert_array_equal(raised.hu, resample(clean, spacing).hu)
        assert raised.hu.min() >= -1024
    assert resample(volume, (6.0, 7.0, 5.0)).hu.min() < -1500


def test_speed() -> None:
    volume = Volume.canonical(np.zeros((133, 512, 512), np.int16), (2.5, 0.7, 0.7))
    started = time.process_time()
    assert resample(volume, (3.0, 3.0, 3.0)).shape == (111, 119, 119)
    assert time.process_time() - started < 6.0  # about 0.5 s on an idle core
