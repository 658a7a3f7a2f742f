"""The dicom exporter: conforming, labelled synthetic, read back the same by three readers."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import UID

from ctgen.dicom.dataset import COMMENT_LIMIT, CUT, report_text
from ctgen.dicom.export_config import DicomExporterConfig
from ctgen.dicom.exporter import DicomExporter
from ctgen.errors import ConfigError, VolumeError
from ctgen.host import Host
from ctgen.testing import check_exporter, phantom
from ctgen.volume import Volume
from ctgen.volume.io import read_volume
from ctgen.volume.orient import to_canonical

HOST = Host.discover()
META = {
    "id": "case-1",
    "seed": 7,
    "report": {"findings": "Kleiner Pleuraerguß links.\nNodule of 4 mm.", "impressions": "Follow up.", "technique": ""},
    "made_by": {"recipe": "ctflow", "recipe_hash": "ab" * 8, "weights": {"backbone": {"label": "MINI", "sha256": "f" * 64}}},
}


def volume(**meta) -> Volume:
    found = phantom((6, 20, 24), (2.5, 0.7421875, 0.8), seed=1)
    return Volume(found.hu, found.affine, {**META, **meta})


def write(found: Volume, path: Path, **fields) -> Path:
    return DicomExporter(DicomExporterConfig(**fields)).write(found, path)


def images(folder: Path) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(path) for path in sorted(folder.iterdir())]


def test_conformance(tmp_path):
    exporter = HOST.create("exporter", "dicom")
    assert exporter.suffix == ".dicom"
    check_exporter(exporter, tmp_path)


@pytest.mark.parametrize("step", [1.0, 0.0625])
def test_simpleitk_reads_the_same(tmp_path, step):
    found = volume()
    if step < 1:
        found = Volume(found.hu.astype(np.float32).clip(-1024, 1900) + np.float32(0.1875), found.affine, META)
    path = write(found, tmp_path / "a.dicom", hu_step=step)
    reader = sitk.ImageSeriesReader()
    (series,) = reader.GetGDCMSeriesIDs(str(path))
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(path), series))
    image = reader.Execute()
    assert np.array_equal(sitk.GetArrayFromImage(image), found.hu)
    corner = image.TransformIndexToPhysicalPoint((23, 19, 5))
    assert np.abs((found.affine @ np.array([5, 19, 23, 1.0]))[:3] - corner).max() < 1e-4
    assert np.allclose(image.GetSpacing(), found.spacing_mm[::-1], atol=1e-6)


def test_synthetic_is_said_everywhere(tmp_path):
    for image in images(write(volume(), tmp_path / "a.dicom")):
        assert list(image.ImageType) == ["DERIVED", "SECONDARY", "AXIAL", "SYNTHETIC"]
        assert image.SyntheticData == "YES"
        assert str(image.PatientName) == "SYNTHETIC^CTGEN"
        assert image.PatientID == "CTGEN-case-1"
        assert image.SeriesDescription == "SYNTHETIC ctgen ctflow"
        assert image.StudyDescription.startswith("SYNTHETIC")
        assert image.DerivationDescription.startswith("SYNTHETIC: made by ctgen ")
        assert "Seed 7. backbone: MINI ffffffffffffffff." in image.DerivationDescription
        assert image.ContentQualification == "RESEARCH"
        assert image.BurnedInAnnotation == "NO"
        assert image.SpecificCharacterSet == "ISO_IR 192"
        assert image.ImageComments == ("FINDINGS: Kleiner Pleuraerguß links.\r\nNodule of 4 mm.\r\nIMPRESSIONS: Follow up.")
        assert image.SOPClassUID == pydicom.uid.CTImageStorage


def test_no_field_turns_the_label_off():
    assert not {name for name in DicomExporterConfig.model_fields if "synth" in name or "label" in name or "name" in name}
    with pytest.raises(ConfigError):
        HOST.create("exporter", "dicom", uid_root="not an oid")
    with pytest.raises(ConfigError):
        HOST.create("exporter", "dicom", study_date="today")


def test_required_attributes_of_the_ct_image_iod(tmp_path):
    type_1 = """SOPClassUID SOPInstanceUID StudyInstanceUID Modality SeriesInstanceUID FrameOfReferenceUID ImageType
        PixelSpacing ImageOrientationPatient ImagePositionPatient SamplesPerPixel PhotometricInterpretation Rows Columns
        BitsAllocated BitsStored HighBit PixelRepresentation PixelData RescaleIntercept RescaleSlope SpecificCharacterSet"""
    type_2 = """PatientName PatientID PatientBirthDate PatientSex StudyDate StudyTime ReferringPhysicianName StudyID
        AccessionNumber SeriesNumber PositionReferenceIndicator Manufacturer InstanceNumber SliceThickness KVP
        AcquisitionNumber PatientPosition"""
    for number, image in enumerate(images(write(volume(), tmp_path / "a.dicom")), 1):
        for keyword in type_1.split():
            assert keyword in image and image[keyword].value not in ("", None), keyword
        for keyword in type_2.split():
            assert keyword in image, keyword
        assert image.InstanceNumber == number
        assert len(image.PixelData) == 2 * image.Rows * image.Columns


def test_no_retired_or_private_attribute(tmp_path):
    (image, *_) = images(write(volume(), tmp_path / "a.dicom"))
    for element in image:
        assert not element.tag.is_private
        assert not pydicom.datadict.dictionary_is_retired(element.tag), element
    # the issue of where a report goes: Study Comments is retired, Image Comments is not
    assert pydicom.datadict.dictionary_is_retired("StudyComments")


def test_values_pass_pydicom_strictly(tmp_path, monkeypatch):
    path = write(volume(), tmp_path / "a.dicom")
    monkeypatch.setattr(pydicom.config.settings, "writing_validation_mode", pydicom.config.RAISE)
    monkeypatch.setattr(pydicom.config.settings, "reading_validation_mode", pydicom.config.RAISE)
    for number, image in enumerate(images(path)):
        str(image)
        image.save_as(tmp_path / f"again{number}.dcm", enforce_file_format=True)
    long = volume(id="x" * 300, report={"findings": "a\x00b\x1b\\c " + "long " * 5000}, made_by={"recipe": "r\\" + "y" * 200})
    for image in images(write(long, tmp_path / "long.dicom")):
        str(image)
        assert len(image.PatientID) == 64
        assert len(image.ImageComments) == COMMENT_LIMIT
        assert image.ImageComments.endswith(CUT)


def test_report_text():
    assert report_text({}) == ""
    assert (
        report_text({"findings": " a ", "clinical_information": "b", "technique": ""})
        == "FINDINGS: a\r\nCLINICAL INFORMATION: b"
    )


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy is not installed (Debian: dicom3tools)")
def test_dciodvfy_finds_no_error(tmp_path):
    tilted = volume().affine.copy()
    tilted[1, 0] = 0.6
    for name, found in (("plain", volume()), ("tilted", Volume(volume().hu, tilted, META))):
        path = write(found, tmp_path / f"{name}.dicom")
        for file in sorted(path.iterdir())[:2]:
            done = subprocess.run(["dciodvfy", str(file)], capture_output=True, text=True, check=False)
            errors = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]
            # a release of 2022 does not know (0008,001C) Synthetic Data, which came later
            assert [line for line in errors if "0x0008,0x001c" not in line] == []
            assert "CTImage" in done.stdout + done.stderr
        if shutil.which("dcentvfy"):
            files = [str(file) for file in sorted(path.iterdir())]
            done = subprocess.run(["dcentvfy", *files], capture_output=True, text=True, check=False)
            assert done.stdout + done.stderr == ""


# UIDs


def uids(folder: Path) -> tuple[str, str, str, list[str]]:
    found = images(folder)
    studies, series, frames = (
        {str(image[name].value) for image in found} for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
    )
    assert len(studies) == len(series) == len(frames) == 1
    return studies.pop(), series.pop(), frames.pop(), [str(image.SOPInstanceUID) for image in found]


def test_uids_are_valid_and_unlike(tmp_path):
    study, series, frame, instances = uids(write(volume(), tmp_path / "a.dicom"))
    every = [study, series, frame, *instances]
    assert len(set(every)) == len(every)
    for uid in every:
        assert UID(uid).is_valid
        assert uid.startswith("2.25.")
        assert int(uid[5:]) < 2**128
    for image in images(tmp_path / "a.dicom"):
        assert image.file_meta.MediaStorageSOPInstanceUID == image.SOPInstanceUID


def test_the_same_run_writes_the_same_bytes(tmp_path):
    first, again = write(volume(), tmp_path / "1" / "a.dicom"), write(volume(), tmp_path / "2" / "b.dicom")
    assert [path.read_bytes() for path in sorted(first.iterdir())] == [path.read_bytes() for path in sorted(again.iterdir())]


@pytest.mark.parametrize("change", ["voxel", "affine", "seed", "id", "report", "weights", "step"])
def test_anything_else_gets_new_uids(tmp_path, change):
    before = uids(write(volume(), tmp_path / "a.dicom"))
    other, fields = volume(), {}
    if change == "voxel":
        hu = other.hu.copy()
        hu[3, 4, 5] += 1
        other = Volume(hu, other.affine, META)
    elif change == "affine":
        other = Volume(other.hu, other.affine + np.outer([0.5, 0, 0, 0], [0, 0, 0, 1]), META)
    elif change == "step":
        fields = {"hu_step": 2.0}
    else:
        other = volume(
            **{
                "seed": {"seed": 8},
                "id": {"id": "case-2"},
                "report": {"report": {"findings": "x"}},
                "weights": {"made_by": {}},
            }[change]
        )
    after = uids(write(other, tmp_path / "b.dicom", **fields))
    assert before[1] != after[1]
    assert before[2] != after[2]
    assert not set(before[3]) & set(after[3])
    # the same case of the same run stays one study
    assert (before[0] == after[0]) == (change in ("voxel", "affine", "step"))


def test_a_root_of_ones_own(tmp_path):
    for uid in uids(write(volume(), tmp_path / "a.dicom", uid_root="1.2.826.0.1.3680043.10"))[3]:
        assert uid.startswith("1.2.826.0.1.3680043.10.")
        assert UID(uid).is_valid


# geometry


@settings(max_examples=20, deadline=None)
@given(
    order=st.permutations(range(3)),
    flips=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    angle=st.floats(-0.4, 0.4),
    spacing=st.tuples(st.floats(0.3, 8), st.floats(0.3, 3), st.floats(0.3, 3)),
    origin=st.tuples(*[st.floats(-1000, 1000)] * 3),
    tilt=st.floats(-0.4, 0.4),
)
def test_any_geometry_comes_back(tmp_path_factory, order, flips, angle, spacing, origin, tilt):
    """Axes in any order and direction, oblique, with the slices of the canonical volume sheared."""
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    axes = turn @ np.array([[0, 0, spacing[2]], [0, spacing[1], 0], [spacing[0], 0, 0]])
    axes[:, 0] += tilt * spacing[0] * axes[:, 1] / spacing[1]
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = axes, origin
    hu = phantom((4, 5, 6), (2.0, 1.0, 1.0), seed=3).hu
    found = Volume(np.ascontiguousarray(hu.transpose(order)), np.column_stack([affine[:, list(order)], affine[:, 3]]))
    for axis, flip in enumerate(flips):
        if flip:
            moved = found.affine.copy()
            moved[:3, 3] += moved[:3, axis] * (found.shape[axis] - 1)
            moved[:3, axis] *= -1
            found = Volume(np.flip(found.hu, axis), moved)
    canonical, _ = to_canonical(found)
    assert np.array_equal(canonical.hu, hu)
    back = read_volume(write(found, tmp_path_factory.mktemp("any") / "a.dicom"))
    assert np.array_equal(back.hu, hu)
    assert np.abs(back.affine - canonical.affine).max() < 1e-4


def test_thickness_is_along_the_normal(tmp_path):
    tilted = volume().affine.copy()
    tilted[1, 0] = 2.5 * np.tan(np.radians(15))
    (image, *_) = images(write(Volume(volume().hu, tilted), tmp_path / "a.dicom"))
    assert float(image.SpacingBetweenSlices) == pytest.approx(2.5)
    assert float(image.GantryDetectorTilt) == pytest.approx(15.0, abs=1e-4)


# values and files


def test_hu_step_keeps_fractions(tmp_path):
    hu = (np.arange(6 * 20 * 24).reshape(6, 20, 24) / 16 - 90).astype(np.float32)
    back = read_volume(write(Volume(hu, volume().affine), tmp_path / "a.dicom", hu_step=0.0625))
    assert np.array_equal(back.hu, hu)
    with pytest.raises(VolumeError, match=r"do not fit into 16 bits at hu_step = 0.001, which holds -32.768 to 32.767"):
        write(Volume(hu, volume().affine), tmp_path / "b.dicom", hu_step=0.001)
    assert not (tmp_path / "b.dicom").exists()


def test_int16_is_stored_as_it_is(tmp_path):
    hu = volume().hu.copy()
    hu[0, 0, :2] = -32768, 32767
    assert np.array_equal(read_volume(write(Volume(hu, volume().affine), tmp_path / "a.dicom")).hu, hu)


def test_what_cannot_be_written(tmp_path):
    broken = volume().hu.astype(np.float32)
    broken[1, 2, 3] = np.nan
    with pytest.raises(VolumeError, match="1 of 2880 voxels are not finite"):
        write(Volume(broken, volume().affine), tmp_path / "a.dicom")
    skewed = volume().affine.copy()
    skewed[0, 1] = 0.3
    with pytest.raises(VolumeError, match="rows and columns are not at right angles"):
        write(Volume(volume().hu, skewed), tmp_path / "a.dicom")
    with pytest.raises(VolumeError, match="no third axis"):
        write(Volume(volume().hu[:1], volume().affine), tmp_path / "a.dicom")
    with pytest.raises(VolumeError, match=r"not \.nii\.gz"):
        write(volume(), tmp_path / "a.nii.gz")
    assert list(tmp_path.iterdir()) == []


def test_only_a_series_is_replaced(tmp_path):
    path = write(volume(), tmp_path / "a.dicom")
    (path / "letter.txt").write_text("mine")
    with pytest.raises(VolumeError, match="exists and is no folder of DICOM files"):
        write(volume(), path)
    assert (path / "letter.txt").read_text() == "mine"
    (path / "letter.txt").unlink()
    shorter = Volume(volume().hu[:3], volume().affine)
    assert len(list(write(shorter, path).iterdir())) == 3
    assert [found.name for found in tmp_path.iterdir()] == ["a.dicom"]


def test_without_a_description_the_folder_names_the_case(tmp_path):
    (image, *_) = images(write(Volume(volume().hu, volume().affine), tmp_path / "scan-9"))
    assert image.PatientID == "CTGEN-scan-9"
    assert "ImageComments" not in image
    assert (tmp_path / "scan-9.dicom").is_dir()
