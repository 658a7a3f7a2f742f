"""Round trips through files, read back by SimpleITK and nibabel."""

from __future__ import annotations

import itertools
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from ctgen.errors import VolumeError
from ctgen.volume import Volume
from ctgen.volume.io import VOLUME_SUFFIXES, is_volume_file, probe_volume, read_volume, volume_stem, write_volume

FEW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SIGNED_PERMUTATIONS = [
    np.eye(3)[list(order)] * np.array(signs)
    for order in itertools.permutations(range(3))
    for signs in itertools.product([1, -1], repeat=3)
]


@st.composite
def volumes(draw: st.DrawFn) -> Volume:
    """Any flip and permutation, oblique or not, any spacing, int16 or float32."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = draw(st.tuples(*[st.integers(2, 7)] * 3))
    spacing = np.array(draw(st.tuples(*[st.floats(0.3, 9.0)] * 3)))
    axes = SIGNED_PERMUTATIONS[draw(st.integers(0, 47))]
    turn = Rotation.from_euler("xyz", draw(st.tuples(*[st.floats(-30, 30)] * 3)), degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = (turn if draw(st.booleans()) else np.eye(3)) @ axes * spacing
    affine[:3, 3] = draw(st.tuples(*[st.floats(-500, 500)] * 3))
    hu = rng.integers(-3024, 3000, shape)
    return Volume(hu.astype(np.int16) if draw(st.booleans()) else (hu + rng.random(shape)).astype(np.float32), affine)


def corners(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return affine @ np.array([[*index, 1] for index in itertools.product(*[(0, size - 1) for size in shape])], float).T


def geometry_of_itk(image: sitk.Image) -> np.ndarray:
    """(d, h, w, 1) to LPS, from SimpleITK's own mapping of points."""
    affine = np.eye(4)
    affine[:3, 3] = image.TransformIndexToPhysicalPoint((0, 0, 0))
    for axis, index in enumerate([(0, 0, 1), (0, 1, 0), (1, 0, 0)]):
        affine[:3, axis] = np.array(image.TransformIndexToPhysicalPoint(index)) - affine[:3, 3]
    return affine


@FEW
@given(volume=volumes(), suffix=st.sampled_from(VOLUME_SUFFIXES))
def test_what_is_written_reads_back_the_same_here_and_in_simpleitk(tmp_path: Path, volume: Volume, suffix: str) -> None:
    # A name per format: given v.nii beside v.nii.gz, SimpleITK reads the voxels of the former for both.
    path = write_volume(volume, tmp_path / f"{suffix.replace('.', '')}{suffix}")
    back = read_volume(path)
    assert back.hu.dtype == volume.hu.dtype
    np.testing.assert_array_equal(back.hu, volume.hu)
    np.testing.assert_allclose(corners(back.affine, back.shape), corners(volume.affine, volume.shape), atol=1e-4)
    image = sitk.ReadImage(str(path))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), volume.hu)
    np.testing.assert_allclose(corners(geometry_of_itk(image), volume.shape), corners(volume.affine, volume.shape), atol=1e-4)


@FEW
@given(volume=volumes())
def test_nibabel_sees_the_same_voxels_and_geometry_in_sform_and_qform(tmp_path: Path, volume: Volume) -> None:
    image = nibabel.load(write_volume(volume, tmp_path / "v.nii.gz"))
    np.testing.assert_array_equal(np.asarray(image.dataobj).T, volume.hu)
    assert int(image.header["sform_code"]) == 1
    assert image.header.get_xyzt_units()[0] == "mm"
    forms = [image.affine, image.header.get_sform()]
    # there is none where a quaternion in float32 is not exact enough, as for some turns of nearly 180 degrees
    oblique = np.count_nonzero(volume.affine[:3, :3]) > 3
    if int(image.header["qform_code"]) or not oblique:
        forms.append(image.header.get_qform(coded=True)[0])
    for affine in forms:
        as_lps = np.diag([-1, -1, 1, 1]) @ affine @ np.eye(4)[[2, 1, 0, 3]]
        np.testing.assert_allclose(corners(as_lps, volume.shape), corners(volume.affine, volume.shape), atol=1e-4)


