"""Canonical orientation and back is the identity: any orientation, flips, obliqueness, spacing, size and type; also by file."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from ctgen.recipe.settings import PrepareSettings
from ctgen.stages.prepare import to_grid
from ctgen.volume import Volume
from ctgen.volume.io import read_volume, write_volume
from ctgen.volume.orient import from_canonical, orientation_of, to_canonical

AXES = [
    np.eye(3)[list(order)] * np.array(signs)
    for order in itertools.permutations(range(3))
    for signs in itertools.product([1, -1], repeat=3)
]
SPACING = st.floats(0.05, 12.0).map(lambda value: round(value, 4))


@st.composite
def volumes(draw: st.DrawFn, *, oblique: float = 30.0, sheared: bool = False) -> Volume:
    """Any axis order and direction, turned by up to ``oblique`` degrees; voxels all different."""
    shape = draw(st.tuples(*[st.integers(2, 7)] * 3))
    spacing = np.array(draw(st.tuples(*[SPACING] * 3)))
    angles = draw(st.tuples(*[st.floats(-oblique, oblique)] * 3))
    axes = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ AXES[draw(st.integers(0, 47))]
    if sheared:
        axes = axes @ np.array([[1, draw(st.floats(-0.3, 0.3)), 0], [0, 1, 0], [0, 0, 1]])
        axes /= np.linalg.norm(axes, axis=0)
    affine = np.eye(4)
    affine[:3, :3] = axes * spacing
    affine[:3, 3] = draw(st.tuples(*[st.floats(-900, 900)] * 3))
    dtype = draw(st.sampled_from([np.int16, np.float32]))
    hu = (np.arange(np.prod(shape)).reshape(shape) * 1.25 - 200).astype(dtype)
    return Volume(hu, affine)


@settings(max_examples=150, deadline=None)
@given(native=volumes(sheared=True), copy=st.booleans())
def test_canonical_and_back_is_the_identity(native: Volume, copy: bool) -> None:
    canonical, orientation = to_canonical(native, copy=copy)
    assert orientation_of(canonical.affine).is_canonical
    back = from_canonical(canonical, orientation)
    assert back.hu.dtype == native.hu.dtype
    np.testing.assert_array_equal(back.hu, native.hu)
    np.testing.assert_allclose(back.affine, native.affine, rtol=0, atol=1e-9)
    np.testing.assert_allclose(sorted(canonical.spacing_mm), sorted(native.spacing_mm), rtol=1e-12)
    # canonical is a fixed point
    again, identity = to_canonical(canonical)
    assert identity.is_canonical and again is canonical


@settings(max_examples=100, deadline=None)
@given(native=volumes(), flips=st.tuples(*[st.booleans()] * 3))
def test_flipping_the_axes_of_a_file_does_not_change_what_is_canonical(native: Volume, flips: tuple[bool, ...]) -> None:
    """The same patient stored the other way round: the same voxels at the same places."""
    hu, affine = native.hu, native.affine.copy()
    for axis, flip in enumerate(flips):
        if flip:
            hu = np.flip(hu, axis)
            affine[:3, 3] += affine[:3, axis] * (hu.shape[axis] - 1)
            affine[:3, axis] *= -1
    one, other = to_canonical(native)[0], to_canonical(Volume(np.ascontiguousarray(hu), affine))[0]
    np.testing.assert_array_equal(one.hu, other.hu)
    np.testing.assert_allclose(one.affine, other.affine, rtol=0, atol=1e-9)


@pytest.mark.parametrize("suffix", [".nii.gz", ".mha", ".nrrd"])
def test_through_a_file_and_back(tmp_path: Path, suffix: str) -> None:
    @settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(native=volumes())
    def check(native: Volume) -> None:
        canonical, orientation = to_canonical(native)
        path = write_volume(canonical, tmp_path / f"volume{suffix}")
        back = from_canonical(read_volume(path), orientation)
        np.testing.assert_array_equal(back.hu, native.hu)
        # NIfTI keeps its affine in single precision
        np.testing.assert_allclose(back.affine, native.affine, rtol=0, atol=2e-3 if suffix == ".nii.gz" else 1e-6)

    check()


@settings(max_examples=60, deadline=None)
@given(native=volumes(oblique=20.0))
def test_a_grid_that_keeps_the_spacing_moves_no_voxel(native: Volume) -> None:
    """Cropped and padded, every voxel of the grid that was in the scan has the value that the scan has at its place."""
    grid = to_grid(native, PrepareSettings(size=(4, 8, 8), spacing_mm="keep", fill_hu=-1000))
    canonical = to_canonical(native)[0]
    np.testing.assert_allclose(grid.spacing_mm, canonical.spacing_mm, rtol=1e-9)
    index = np.stack([*np.indices(grid.shape), np.ones(grid.shape)]).reshape(4, -1)
    there = np.rint(np.linalg.solve(canonical.affine, grid.affine @ index)[:3]).astype(int)
    inside = ((there >= 0) & (there < np.array(canonical.shape)[:, None])).all(0)
    found = grid.hu.reshape(-1)
    np.testing.assert_array_equal(found[inside], canonical.hu[tuple(there[:, inside])])
    assert (found[~inside] == -1000).all()
    assert inside.sum() == np.prod([min(have, size) for have, size in zip(canonical.shape, (4, 8, 8), strict=True)])
