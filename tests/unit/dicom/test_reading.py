"""Series from files: geometry, every trap, and the words of what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from ctgen.dicom.config import DicomReading
from ctgen.dicom.plane import Rejected, read_planes
from ctgen.dicom.reading import read_path, read_series
from ctgen.dicom.series import find_series
from ctgen.dicom.tree import INDEX, scan
from ctgen.errors import MissingFileError, VolumeError
from ctgen.volume import Volume
from ctgen.volume.io import probe_volume, read_volume
from ctgen.volume.orient import to_canonical
from tests.unit.dicom.fakes import (
    SIZE,
    SPACING,
    SYNTAXES,
    save,
    slice_dataset,
    stored,
    uid,
    wanted_hu,
    write_enhanced,
    write_series,
)


def usable(folder: Path, **options) -> list[Volume]:
    """Every usable series below a folder."""
    reading = DicomReading(**options)
    return [read_series(series, reading) for series in find_series(scan(folder), reading)[0]]


def reasons(folder: Path, **options) -> list[str]:
    return [item.reason for item in find_series(scan(folder), DicomReading(**options))[1]]


def one(folder: Path, **options) -> Volume:
    (volume,) = usable(folder, **options)
    return volume


def refused(folder: Path, **options) -> str:
    """The reason for the one series that is left out."""
    assert usable(folder, **options) == []
    (reason,) = reasons(folder, **options)
    return reason


def notes(volume: Volume) -> str:
    return "; ".join(volume.meta["notes"])


# geometry


def test_affine_and_voxels_are_those_of_the_files(tmp_path):
    write_series(tmp_path, order=[7, 2, 11, 0, 9, 4, 1, 10, 3, 8, 5, 6])
    volume = one(tmp_path)
    assert volume.hu.dtype == np.int16
    assert np.array_equal(volume.hu, wanted_hu())
    wanted = np.array([[0, 0, 0.8, -10], [0, 0.7, 0, -20], [2, 0, 0, -30], [0, 0, 0, 1]])
    assert np.abs(volume.affine - wanted).max() < 1e-9
    assert volume.meta["notes"] == []


def test_simpleitk_reads_the_same(tmp_path):
    files = write_series(tmp_path, step=(0, 0, 1.25))
    image = sitk.ReadImage([str(file) for file in files])
    volume = one(tmp_path)
    assert np.array_equal(sitk.GetArrayFromImage(image), volume.hu)
    for index in ((0, 0, 0), (5, 3, 7), (11, 13, 15)):
        there = image.TransformIndexToPhysicalPoint(index[::-1])
        assert np.abs((volume.affine @ np.array([*index, 1.0]))[:3] - there).max() < 1e-6


@settings(max_examples=20, deadline=None)
@given(st.tuples(*[st.floats(-np.pi, np.pi)] * 3), st.floats(0.5, 8.0), st.tuples(*[st.floats(-500, 500)] * 3))
def test_any_orientation(tmp_path_factory, angles, gap, origin):
    turn = np.eye(3)
    for axis, angle in enumerate(angles):
        i, j = [k for k in range(3) if k != axis]
        one_turn = np.eye(3)
        one_turn[i, i] = one_turn[j, j] = np.cos(angle)
        one_turn[i, j], one_turn[j, i] = -np.sin(angle), np.sin(angle)
        turn = turn @ one_turn
    row, column, normal = turn.T
    folder = tmp_path_factory.mktemp("turned")
    cosines = [f"{value:.12f}"[:16] for value in (*row, *column)]
    write_series(folder, 3, step=normal * gap, origin=origin, ImageOrientationPatient=cosines)
    volume = one(folder, min_slices=2, planes=["axial", "coronal", "sagittal"])
    for index in ((0, 0, 0), (2, 5, 7), (1, 13, 15)):
        d, h, w = index
        there = np.asarray(origin) + d * gap * normal + h * SPACING[0] * column + w * SPACING[1] * row
        assert np.abs((volume.affine @ np.array([*index, 1.0]))[:3] - there).max() < 1e-4
    assert np.array_equal(volume.hu, wanted_hu(3))


def test_slices_from_top_to_bottom_become_canonical(tmp_path):
    # prone and feet first: rows run to the patient's right, columns to anterior; their normal still points up
    write_series(tmp_path, step=(0, 0, -2.0), ImageOrientationPatient=[-1, 0, 0, 0, -1, 0])
    canonical, orientation = to_canonical(one(tmp_path))
    assert str(orientation) == "RAS"
    assert np.array_equal(canonical.hu, wanted_hu()[::-1, ::-1, ::-1])
    assert canonical.affine[2, 0] == pytest.approx(2.0)


def test_rounded_positions_are_no_gaps_and_are_told(tmp_path):
    exact = [(-10, -20, 1.25 * index) for index in range(12)]
    write_series(tmp_path, positions=[(x, y, round(z, 1)) for x, y, z in exact])
    volume = one(tmp_path)
    assert volume.spacing_mm[0] == pytest.approx(1.25, abs=0.01)
    assert "off the even grid" in notes(volume)
    assert "uneven gaps" in refused(tmp_path, position_tolerance_mm=0.02)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ImagePositionPatient": None}, "no usable ImagePositionPatient in 12 of 12 slices"),
        ({"ImageOrientationPatient": None}, "no usable ImageOrientationPatient"),
        ({"PixelSpacing": None}, "no usable PixelSpacing"),
        ({"PixelSpacing": [0, 0.8]}, "PixelSpacing is 0 x 0.8 mm"),
        ({"ImageOrientationPatient": [1, 0, 0, 0.5, 1, 0]}, "no pair of unit vectors"),
        ({"ImagePositionPatient": [0, 0, 0]}, "1 slices, fewer than min_slices = 10"),
        ({"RescaleType": "Z_EFF"}, "RescaleType is Z_EFF"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localiser"),
        ({"ImageType": ["DERIVED", "SECONDARY", "MIP"]}, "ImageType MIP"),
    ],
)
def test_what_makes_a_series_unusable(tmp_path, changes, words):
    write_series(tmp_path, **changes)
    assert words in refused(tmp_path)


# gaps, tilt, jumps


def test_missing_slices_are_refused_with_numbers(tmp_path):
    files = write_series(tmp_path)
    for index in (4, 5, 9):
        files[index].unlink()
    assert refused(tmp_path, min_slices=5) == (
        "3 slices are missing: 2 after slice 4 (gap 6 mm), 1 after slice 7 (gap 4 mm); elsewhere 2 mm apart"
    )


def test_missing_slices_are_interpolated_if_asked(tmp_path):
    files = write_series(tmp_path)
    for index in (4, 5):
        files[index].unlink()
    volume = one(tmp_path, gaps="resample")
    wanted = wanted_hu().astype(float)
    wanted[4] = wanted[3] * 2 / 3 + wanted[6] / 3
    wanted[5] = wanted[3] / 3 + wanted[6] * 2 / 3
    assert volume.hu.dtype == np.int16
    assert np.array_equal(volume.hu, np.rint(wanted))
    assert volume.affine[2, 0] == pytest.approx(2.0)
    assert "2 of 12 slices were interpolated linearly" in notes(volume)
    assert "a gap of 6 mm is more than max_gap_mm = 5" in refused(tmp_path, gaps="resample", max_gap_mm=5)


def test_uneven_gaps(tmp_path):
    heights = [0, 2, 4, 6, 8, 10, 13, 16, 18, 20, 22, 24]
    write_series(tmp_path, positions=[(-10, -20, height) for height in heights])
    assert refused(tmp_path) == "uneven gaps: 2 to 3 mm, usually 2 mm (3 mm after slice 6, 3 mm after slice 7)"
    volume = one(tmp_path, gaps="resample")
    assert volume.shape[0] == 13
    # at 12 mm: between the slices at 10 and 13
    hu = wanted_hu().astype(float)
    assert np.array_equal(volume.hu[6], np.rint(hu[5] / 3 + hu[6] * 2 / 3))
    assert np.array_equal(volume.hu[12], hu[11])


def test_a_jump_in_plane_is_never_passed_over(tmp_path):
    positions = [(-10, -20 + (3 if index > 5 else 0), 2 * index) for index in range(12)]
    write_series(tmp_path, positions=positions)
    for gaps in ("refuse", "resample"):
        reason = refused(tmp_path, gaps=gaps)
        assert "slices do not lie on a straight line: slice" in reason
        assert "position_tolerance_mm = 0.1" in reason


TILT = np.tan(np.radians(20.0)) * 2.0


def test_tilt_is_kept_as_shear(tmp_path):
    write_series(tmp_path, step=(0, TILT, 2.0))
    volume = one(tmp_path)
    assert np.abs(volume.affine[:3, 0] - (0, TILT, 2.0)).max() < 1e-6
    assert np.array_equal(volume.hu, wanted_hu())
    assert "gantry tilt of 20.00 degrees: 8.0 mm in plane from the first to the last slice; kept as shear" in notes(volume)
    assert "gantry tilt of 20.00 degrees" in refused(tmp_path, tilt="refuse")


@pytest.mark.parametrize("sign", [1, -1])
def test_tilt_is_taken_out_in_plane(tmp_path, sign):
    # a wall at a fixed height of the patient: rows move by whole pixels between slices
    step = sign * 0.7
    places = [(-10, -20 + step * index, 2.0 * index) for index in range(10)]
    wall = -20 + 7 * 0.7
    for index, place in enumerate(places):
        first = round((wall - place[1]) / 0.7)
        pixels = np.zeros(SIZE, np.uint16)
        pixels[max(first, 0) :] = 1064
        save(slice_dataset(index, place, PixelData=pixels.tobytes()), tmp_path / f"{index}")
    volume = one(tmp_path, tilt="resample")
    assert np.abs(volume.affine[:3, 0] - (0, 0, 2.0)).max() < 1e-5
    assert volume.shape == (10, SIZE[0] + 9, SIZE[1])
    rows = volume.affine[1, 3] + 0.7 * np.arange(volume.shape[1])
    for index, plane in enumerate(volume.hu):
        covered = (rows > places[index][1] - 0.01) & (rows < places[index][1] + 0.7 * 13 + 0.01)
        assert (plane[covered & (rows > wall - 0.01)] == 40).all()
        assert (plane[covered & (rows < wall - 0.1)] == -1024).all()
        assert (plane[~covered] == -1024).all()


def test_a_tilt_by_parts_of_a_pixel_keeps_the_centre_of_mass(tmp_path):
    step = (0.13, 0.31, 2.0)
    for index in range(10):
        place = np.array([-10.0, -20.0, 0.0]) + index * np.asarray(step)
        pixels = np.zeros(SIZE, np.uint16)
        pixels[5, 6] = 3000
        save(slice_dataset(index, place, PixelData=pixels.tobytes()), tmp_path / f"{index}")
    volume = one(tmp_path, tilt="resample")
    for index, plane in enumerate(volume.hu.astype(float) + 1024):
        h, w = (np.arange(size) for size in plane.shape)
        centre = np.array([index, (plane.sum(1) @ h) / plane.sum(), (plane.sum(0) @ w) / plane.sum(), 1.0])
        wanted = np.array([-10.0 + 6 * 0.8, -20.0 + 5 * 0.7, 0.0]) + index * np.asarray(step)
        assert np.abs((volume.affine @ centre)[:3] - wanted).max() < 2e-3


# duplicates, parts, grouping


def test_copies_of_files_are_merged_and_told(tmp_path):
    files = write_series(tmp_path)
    for index in (2, 3):
        shutil.copy(files[index], tmp_path / f"copy{index}")
    volume = one(tmp_path)
    assert np.array_equal(volume.hu, wanted_hu())
    assert "2 files repeat an instance" in notes(volume)
    assert "2 duplicate images at 2 of 12 positions" in notes(volume)


def test_different_images_at_one_position(tmp_path):
    write_series(tmp_path)
    other = slice_dataset(4, (-10, -20, -22), seed=9, SOPInstanceUID=uid("other"), InstanceNumber=40)
    save(other, tmp_path / "zz")
    (series,) = find_series(scan(tmp_path), DicomReading())[0]
    with pytest.raises(VolumeError, match=r"images 5 and 40 are at one position and differ in \d+ of 224 pixels"):
        read_series(series, DicomReading())
    assert np.array_equal(one(tmp_path, duplicates="first").hu, wanted_hu())


def test_the_same_instance_with_other_pixels_is_refused(tmp_path):
    write_series(tmp_path)
    save(slice_dataset(4, (-10, -20, -22), seed=9), tmp_path / "zz")
    with pytest.raises(VolumeError, match="at one position and differ"):
        one(tmp_path)


def test_two_phases_in_one_series_become_two_cases(tmp_path):
    write_series(tmp_path / "1")
    for index in range(12):
        again = slice_dataset(index, (-10, -20, -30 + 2 * index), seed=5, AcquisitionNumber=2, SOPInstanceUID=uid("2nd", index))
        save(again, tmp_path / "2" / f"{index}")
    first, second = usable(tmp_path)
    assert np.array_equal(first.hu, wanted_hu())
    assert np.array_equal(second.hu, wanted_hu(seed=5))
    assert "covers its positions 2 times; split by AcquisitionNumber" in notes(second)
    names = [series.case_id() for series in find_series(scan(tmp_path), DicomReading())[0]]
    assert names[1] == f"{names[0]}-2"


def test_a_scout_inside_the_series_is_left_out(tmp_path):
    write_series(tmp_path)
    scout = slice_dataset(
        90, (0, 0, 0), ImageOrientationPatient=[0, 1, 0, 0, 0, -1], ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]
    )
    save(scout, tmp_path / "scout")
    plain = slice_dataset(91, (0, 0, 0), ImageOrientationPatient=[1, 0, 0, 0, 0, -1])
    save(plain, tmp_path / "coronal")
    assert np.array_equal(one(tmp_path).hu, wanted_hu())
    assert sorted(reasons(tmp_path)) == ["1 slices, fewer than min_slices = 10", "localiser"]
    assert "3 geometries in the series, 12, 1, 1 slices" in notes(one(tmp_path))


def test_series_are_told_apart_wherever_their_files_are(tmp_path):
    write_series(tmp_path / "x", name="{}", series="a", order=range(0, 12))
    write_series(tmp_path / "x" / "y", name="b{}", series="b", seed=3)
    moved = tmp_path / "else" / "where"
    moved.mkdir(parents=True)
    (tmp_path / "x" / "5").rename(moved / "5")
    volumes = usable(tmp_path)
    assert len(volumes) == 2
    assert {volume.hu.tobytes() for volume in volumes} == {wanted_hu().tobytes(), wanted_hu(seed=3).tobytes()}


def test_blanked_uids_fall_back_to_the_folder(tmp_path):
    blank = {"SeriesInstanceUID": "", "StudyInstanceUID": ""}
    write_series(tmp_path / "a", series="a", **blank)
    write_series(tmp_path / "b", series="b", seed=1, **blank)
    for path in tmp_path.rglob("IM*"):
        ds = pydicom.dcmread(path)
        ds.SOPInstanceUID = ds.SOPClassUID = ""
        ds.save_as(path)
    volumes = usable(tmp_path)
    assert len(volumes) == 2
    assert all("no SeriesInstanceUID" in notes(volume) for volume in volumes)
    assert len({series.case_id() for series in find_series(scan(tmp_path), DicomReading())[0]}) == 2


def test_planes_other_than_axial(tmp_path):
    write_series(tmp_path, step=(0, 2.0, 0), ImageOrientationPatient=[1, 0, 0, 0, 0, -1])
    assert refused(tmp_path) == "coronal slices; planes = axial"
    volume = one(tmp_path, planes=["coronal"])
    assert np.abs(volume.affine[:3, 0] - (0, 2.0, 0)).max() < 1e-9


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"series": "abdomen"}, "does not match series = 'abdomen'"),
        ({"exclude_series": "thor.x"}, "matches exclude_series"),
        ({"kernels": ["B70f"]}, "kernel B30f; kernels = B70f"),
        ({"contrast": "with"}, "no ContrastBolusAgent"),
        ({"min_slices": 13}, "12 slices, fewer than min_slices = 13"),
        ({"max_spacing_mm": 1.5}, "2 mm apart, more than max_spacing_mm = 1.5"),
    ],
)
def test_filters(tmp_path, options, words):
    write_series(tmp_path)
    assert words in refused(tmp_path, **options)
    kept = {"series": "THORAX", "exclude_series": "abdomen", "kernels": ["b30F"], "contrast": "without", "max_spacing_mm": 2.5}
    assert len(usable(tmp_path, **{name: kept[name] for name in options if name in kept})) == 1


# values


@pytest.mark.parametrize("syntax", SYNTAXES.values(), ids=SYNTAXES)
def test_syntaxes_of_pydicom(tmp_path, syntax):
    write_series(tmp_path, syntax=syntax)
    assert np.array_equal(one(tmp_path).hu, wanted_hu())


@pytest.mark.parametrize("compressor", ["JPEG", "JPEG2000"])
def test_syntaxes_of_gdcm(tmp_path, compressor):
    files = write_series(tmp_path)
    for file in files:
        writer = sitk.ImageFileWriter()
        writer.SetImageIO("GDCMImageIO")
        writer.UseCompressionOn()
        writer.SetCompressor(compressor)
        writer.SetFileName(str(tmp_path / "packed.dcm"))
        values = np.frombuffer(pydicom.dcmread(file).PixelData, "<u2").reshape(1, *SIZE)
        writer.Execute(sitk.GetImageFromArray(values))
        packed = pydicom.dcmread(tmp_path / "packed.dcm")
        assert packed.file_meta.TransferSyntaxUID.is_compressed
        ds = pydicom.dcmread(file)
        ds.PixelData = packed.PixelData
        ds.BitsStored, ds.HighBit = packed.BitsStored, packed.HighBit
        ds["PixelData"].is_undefined_length = True
        ds.file_meta.TransferSyntaxUID = packed.file_meta.TransferSyntaxUID
        ds.save_as(file)
        (tmp_path / "packed.dcm").unlink()
    assert np.array_equal(one(tmp_path).hu, wanted_hu())


def test_big_endian(tmp_path):
    for index in range(12):
        ds = slice_dataset(index, (-10, -20, -30 + 2 * index))
        ds.PixelData = stored(index).astype(">u2").tobytes()
        save(ds, tmp_path / f"{index}", "1.2.840.10008.1.2.2")
    assert np.array_equal(one(tmp_path).hu, wanted_hu())


def test_a_syntax_that_nobody_here_decodes(tmp_path):
    for file in write_series(tmp_path, syntax=SYNTAXES["rle"]):
        ds = pydicom.dcmread(file)
        ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.201"
        ds.save_as(file)
    with pytest.raises(VolumeError, match="image 1: its transfer syntax is High-Throughput JPEG 2000"):
        one(tmp_path)


def test_files_without_preamble_and_suffix(tmp_path):
    for index in range(12):
        ds = slice_dataset(index, (-10, -20, -30 + 2 * index))
        with (tmp_path / f"{index}").open("wb") as stream:
            pydicom.dcmwrite(stream, ds, implicit_vr=True, little_endian=True)
        assert (tmp_path / f"{index}").read_bytes()[:2] == b"\x08\x00"
    assert np.array_equal(one(tmp_path).hu, wanted_hu())


def test_enhanced_multi_frame(tmp_path):
    for name in ("explicit", "rle"):
        write_enhanced(tmp_path / name / "one.dcm", syntax=SYNTAXES[name])
        volume = one(tmp_path / name)
        assert np.array_equal(volume.hu, wanted_hu())
        assert np.abs(volume.affine - [[0, 0, 0.8, -10], [0, 0.7, 0, -20], [2, 0, 0, -30], [0, 0, 0, 1]]).max() < 1e-9
    assert np.array_equal(read_volume(tmp_path / "rle" / "one.dcm").hu, wanted_hu())


def test_enhanced_with_a_gap(tmp_path):
    write_enhanced(tmp_path / "one.dcm", positions=[0, 2, 4, 6, 8, 10, 14, 16, 18, 20, 22, 24])
    assert "1 slice is missing: 1 after slice 6 (gap 4 mm)" in refused(tmp_path)


def test_missing_rescale(tmp_path):
    write_series(tmp_path, RescaleSlope=None, RescaleIntercept=None)
    assert "no RescaleSlope and RescaleIntercept in 12 of 12 slices" in refused(tmp_path)
    volume = one(tmp_path, missing_rescale="identity")
    assert np.array_equal(volume.hu, wanted_hu() + 1024)
    assert "stored values are taken as HU" in notes(volume)


def test_every_slice_has_its_own_rescale(tmp_path):
    for index in range(12):
        ds = slice_dataset(
            index, (-10, -20, -30 + 2 * index), RescaleSlope=2 if index % 2 else 1, RescaleIntercept=-1000 - index
        )
        save(ds, tmp_path / f"{index}")
    volume = one(tmp_path)
    for index in range(12):
        assert np.array_equal(volume.hu[index], stored(index).astype(int) * (2 if index % 2 else 1) - 1000 - index)
    assert "differ between slices" in notes(volume)


def test_fractional_rescale_gives_float(tmp_path):
    write_series(tmp_path, RescaleSlope=0.25, RescaleIntercept=-1024.5)
    volume = one(tmp_path)
    assert volume.hu.dtype == np.float32
    assert np.array_equal(volume.hu, (wanted_hu() + 1024) * np.float32(0.25) - np.float32(1024.5))


def test_signed_values_and_beyond_int16(tmp_path):
    signed = np.full(SIZE, -2000, np.int16)
    signed[0, 0] = 32767
    for index in range(12):
        ds = slice_dataset(index, (-10, -20, 2 * index), PixelData=signed.tobytes(), PixelRepresentation=1)
        ds.BitsStored, ds.HighBit, ds.RescaleIntercept = 16, 15, 100
        save(ds, tmp_path / f"{index}")
    volume = one(tmp_path)
    assert volume.hu.dtype == np.float32
    assert volume.hu[0, 0, 0] == 32867
    assert volume.hu[0, 0, 1] == -1900


def test_padding_becomes_air(tmp_path):
    for index in range(12):
        pixels = stored(index).astype(np.int16)
        pixels[0] = -2000
        ds = slice_dataset(
            index, (-10, -20, 2 * index), PixelData=pixels.tobytes(), PixelRepresentation=1, BitsStored=16, HighBit=15
        )
        ds.add_new("PixelPaddingValue", "SS", -2000)
        save(ds, tmp_path / f"{index}")
    volume = one(tmp_path)
    assert (volume.hu[:, 0] == -1024).all()
    assert np.array_equal(volume.hu[:, 1:], wanted_hu()[:, 1:])
    assert "7.1% of the voxels hold PixelPaddingValue" in notes(volume)
    assert (one(tmp_path, padding_hu=-2000).hu[:, 0] == -2000).all()


def test_a_padding_value_in_tissue_is_not_believed(tmp_path):
    write_series(tmp_path, PixelPaddingValue=1060)
    assert np.array_equal(one(tmp_path).hu, wanted_hu())


def test_truncated_pixels(tmp_path):
    files = write_series(tmp_path)
    data = files[3].read_bytes()
    files[3].write_bytes(data[:-100])
    with pytest.raises(VolumeError, match="image 4: its pixels cannot be decoded"):
        one(tmp_path)


def test_errors_name_no_path(tmp_path):
    files = write_series(tmp_path / "Mustermann")
    files[3].write_bytes(files[3].read_bytes()[:-100])
    with pytest.raises(VolumeError) as caught:
        one(tmp_path)
    assert "Mustermann" not in str(caught.value)


# files that are no slices


def test_what_else_lies_in_an_export(tmp_path):
    write_series(tmp_path / "ct")
    (tmp_path / "readme.txt").write_text("an export")
    (tmp_path / "empty").touch()
    (tmp_path / ".hidden").write_bytes(b"x")
    junk = bytearray(write_series(tmp_path / "junk", 1, series="junk")[0].read_bytes())
    junk[160:400] = b"\xff" * 240
    (tmp_path / "junk" / "IM000").write_bytes(junk)
    save(slice_dataset(1, (0, 0, 0), series="mr", Modality="MR", SOPClassUID="1.2.840.10008.5.1.4.1.1.4"), tmp_path / "mr")
    save(slice_dataset(1, (0, 0, 0), series="sc", SOPClassUID="1.2.840.10008.5.1.4.1.1.7", Modality="CT"), tmp_path / "sc")
    save(slice_dataset(1, (0, 0, 0), series="rgb", SamplesPerPixel=3), tmp_path / "rgb")
    report = Dataset()
    report.SOPClassUID, report.SOPInstanceUID, report.Modality = "1.2.840.10008.5.1.4.1.1.88.11", uid("sr"), "SR"
    save(report, tmp_path / "sr")
    tree = scan(tmp_path)
    found = {item.file: item.reason for item in tree.rejected}
    assert found.pop("junk/IM000").startswith(("damaged header", "not DICOM"))
    assert found == {
        "readme.txt": "not DICOM",
        "empty": "empty file",
        "mr": "MR Image Storage (MR)",
        "sc": "Secondary Capture Image Storage (CT)",
        "rgb": "colour image",
        "sr": "Basic Text SR Storage (SR)",
    }
    assert len(tree.planes) == 12
    assert tree.files == 19


def test_a_file_that_cannot_be_opened(tmp_path):
    found = read_planes(tmp_path / "gone", "gone")
    assert isinstance(found, Rejected)
    assert "cannot be read" in found.reason
    with pytest.raises(MissingFileError):
        scan(tmp_path / "nowhere")


# the index


def test_the_index_spares_reading_what_is_known(tmp_path):
    files = write_series(tmp_path / "src")
    write_enhanced(tmp_path / "src" / "enhanced")
    (tmp_path / "src" / "text").write_text("x")
    private = tmp_path / "private"
    private.mkdir()
    first = scan(tmp_path / "src", private=private)
    again = scan(tmp_path / "src", private=private)
    assert (first.headers_read, again.headers_read) == (14, 0)
    assert again.planes == first.planes
    assert again.rejected == first.rejected
    files[0].unlink()
    save(slice_dataset(3, (1, 2, 3)), files[3])
    files[5].touch()
    changed = scan(tmp_path / "src", private=private)
    assert changed.headers_read == 2
    assert changed.planes == scan(tmp_path / "src").planes
    (private / INDEX).write_bytes(b"damaged")
    assert scan(tmp_path / "src", private=private).planes == changed.planes


def test_several_processes_read_the_same(tmp_path):
    for part in range(3):
        write_series(tmp_path / str(part), 90, series=str(part))
    assert scan(tmp_path, workers=2).planes == scan(tmp_path).planes


# as any volume


def test_read_volume_takes_a_series_folder(tmp_path):
    write_series(tmp_path / "s")
    (tmp_path / "s" / "notes.txt").write_text("x")
    volume = read_volume(tmp_path / "s")
    assert np.array_equal(volume.hu, wanted_hu())
    header = probe_volume(tmp_path / "s")
    assert header.format == "DICOM"
    assert header.shape == volume.shape
    assert np.array_equal(header.affine, volume.affine)
    write_series(tmp_path / "s" / "other", series="b")
    with pytest.raises(VolumeError, match="holds 2 DICOM series"):
        read_path(tmp_path / "s")
    with pytest.raises(VolumeError, match="give the folder that holds all slices"):
        read_volume(tmp_path / "s" / "IM000")
    with pytest.raises(VolumeError, match="is a folder, not a volume file"):
        (tmp_path / "none").mkdir()
        read_volume(tmp_path / "none")


@pytest.mark.parametrize("changes", [{"SyntheticData": "YES"}, {"ImageType": ["DERIVED", "SECONDARY", "AXIAL", "SYNTHETIC"]}])
def test_synthetic_series_are_not_taken_for_real(tmp_path, changes):
    write_series(tmp_path, **changes)
    assert refused(tmp_path) == "it is labelled synthetic (synthetic = leave-out)"
    assert np.array_equal(one(tmp_path, synthetic="take").hu, wanted_hu())
    assert np.array_equal(read_volume(tmp_path).hu, wanted_hu())


def test_a_file_that_vanished_is_told_without_its_path(tmp_path):
    write_series(tmp_path / "Mustermann")
    (series,) = find_series(scan(tmp_path), DicomReading())[0]
    (tmp_path / "Mustermann" / "IM005").unlink()
    with pytest.raises(VolumeError, match="image 6: its file cannot be read: No such file") as caught:
        read_series(series, DicomReading())
    assert "Mustermann" not in str(caught.value)


def test_a_signed_padding_value_in_an_unsigned_field(tmp_path):
    for index in range(12):
        pixels = stored(index).astype(np.int16)
        pixels[0] = -2000
        ds = slice_dataset(index, (-10, -20, 2 * index), PixelData=pixels.tobytes(), PixelRepresentation=1)
        ds.BitsStored, ds.HighBit = 16, 15
        ds.add_new("PixelPaddingValue", "US", 63536)
        save(ds, tmp_path / f"{index}")
    assert (one(tmp_path).hu[:, 0] == -1024).all()


def test_frames_of_reference_are_not_mixed(tmp_path):
    write_series(tmp_path / "1")
    write_series(tmp_path / "2", origin=(-10, -20, -6.0), FrameOfReferenceUID=uid("moved"), SOPInstanceUID=uid("x"))
    first, second = usable(tmp_path)
    assert first.affine[2, 3] == -30
    assert second.affine[2, 3] == -6


def test_instance_numbers_do_not_order_slices(tmp_path):
    for index in range(12):
        save(slice_dataset(index, (-10, -20, -30 + 2 * index), InstanceNumber=(index * 5) % 12), tmp_path / f"{index}")
    assert np.array_equal(one(tmp_path).hu, wanted_hu())