@pytest.mark.parametrize("suffix", [".nii.gz", ".mha", ".nrrd"])
def test_equal_volumes_give_equal_bytes(tmp_path: Path, suffix: str) -> None:
    volume = Volume.canonical(np.arange(60, dtype=np.int16).reshape(3, 4, 5), (2, 1, 1))
    first = write_volume(volume, tmp_path / f"a{suffix}").read_bytes()
    assert write_volume(volume, tmp_path / f"b{suffix}").read_bytes() == first


def test_int16_where_nothing_is_lost(tmp_path: Path) -> None:
    def stored(hu: np.ndarray) -> np.dtype:
        return read_volume(write_volume(Volume.canonical(hu, (1, 1, 1)), tmp_path / "v.nii.gz")).hu.dtype

    whole = np.full((2, 3, 4), -8192.0, np.float32)
    assert stored(whole) == np.int16
    assert stored(whole + np.float32(0.5)) == np.float32
    assert stored(np.full((2, 3, 4), 40000, np.int32)) == np.float32
    assert stored(np.full((2, 3, 4), 7, np.uint8)) == np.int16


def test_the_rescale_of_the_header_is_applied_once(tmp_path: Path) -> None:
    raw = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    image = nibabel.Nifti1Image(raw, np.eye(4))
    image.header.set_slope_inter(2.0, -1024.0)
    nibabel.save(image, tmp_path / "scaled.nii")
    np.testing.assert_array_equal(
        read_volume(tmp_path / "scaled.nii").hu, np.asarray(nibabel.load(tmp_path / "scaled.nii").dataobj).T
    )


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = Volume.canonical(np.zeros((2, 2, 2), np.int16), (1, 1, 1))
    path = write_volume(volume, tmp_path / "v.nii.gz")
    before = path.read_bytes()
    monkeypatch.setattr("ctgen.volume.nifti._reverse", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_volume(volume, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("hu", "name", "words"),
    [
        (np.full((2, 2, 2), np.nan, np.float32), "v.nii.gz", "8 NaN"),
        (np.zeros((2, 2, 2), np.int16), "v.jpg", "unknown volume suffix"),
        (np.zeros((1, 2, 2), np.int16), "v.mha", "no third axis"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path: Path, hu: np.ndarray, name: str, words: str) -> None:
    with pytest.raises(VolumeError, match=words):
        write_volume(Volume.canonical(hu, (1, 1, 1)), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_volume_without_an_inverse_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VolumeError, match="singular"):
        write_volume(Volume(np.zeros((2, 2, 2), np.int16), np.zeros((4, 4))), tmp_path / "v.nii")


def test_a_place_that_takes_no_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(VolumeError, match="cannot be written"):
        write_volume(Volume.canonical(np.zeros((2, 2, 2), np.int16), (1, 1, 1)), tmp_path / "file" / "v.nii.gz")


def test_mhd_brings_its_voxels_along(tmp_path: Path) -> None:
    write_volume(Volume.canonical(np.ones((2, 3, 4), np.int16), (1, 1, 1)), tmp_path / "v.mhd")
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".mhd", ".zraw"]
    (tmp_path / "v.zraw").unlink()
    with pytest.raises(VolumeError, match=r"data file 'v\.zraw' is not beside it"):
        read_volume(tmp_path / "v.mhd")


def test_names(tmp_path: Path) -> None:
    assert volume_stem(Path("a/b.1.nii.gz")) == "b.1"
    assert volume_stem(Path("scan.MHA")) == "scan"
    (tmp_path / "v.nii.gz").touch()
    (tmp_path / ".hidden.nii.gz").touch()
    (tmp_path / "folder.nii").mkdir()
    assert [path.name for path in sorted(tmp_path.iterdir()) if is_volume_file(path)] == ["v.nii.gz"]


def test_real_scans_read_as_simpleitk_reads_them(shared_folder: Path) -> None:
    for path in sorted((shared_folder / "data" / "ct").glob("*_s2_*.nii.gz")):
        volume, image = read_volume(path), sitk.ReadImage(str(path))
        np.testing.assert_array_equal(volume.hu, sitk.GetArrayFromImage(image))
        np.testing.assert_allclose(
            corners(volume.affine, volume.shape), corners(geometry_of_itk(image), volume.shape), atol=1e-3
        )
        assert probe_volume(path).shape == volume.shape
