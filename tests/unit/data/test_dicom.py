"""The dicom data set: cases, ids, reports by DICOM's keys, splits, and what it says of patients."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import numpy as np
import pytest

from ctgen.data.dicom import DicomDataset
from ctgen.data.dicom_config import DicomConfig
from ctgen.errors import ConfigError, DataError, MissingFileError, VolumeError
from ctgen.host import Host
from ctgen.interfaces import Dataset, Report
from ctgen.testing import check
from tests.unit.dicom.fakes import uid, wanted_hu, write_series


def export(root: Path, patients: int = 3) -> Path:
    """One study of two series per patient."""
    for patient in range(patients):
        for series in range(2):
            name = f"{patient}{series}"
            same = {
                "PatientID": f"PAT-{patient}",
                "StudyInstanceUID": uid("study", patient),
                "AccessionNumber": f"ACC{patient}",
            }
            write_series(root / f"Mustermann_{patient}" / name, series=name, seed=10 * patient + series, **same)
    return root


def dataset(root: Path, **fields) -> DicomDataset:
    return DicomDataset(DicomConfig(root=root, **fields))


def table(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_conformance(tmp_path):
    found = dataset(export(tmp_path / "src"))
    assert isinstance(found, Dataset)
    check("dataset", found)
    assert len(found) == 6


def test_cases_are_the_series(tmp_path):
    found = dataset(export(tmp_path / "src"))
    voxels = {found[index].volume.hu.tobytes() for index in range(6)}
    assert voxels == {wanted_hu(seed=10 * patient + series).tobytes() for patient in range(3) for series in range(2)}


def test_ids_do_not_depend_on_where_the_files_are(tmp_path):
    first = dataset(export(tmp_path / "src"))
    (tmp_path / "src" / "Mustermann_0").rename(tmp_path / "src" / "zz")
    assert set(dataset(tmp_path / "src").ids) == set(first.ids)


def test_no_patient_is_named(tmp_path):
    found = dataset(export(tmp_path / "src"), reports=table(tmp_path / "r.csv", "PatientID,report\nPAT-0,Normal.\n"))
    for index in range(6):
        case = found[index]
        said = json.dumps([case.id, dict(case.meta), dict(case.volume.meta), dict(found.origin(index).facts)])
        assert found.origin(index).files == ()
        for name in ("PAT-", "Mustermann", "Jürgen", "ACC", uid("study", 0)[:30], "2024"):
            assert name not in said
    assert {case.reason for case in found.skipped} == set()


def test_the_private_folder_leads_back(tmp_path):
    found = dataset(export(tmp_path / "src"))
    private = tmp_path / "src.ctgen-private"
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    mapping = private / "mapping.csv"
    assert stat.S_IMODE(mapping.stat().st_mode) == 0o600
    lines = mapping.read_text().splitlines()
    assert (
        lines[0]
        == "case,patient,SeriesInstanceUID,StudyInstanceUID,AccessionNumber,PatientID,SeriesNumber,SeriesDescription,folder"
    )
    row = next(line.split(",") for line in lines if "Mustermann_1/10" in line)
    assert row[0] in found.ids
    assert row[2:6] == [uid("series", "10"), uid("study", 1), "ACC1", "PAT-1"]
    elsewhere = dataset(tmp_path / "src", private=tmp_path / "deep" / "p")
    assert elsewhere.ids == found.ids
    assert (tmp_path / "deep" / "p" / "mapping.csv").is_file()
    assert sorted(path.name for path in (tmp_path / "src").iterdir()) == [f"Mustermann_{index}" for index in range(3)]


@pytest.mark.parametrize(
    ("column", "values", "cases"),
    [
        ("SeriesInstanceUID", [uid("series", "10")], 1),
        ("studyinstanceuid", [uid("study", 1)], 2),
        ("AccessionNumber", ["ACC1"], 2),
        ("PatientID", ["PAT-1"], 2),
    ],
)
def test_reports_by_every_key(tmp_path, column, values, cases):
    rows = "".join(f"{value},Nodule.,Follow up.,1\n" for value in [*values, "of-somebody-else"])
    reports = table(tmp_path / "r.csv", f"{column},findings,impressions,Lung nodule\n{rows}")
    found = dataset(export(tmp_path / "src"), reports=reports)
    told = [found[index] for index in range(6) if found[index].report is not None]
    assert len(told) == cases
    assert all(case.report == Report("Nodule.", "Follow up.") for case in told)
    assert all(case.labels == {"Lung nodule": 1} for case in told)
    assert len(found.without_report) == 6 - cases
    assert found.reports_elsewhere == 1


def test_the_most_specific_key_is_used(tmp_path):
    text = f"PatientID,SeriesInstanceUID,report\nPAT-0,{uid('series', '00')},First.\nPAT-0,{uid('series', '01')},Second.\n"
    found = dataset(export(tmp_path / "src"), reports=table(tmp_path / "r.csv", text))
    reports = [found[index].report for index in range(6)]
    assert sorted(report.findings for report in reports if report) == ["First.", "Second."]


def test_mistakes_in_the_reports(tmp_path):
    root = export(tmp_path / "src")
    write_series(root / "later", series="later", PatientID="PAT-0")
    with pytest.raises(DataError, match="1 PatientIDs of the table have several studies"):
        dataset(root, reports=table(tmp_path / "r.csv", "PatientID,report\nPAT-0,x\n"))
    with pytest.raises(DataError, match="no AccessionNumber of its 1 rows is one of the 7 series"):
        dataset(root, reports=table(tmp_path / "r.csv", "AccessionNumber,report\nnope,x\n"))
    with pytest.raises(DataError, match="none of the columns SeriesInstanceUID"):
        dataset(root, reports=table(tmp_path / "r.csv", "name,report\nnope,x\n"))
    with pytest.raises(DataError, match="not a readable CSV"):
        dataset(root, reports=tmp_path / "none.csv")


def test_a_patient_is_on_one_side(tmp_path):
    found = dataset(export(tmp_path / "src", patients=8), valid_fraction=0.5)
    sides: dict[str, set[str]] = {}
    for index in range(16):
        case = found[index]
        sides.setdefault(case.meta["patient"], set()).add(case.split)
        assert found.split_of(case.id) == case.split
    assert len(sides) == 8
    assert all(len(side) == 1 for side in sides.values())
    assert set.union(*sides.values()) == {"train", "valid"}


def test_what_is_left_out_is_named(tmp_path):
    root = export(tmp_path / "src")
    files = write_series(root / "gap", series="gap")
    files[5].unlink()
    (root / "letter.txt").write_text("x")
    found = dataset(root)
    assert len(found) == 6
    reasons = [item.reason for item in found.skipped]
    assert "11 slices: 1 slice is missing: 1 after slice 5 (gap 4 mm); elsewhere 2 mm apart" in reasons
    assert "1 files: not DICOM" in reasons
    assert len(dataset(root, gaps="resample")) == 7


def test_tilt_is_taken_out_for_training(tmp_path):
    write_series(tmp_path / "src", step=(0, 0.7, 2.0))
    case = dataset(tmp_path / "src")[0]
    assert np.abs(case.volume.affine[:3, 0] - (0, 0, 2)).max() < 1e-9
    assert "slices shifted back in plane" in case.meta["notes"][0]
    assert case.meta["tilt_degrees"] == pytest.approx(19.29, abs=0.01)


def test_voxels_are_read_on_access(tmp_path):
    files = write_series(tmp_path / "src")
    files[3].write_bytes(files[3].read_bytes()[:-10])
    found = dataset(tmp_path / "src")
    with pytest.raises(VolumeError, match=r"ct-[0-9a-f]{12}: image 4: its pixels cannot be decoded"):
        found[0]


def test_origin_and_identity_follow_the_files(tmp_path):
    files = write_series(tmp_path / "src")
    config = DicomConfig(root=tmp_path / "src")
    before, origin = config.identity(), DicomDataset(config).origin(0)
    assert config.identity() == before
    assert DicomDataset(config).origin(0) == origin
    assert DicomConfig(root=tmp_path / "src", workers=3, private=tmp_path / "p").identity() == before
    assert dataset(tmp_path / "src", min_slices=3).origin(0) != origin
    assert dataset(tmp_path / "src", default_report="x").origin(0) != origin
    files[0].touch()
    assert config.identity() != before
    assert DicomDataset(config).origin(0) != origin


def test_roots_that_hold_nothing(tmp_path):
    with pytest.raises(MissingFileError):
        dataset(tmp_path / "none")
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.txt").write_text("x")
    with pytest.raises(DataError, match="no usable CT series among the 1 files"):
        dataset(tmp_path / "src")


def test_fields_are_checked(tmp_path):
    host = Host.discover()
    for fields in ({"series": "("}, {"gaps": "guess"}, {"tilt": "flatten"}, {"planes": []}, {"kernel": ["B30f"]}):
        with pytest.raises(ConfigError):
            host.configure("dataset", "dicom", root=tmp_path, **fields)
