"""Flips and permutations: exact, and back."""

from __future__ import annotations

import itertools

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from ctgen.volume import Volume
from ctgen.volume.orient import from_canonical, orientation_code, orientation_of, to_canonical

AXES = [
    np.eye(3)[list(order)] * np.array(signs)
    for order in itertools.permutations(range(3))
    for signs in itertools.product([1, -1], repeat=3)
]


def volume_along(axes: np.ndarray, turn: np.ndarray | None = None) -> Volume:
    affine = np.eye(4)
    affine[:3, :3] = (axes if turn is None else turn @ axes) * [2.5, 0.7, 0.9]
    affine[:3, 3] = (-10.0, 20.0, -300.0)
    return Volume(np.arange(60, dtype=np.int16).reshape(3, 4, 5), affine)


def position_of(volume: Volume, value: int) -> np.ndarray:
    return (volume.affine @ [*np.argwhere(volume.hu == value)[0], 1])[:3]


@settings(max_examples=60, deadline=None)
@given(index=st.integers(0, 47), angles=st.tuples(*[st.floats(-25, 25)] * 3), value=st.integers(0, 59))
def test_every_voxel_stays_where_it_is_in_the_patient(index: int, angles: tuple[float, ...], value: int) -> None:
    native = volume_along(AXES[index], Rotation.from_euler("xyz", angles, degrees=True).as_matrix())
    canonical, orientation = to_canonical(native)
    np.testing.assert_allclose(position_of(canonical, value), position_of(native, value), atol=1e-9)
    assert orientation_of(canonical.affine).is_canonical
    back = from_canonical(canonical, orientation)
    np.testing.assert_array_equal(back.hu, native.hu)
    np.testing.assert_allclose(back.affine, native.affine, atol=1e-9)


@pytest.mark.parametrize("axes", AXES)
def test_codes_are_nibabels(axes: np.ndarray) -> None:
    affine = volume_along(axes).affine
    ras = np.diag([-1, -1, 1, 1]) @ affine @ np.eye(4)[[2, 1, 0, 3]]
    assert orientation_code(affine) == "".join(nibabel.aff2axcodes(ras))


def test_canonical_means_inferior_to_superior_front_to_back_right_to_left() -> None:
    volume = Volume.canonical(np.zeros((3, 4, 5), np.int16), (2.5, 0.7, 0.9))
    assert orientation_code(volume.affine) == "LPS"
    assert to_canonical(volume)[0] is volume
    x, y, z = (volume.affine @ [1, 0, 0, 0])[:3]
    assert (x, y, z) == (0, 0, 2.5)


def test_results_can_be_handed_to_torch() -> None:
    canonical, orientation = to_canonical(volume_along(AXES[7]))
    assert canonical.hu.flags.c_contiguous
    assert from_canonical(canonical, orientation).hu.flags.c_contiguous


def test_a_crop_in_between_is_carried_back() -> None:
    native = volume_along(AXES[13])
    canonical, orientation = to_canonical(native)
    affine = canonical.affine.copy()
    affine[:3, 3] += canonical.affine[:3, 0]
    back = from_canonical(Volume(canonical.hu[1:], affine), orientation)
    value = int(back.hu.max())
    np.testing.assert_allclose(position_of(back, value), position_of(native, value), atol=1e-9)
