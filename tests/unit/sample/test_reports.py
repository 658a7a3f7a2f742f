from __future__ import annotations

import json

import pytest

from ctgen.commands.generate import wanted_reports
from ctgen.errors import ConfigError, DataError
from ctgen.interfaces import Report
from ctgen.sample.reports import from_text, read_reports, safe_name


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_csv_with_reports(tmp_path):
    path = write(tmp_path / "a.csv", 'id,report\nfirst,"Effusion, left."\nsecond,Normal.\n')
    assert read_reports(path) == [("first", Report("Effusion, left.")), ("second", Report("Normal."))]


def test_csv_with_ct_rates_columns(tmp_path):
    header = "VolumeName,ClinicalInformation_EN,Technique_EN,Findings_EN,Impressions_EN"
    path = write(tmp_path / "a.csv", f"{header}\nvalid_1_a_1.nii.gz,Cough,Not given.,Nodule.,Follow up.\n")
    assert read_reports(path) == [("valid_1_a_1", Report("Nodule.", "Follow up.", "Cough", ""))]


def test_csv_suffix_may_be_in_capitals_and_start_with_a_byte_order_mark(tmp_path):
    path = tmp_path / "A.CSV"
    path.write_bytes("﻿id,report\na,Größer.\n".encode())
    assert read_reports(path) == [("a", Report("Größer."))]


def test_vlm3d_json(tmp_path):
    entries = [{"input_image_name": "valid_1.nii.gz", "report": "Nodule."}, {"id": "b", "findings": "x", "impressions": "y"}]
    path = write(tmp_path / "a.json", json.dumps(entries))
    assert read_reports(path) == [("valid_1", Report("Nodule.")), ("b", Report("x", "y"))]


def test_json_entries_without_a_name_are_numbered(tmp_path):
    path = write(tmp_path / "a.json", json.dumps([{"report": "x"}, {"report": "y"}]))
    assert [name for name, _ in read_reports(path)] == ["entry-00001", "entry-00002"]


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("a.csv", "id,report\na,x\na,y\n", "a.csv:3: 'a' was given before, in line 2"),
        ("a.csv", "id,report\na,x,y\n,z\n", "a.csv:2: 3 cells"),
        ("a.csv", "id,report\na,x,y\n,z\n", "a.csv:3: the id is empty"),
        ("a.csv", "name,report\na,x\n", "no column 'id'"),
        ("a.csv", "id,report\na,\nb,fine\n", "no report text for a"),
        ("a.csv", "id,report\n", "no reports in it"),
        ("a.csv", "", "no column 'id'"),
        ("a.csv", "id,report\na b,x\na_b,y\n", "'a b' and 'a_b' would both be written as 'a_b'"),
        ("a.csv", "id,report\na,x\na.nii.gz,y\n", "would both be written as 'a'"),
        ("a.json", "{", "not JSON"),
        ("a.json", '{"a": 1}', "expected a list"),
        ("a.json", "[1]", "expected a list"),
        ("a.json", '[{"id": "a", "report": "x"}, {"id": "a", "report": "y"}]', "entry 2: id 'a' is there twice"),
        ("a.json", '[{"id": "a", "report": null}]', "no report text for a"),
        ("a.json", "[]", "no reports in it"),
        ("a.txt", "hello", "not .txt"),
        ("a", "hello", "without suffix"),
    ],
)
def test_mistakes_are_named_with_their_place(tmp_path, name, text, found):
    with pytest.raises(DataError) as caught:
        read_reports(write(tmp_path / name, text))
    assert found in str(caught.value)


def test_bytes_that_are_no_text_are_an_error(tmp_path):
    for name in ("a.csv", "a.json"):
        (tmp_path / name).write_bytes(b"\xff\xfe\x00garbage")
        with pytest.raises(DataError):
            read_reports(tmp_path / name)


def test_a_missing_file_says_what_to_give(tmp_path):
    with pytest.raises(DataError, match="no file") as caught:
        read_reports(tmp_path / "none.csv")
    assert "--report" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("valid_1_a_1.nii.gz", "valid_1_a_1"),
        ("a/../b", "a_.._b"),
        ("/etc/passwd", "etc_passwd"),
        ("a b  c", "a_b_c"),
        ("..", None),
        ("ü", None),
        ("scan.nii", "scan"),
        ("v1.2", "v1.2"),
    ],
)
def test_names_are_safe_for_files(name, file):
    found = safe_name(name)
    assert found == file or (file is None and found.startswith("report-"))
    assert "/" not in found and not found.startswith(".")


def test_a_text_keeps_its_id():
    assert from_text(" Nodule. ") == from_text("Nodule.")
    assert from_text("Nodule.")[0] != from_text("Effusion.")[0]
    assert from_text("Nodule.")[1] == Report("Nodule.")
    with pytest.raises(DataError, match="empty"):
        from_text("  ")


def test_the_same_text_twice_is_one_volume():
    assert wanted_reports(["Nodule.", "Nodule. "], None) == [from_text("Nodule.")]


def test_one_way_to_give_reports(tmp_path):
    path = write(tmp_path / "a.csv", "id,report\na,x\n")
    assert wanted_reports([], path) == [("a", Report("x"))]
    for texts, table in (([], None), (["x"], path)):
        with pytest.raises(ConfigError):
            wanted_reports(texts, table)
