"""Files that are no CT volume: one clear VolumeError each, nothing on stderr."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from ctgen.errors import VolumeError
from ctgen.volume import Volume
from ctgen.volume.io import probe_volume, read_volume, write_volume

HU = np.random.default_rng(0).integers(-1000, 1000, (8, 9, 10)).astype(np.int16)


def good(path: Path) -> bytes:
    return write_volume(Volume.canonical(HU, (2.0, 1.0, 1.0)), path).read_bytes()


def nifti(path: Path, voxels: np.ndarray) -> None:
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([1, 1, 2, 1])), path)


def halve(path: Path) -> None:
    data = good(path)
    path.write_bytes(data[: len(data) // 2])


def damage(path: Path) -> None:
    data = bytearray(good(path))
    for at in range(len(data) // 2, len(data) // 2 + 8):
        data[at] ^= 0xFF
    path.write_bytes(data)


def poke(form: str, at: int, value: float) -> Callable[[Path], None]:
    """Change a field of a NIfTI-1 header."""

    def make(path: Path) -> None:
        header = bytearray(gzip.decompress(good(path)))
        struct.pack_into(form, header, at, value)
        path.write_bytes(gzip.compress(bytes(header)))

    return make


def change(old: bytes, new: bytes) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        data = good(path)
        assert old in data
        path.write_bytes(data.replace(old, new))

    return make


def not_numbers(path: Path) -> None:
    hu = HU.astype(np.float32)
    hu[0, 0, :3] = np.nan
    hu[5, 5, 5] = -np.inf
    nifti(path, hu)


def colour(path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 5, 6, 3), np.uint8), isVector=True), str(path))


def packed_rgb(path: Path) -> None:
    nifti(path, np.zeros((4, 5, 6), np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])))


def huge_nifti2(path: Path) -> None:
    header = nibabel.Nifti2Header()
    header.set_data_shape((60000, 60000, 100))
    header.set_data_dtype(np.int16)
    header["vox_offset"] = 544
    header.set_sform(np.eye(4), code=1)
    path.write_bytes(gzip.compress(header.binaryblock + b"\0" * 1000))


def huge_mha(path: Path) -> None:
    change(b"DimSize = 10 9 8", b"DimSize = 60000 60000 100")(path)


HOSTILE: list[tuple[str, Callable[[Path], None], str]] = [
    ("truncated.nii.gz", halve, "truncated"),
    ("truncated.mha", halve, "truncated"),
    ("truncated.nrrd", halve, "voxels cannot be read"),
    ("damaged.nii.gz", damage, "damaged|truncated"),
    ("damaged.mha", damage, "damaged"),
    ("damaged.nrrd", damage, "voxels cannot be read"),
    ("short.nii", lambda path: path.write_bytes(good(path)[:-100]) and None, r"ends after 1\.3 kB of 1\.4 kB"),
    ("nan.nii.gz", not_numbers, r"4 of 720 voxels are not numbers \(3 NaN, 1 infinite\)"),
    ("flat.nii.gz", lambda path: nifti(path, HU[0]), "a single slice"),
    ("one.nii.gz", lambda path: nifti(path, HU[:, :, :1]), "a single slice"),
    ("series.nii.gz", lambda path: nifti(path, np.stack([HU, HU], -1)), "4-D with 8 x 9 x 10 x 2 voxels"),
    ("colour.nii.gz", colour, "3 numbers per voxel"),
    ("colour.mha", colour, "3 numbers per voxel"),
    ("rgb.nii.gz", packed_rgb, "RGB colour"),
    ("zero.nii.gz", poke("<f", 88, 0.0), "zero voxel spacing: 1 x 1 x 0 mm"),
    ("zero.mha", change(b"ElementSpacing = 1 1 2", b"ElementSpacing = 1 1 0"), "zero voxel spacing: 1 x 1 x 0 mm"),
    ("zero.nrrd", change(b"(0,0,2)", b"(0,0,0)"), "zero voxel spacing"),
    ("nanspacing.nii.gz", poke("<f", 80, float("nan")), "zero voxel spacing"),
    ("axes.nii.gz", poke("<h", 40, 0), "has 0 axes"),
    ("minus.nii.gz", poke("<h", 42, -5536), "size -5536 x 9 x 8"),
    ("complex.nii.gz", poke("<h", 70, 32), "complex"),
    ("empty.nii.gz", lambda path: path.touch(), "the file is empty"),
    ("empty.mha", lambda path: path.touch(), "the file is empty"),
    ("text.nii.gz", lambda path: path.write_text("hello\n" * 100) and None, "is not gzip data"),
    ("text.nii", lambda path: path.write_text("hello\n" * 100) and None, "not a NIfTI file"),
    ("packedtext.nii.gz", lambda path: path.write_bytes(gzip.compress(b"hello" * 200)) and None, "not a NIfTI file"),
    ("text.mha", lambda path: path.write_text("hello\n" * 100) and None, "not a MetaImage file"),
    ("text.nrrd", lambda path: path.write_text("hello\n" * 100) and None, "not a NRRD file"),
    ("huge.nii.gz", huge_nifti2, r"60000 x 60000 x 100 voxels need 2\.2 TB of memory.*header cannot be right"),
    ("huge.mha", huge_mha, r"60000 x 60000 x 100 voxels need 2\.2 TB of memory"),
    ("folder.nii.gz", lambda path: path.mkdir(), "is a folder"),
    ("missing.nii.gz", lambda path: None, "no such file"),
    ("picture.png", lambda path: path.touch(), "unknown volume suffix '.png'"),
    ("slice.dcm", lambda path: path.touch(), "a folder that holds one DICOM series"),
]


@pytest.mark.parametrize(("name", "make", "words"), HOSTILE, ids=[name for name, _, _ in HOSTILE])
def test_one_clear_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str, make: Callable[[Path], None], words: str
) -> None:
    path = tmp_path / name
    make(path)
    capfd.readouterr()
    with pytest.raises(VolumeError) as caught:
        read_volume(path)
    assert caught.match(words)
    assert str(caught.value).startswith(str(path))
    assert len(str(caught.value).splitlines()) <= 2
    assert capfd.readouterr() == ("", "")


def test_a_header_is_judged_before_anything_is_allocated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good(tmp_path / "v.nii.gz")
    monkeypatch.setattr("ctgen.volume.header.available_bytes", lambda: 1000)
    with pytest.raises(VolumeError, match=r"10 x 9 x 8 voxels need 4\.3 kB of memory, 1\.0 kB are available"):
        probe_volume(tmp_path / "v.nii.gz")


def test_a_fourth_axis_of_one_is_no_matter(tmp_path: Path) -> None:
    nifti(tmp_path / "v.nii.gz", HU[..., None])
    assert read_volume(tmp_path / "v.nii.gz").shape == (10, 9, 8)
    image = sitk.JoinSeries(sitk.GetImageFromArray(HU))
    sitk.WriteImage(image, str(tmp_path / "v.mha"))
    np.testing.assert_array_equal(read_volume(tmp_path / "v.mha").hu, HU)


def test_sheared_axes_are_kept_and_named(tmp_path: Path) -> None:
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    affine[1, 2] = 0.5
    nibabel.save(nibabel.Nifti1Image(HU, affine), tmp_path / "tilt.nii.gz")
    volume = read_volume(tmp_path / "tilt.nii.gz")
    assert any("off right angles" in note for note in volume.meta["notes"])
    again = nibabel.load(write_volume(volume, tmp_path / "again.nii.gz"))
    np.testing.assert_allclose(again.affine, affine, atol=1e-6)
    assert int(again.header["qform_code"]) == 0


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("noform.nii.gz", poke("<i", 252, 0), "no orientation in the header"),
        ("nospacing.mha", change(b"ElementSpacing = 1 1 2\n", b""), "no voxel spacing"),
        ("metres.nii.gz", poke("<b", 123, 1), "metres"),
    ],
)
def test_odd_headers_are_noted(tmp_path: Path, name: str, make: Callable[[Path], None], words: str) -> None:
    path = tmp_path / name
    make(path)
    assert any(words in note for note in probe_volume(path).notes)


def test_disagreeing_forms_are_noted(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(HU, np.diag([1, 1, 2, 1]))
    image.set_qform(np.diag([1, 1, 3, 1]), code=1)
    image.set_sform(np.diag([1, 1, 2, 1]), code=1)
    nibabel.save(image, tmp_path / "v.nii")
    header = probe_volume(tmp_path / "v.nii")
    assert any("differ by up to 9.0 mm" in note for note in header.notes)
    assert header.spacing_mm == (2.0, 1.0, 1.0)
