"""Names, folders and tables of CT-RATE."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctgen.data.ct_rate.copy import read_list
from ctgen.data.ct_rate.layout import METADATA_COLUMNS, REPORT_COLUMNS, files_of, locate, parse_name
from ctgen.data.ct_rate.tables import METADATA_WANTED, labels_of, read_table, report_of, scan_of
from ctgen.data.labels import LABELS
from ctgen.errors import DataError, MissingFileError
from ctgen.interfaces import Report


def test_names() -> None:
    name = parse_name("train_12_ab_3.nii.gz")
    assert name is not None
    assert (name.text, name.split, name.patient, name.scan, name.reconstruction) == (
        "train_12_ab_3", "train", "train_12", "train_12_ab", 3,
    )  # fmt: skip
    assert name.folder == "train_12/train_12_ab"
    for other in (
        "train_1_a",
        "train_01_a_1",
        "test_1_a_1",
        "train_1_A_1",
        "train_1_a_1 (1)",
        "train_1_a_1.nii",
        "train_๑_a_1",
    ):
        assert parse_name(other) is None


def test_columns_are_ct_rates() -> None:
    assert len(METADATA_COLUMNS) == len(set(METADATA_COLUMNS)) == 44
    assert (METADATA_COLUMNS[0], METADATA_COLUMNS[37], METADATA_COLUMNS[43]) == ("VolumeName", "XYSpacing", "StudyDate")
    assert REPORT_COLUMNS == ("VolumeName", "ClinicalInformation_EN", "Technique_EN", "Findings_EN", "Impressions_EN")


def test_the_top_folder_or_its_dataset_folder(tmp_path: Path) -> None:
    (tmp_path / "dataset" / "valid").mkdir(parents=True)
    assert locate(tmp_path) == locate(tmp_path / "dataset") == tmp_path / "dataset"
    with pytest.raises(DataError, match=r"is no copy of CT-RATE.*\n.*ctgen data inspect"):
        locate(tmp_path / "dataset" / "valid")
    with pytest.raises(MissingFileError):
        locate(tmp_path / "nowhere")


def test_files_come_in_the_order_of_their_numbers_and_fixed_first(tmp_path: Path) -> None:
    paths = ["train/train_2/train_2_a/train_2_a_1.nii.gz", "train/train_10_a_1.nii.gz", "train/notes.txt"]
    paths += ["train_fixed/train_10/train_10_a/train_10_a_2.nii.gz", "valid/x/scan.nii.gz", "metadata/other.nii.gz"]
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    found = list(files_of(tmp_path))
    assert [path for path, _ in found] == [paths[3], "train/notes.txt", "train/train_10_a_1.nii.gz", paths[0], paths[4]]
    volumes = [one for _, one in found if one is not None]
    assert [(one.name.text, one.fixed, one.split) for one in volumes] == [
        ("train_10_a_2", True, "train"),
        ("train_10_a_1", False, "train"),
        ("train_2_a_1", False, "train"),
    ]


def table(tmp_path: Path, text: str, wanted: tuple[str, ...], **options: object):
    path = tmp_path / "table.csv"
    path.write_text(text, encoding="utf-8-sig")
    return read_table(path, wanted, **options)


def test_mistakes_in_rows_are_kept_and_end_nothing(tmp_path: Path) -> None:
    text = (
        "VolumeName,Findings_EN,Impressions_EN\n"
        "train_1_a_1.nii.gz,one,x\ntrain_1_a_1.nii.gz,one,x\ntrain_2_a_1.nii.gz,two,x\ntrain_2_a_1.nii.gz,other,x\n"
        "train_3_a_1.nii.gz,short\nwhat,three,x\n\ntrain_4_a_1.nii.gz,four,x\ntrain_5_a_1.nii.gz,five,x\n"
    )
    found = table(tmp_path, text, ("Findings_EN",), known=lambda name: name != "train_5_a_1")
    assert dict(found.rows) == {"train_1_a_1": ("one",), "train_2_a_1": ("two",), "train_4_a_1": ("four",)}
    assert [(one.kind, one.line, one.name) for one in found.problems] == [
        ("duplicate-row", 3, "train_1_a_1"),
        ("conflicting-rows", 5, "train_2_a_1"),
        ("bad-row", 6, "train_3_a_1"),
        ("bad-row", 7, ""),
    ]
    assert found.conflicts == {"train_2_a_1"}


def test_a_file_that_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no column VolumeName"):
        table(tmp_path, "name,Findings_EN\n", ())
    (tmp_path / "table.csv").write_bytes(b"VolumeName\n\xff\xfe\n")
    with pytest.raises(DataError, match="not UTF-8"):
        read_table(tmp_path / "table.csv", ())


def test_reports_and_their_missing_parts(tmp_path: Path) -> None:
    text = ",".join(REPORT_COLUMNS) + "\ntrain_1_a_1,Not given.,Thin.,Clear.,Not given.\ntrain_2_a_1,Cough.,x,Not given.,\n"
    found = table(tmp_path, text, REPORT_COLUMNS[1:])
    assert report_of(found, "train_1_a_1") == Report("Clear.", "", "", "Thin.")
    assert report_of(found, "train_2_a_1") is None
    assert report_of(found, "train_3_a_1") is None


def test_labels_are_found_by_name_in_any_order(tmp_path: Path) -> None:
    order = [*reversed(LABELS)]
    cells = ["1" if label in ("Cardiomegaly", "Lung nodule") else "0.0" for label in order]
    cells[order.index("Emphysema")] = ""
    found = table(tmp_path, f"VolumeName,{','.join(order)}\ntrain_1_a_1,{','.join(cells)}\n", LABELS)
    labels = labels_of(found, "train_1_a_1")
    assert labels is not None
    assert [name for name, value in labels.items() if value] == ["Cardiomegaly", "Lung nodule"]
    assert "Emphysema" not in labels
    assert len(labels) == 17


def test_metadata_as_ct_rate_writes_it(tmp_path: Path) -> None:
    cells = dict.fromkeys(METADATA_COLUMNS, "")
    cells |= {
        "VolumeName": "train_1_a_1.nii.gz", "PatientAge": "036Y", "PatientSex": "M",
        "XYSpacing": '"[0.68, 0.7]"', "ZSpacing": "1.5",
        "RescaleSlope": "1", "RescaleIntercept": "-8192", "ConvolutionKernel": "\"['Br40d', '3']\"", "Rows": "512",
        "Columns": "768", "NumberofSlices": "251", "ImagePositionPatient": '"[-166, 9, 56.2998657]"',
        "ImageOrientationPatient": '"[1, 0, 0, 0, 1, 0]"',
    }  # fmt: skip
    empty = ",".join(["train_2_a_1", *[""] * 43])
    text = f"{','.join(METADATA_COLUMNS)}\n{','.join(cells.values())}\n{empty}\n"
    found = table(tmp_path, text, METADATA_WANTED)
    scan = scan_of(found, "train_1_a_1")
    assert scan.rescale == (1.0, -8192.0)
    assert scan.spacing_mm == (1.5, 0.7, 0.68)
    assert scan.origin_mm == (-166.0, 9.0, 56.2998657)
    assert (scan.kernel, scan.sex, scan.age_years, scan.shape) == ("Br40d", "M", 36, (251, 512, 768))
    assert set(scan_of(found, "train_2_a_1")) == {None, ""}


def test_lists_of_volumes(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text(
        "# heads\ntrain_1_a_1.nii.gz\ntrain_2_a\ntrain_3  # a neck\n\ntrain_fixed/train_4/train_4_a/train_4_a_1.nii.gz\n"
    )
    assert read_list(path) == {
        "train_1_a_1": "", "train_2_a": "", "train_3": "a neck", "train_fixed/train_4/train_4_a/train_4_a_1": "",
    }  # fmt: skip
    path.write_text('why,VolumeName\nhead,"train_1_a_1.nii.gz"\n')
    assert list(read_list(path)) == ["train_1_a_1"]
    path.write_text("train_1_a_1\nsomething\n")
    with pytest.raises(DataError, match=r"list\.txt:2: 'something' is no volume"):
        read_list(path)
    with pytest.raises(MissingFileError):
        read_list(tmp_path / "none.txt")
