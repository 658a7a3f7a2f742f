"""Volumes of other people: what is refused, and how the rest comes to the real scan's grid."""

from __future__ import annotations

import numpy as np
import pytest

from ctgen.bench.volumes import content_problem, geometry_problem, match, on_grid_of, shifted, volume_files
from ctgen.errors import DataError
from ctgen.testing import phantom
from ctgen.volume import Volume
from ctgen.volume.io import write_volume

REAL = phantom((30, 40, 44), (8.0, 10.0, 10.0), seed=1)


def test_the_same_geometry_is_fine_and_untouched():
    assert geometry_problem(REAL, REAL) == "" and content_problem(REAL, REAL) == ""
    placed, note = on_grid_of(REAL, REAL)
    assert placed is REAL and note == ""


def test_exchanged_axes_are_a_wrong_orientation():
    turned = Volume.canonical(np.ascontiguousarray(REAL.hu.transpose(1, 0, 2)), (10.0, 8.0, 10.0))
    assert "wrong orientation" in geometry_problem(turned, REAL)


def test_half_a_volume_is_truncated_and_another_field_of_view_is_not():
    assert "truncated" in geometry_problem(Volume(REAL.hu[:12], REAL.affine), REAL)
    assert geometry_problem(Volume(REAL.hu[:25, :30], REAL.affine), REAL) == ""


def test_upside_down_is_seen_in_the_voxels():
    hu = np.full((30, 40, 44), -1000, np.int16)
    hu[3:20, 8:30, 8:36] = 40
    hu[12:18, 12:26, 14:30] = -800
    real = Volume.canonical(hu, (8.0, 10.0, 10.0))
    flipped = Volume(np.ascontiguousarray(hu[::-1]), real.affine)
    assert content_problem(real, real) == ""
    assert "upside down" in content_problem(flipped, real)
    noise = np.random.default_rng(0).normal(0, 200, hu.shape).astype(np.float32)
    assert content_problem(Volume(noise, real.affine), real) == ""


def test_another_spacing_is_resampled_about_the_same_middle():
    fine = phantom((60, 40, 44), (4.0, 10.0, 10.0), seed=1)
    placed, note = on_grid_of(fine, REAL)
    assert placed.shape == REAL.shape and placed.hu.dtype == np.int16
    assert "resampled" in note
    assert placed.spacing_mm == pytest.approx(REAL.spacing_mm)


def test_boundaries_move_with_the_slices():
    before = Volume.canonical(np.zeros((60, 4, 4), np.int16), (4.0, 10.0, 10.0))
    after = Volume.canonical(np.zeros((40, 4, 4), np.int16), (8.0, 10.0, 10.0))
    assert shifted((20, 40), before, after) == (15, 25)


def test_files_are_found_by_stem_and_two_of_one_case_are_refused(tmp_path):
    for name in ("a.nii.gz", "b.mha", "x.nii.gz"):
        write_volume(REAL, tmp_path / name)
    found = match(tmp_path, ["a", "b", "c"])
    assert sorted(found.files) == ["a", "b"]
    assert [entry.id for entry in found.left_out] == ["c"] and found.unknown == ["x"]
    write_volume(REAL, tmp_path / "a.mha")
    with pytest.raises(DataError, match="both case 'a'"):
        volume_files(tmp_path)


def test_no_file_of_any_case_shows_what_there_is(tmp_path):
    write_volume(REAL, tmp_path / "volume_0.nii.gz")
    with pytest.raises(DataError, match="volume_0"):
        match(tmp_path, ["a"])
