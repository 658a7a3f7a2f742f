"""``ctgen data import``: what is written, what is kept, what is told, and what an anonymised folder does not say."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest

import ctgen.data.dicom_import
from ctgen.atomic import read_json, sha256_of
from ctgen.commands.importing import parse_reading
from ctgen.data.dicom_import import Imported, ImportOptions, import_tree, look, summary
from ctgen.data.folder import FolderDataset
from ctgen.data.folder_config import FolderConfig
from ctgen.data.inspect import inspect_path, render
from ctgen.dicom.config import DicomReading
from ctgen.errors import ConfigError, DataError
from ctgen.volume.io import read_volume
from tests.unit.dicom.fakes import save, slice_dataset, uid, wanted_hu, write_series
from tests.unit.stages.tiny import Said


@pytest.fixture
def source(tmp_path):
    """Two good series of one patient, one of another, a gap, a damaged slice, and other things."""
    root = tmp_path / "src"
    write_series(root / "Mustermann" / "a", series="a")
    write_series(root / "Mustermann" / "b", series="b", seed=1)
    write_series(root / "c", series="c", seed=2, PatientID="PAT-2", PatientName="Roe^Jane", BurnedInAnnotation="YES")
    write_series(root / "gap", series="gap")[4].unlink()
    damaged = write_series(root / "bad", series="bad")[3]
    damaged.write_bytes(damaged.read_bytes()[:-30])
    save(slice_dataset(1, (0, 0, 0), series="mr", Modality="MR", SOPClassUID="1.2.840.10008.5.1.4.1.1.4"), root / "mr")
    (root / "Brief an Frau Roe.txt").write_text("x")
    return root


def run(source: Path, out: Path, console: Said | None = None, **options) -> Imported:
    return import_tree(source, out, ImportOptions(**options), console or Said())


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def hashes(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def test_everything_is_accounted_for(source, tmp_path):
    before, out = hashes(source), tmp_path / "out"
    console = Said()
    found = run(source, out, console)
    assert hashes(source) == before
    assert (len(found.taken), len(found.left_out), len(found.quarantined), found.kept) == (3, 1, 1, 0)
    manifest = read_json(out / "manifest.json")
    assert manifest["counts"] == {"taken": 3, "left_out": 1, "quarantined": 1}
    assert manifest["files_left_out"] == {
        "MR Image Storage (MR)": {"files": 1, "examples": ["mr"]},
        "not DICOM": {"files": 1, "examples": ["Brief an Frau Roe.txt"]},
    }
    listed = rows(out / "cases.csv")
    assert [row["status"] for row in listed] == ["taken"] * 3 + ["quarantined", "left out"]
    assert {row["SeriesInstanceUID"] for row in listed} == {uid("series", name) for name in ("a", "b", "c", "bad", "gap")}
    assert "image 4: its pixels cannot be decoded" in listed[3]["reason"]
    assert "1 slice is missing" in listed[4]["reason"]
    assert any("is left out: image 4" in line for line in console.lines)
    for record in manifest["cases"]:
        assert sha256_of(out / record["file"]) == record["sha256"]
        volume = read_volume(out / record["file"])
        assert np.allclose(record["affine_lps"], volume.affine, atol=1e-6)
    assert not list(out.rglob(".writing-*"))
    text = summary(found, done=True)
    assert text.endswith("3 series taken, 1 left out, 1 quarantined; 61 files")


@pytest.mark.parametrize(("name", "suffix"), [("nifti", ".nii.gz"), ("mha", ".mha")])
def test_volumes_have_the_voxels_and_the_geometry(source, tmp_path, name, suffix):
    found = run(source, tmp_path / "out", format=name)
    files = [tmp_path / "out" / record["file"] for record in found.taken]
    assert all(file.name.endswith(suffix) for file in files)
    volumes = [read_volume(file) for file in files]
    assert [volume.hu.tobytes() for volume in volumes] == [wanted_hu(seed=seed).tobytes() for seed in range(3)] or (
        {volume.hu.tobytes() for volume in volumes} == {wanted_hu(seed=seed).tobytes() for seed in range(3)}
    )
    for volume in volumes:
        assert np.abs(volume.affine - [[0, 0, 0.8, -10], [0, 0.7, 0, -20], [2, 0, 0, -30], [0, 0, 0, 1]]).max() < 1e-5


def test_a_second_call_reads_nothing(source, tmp_path, monkeypatch):
    first = run(source, tmp_path / "out")
    before = hashes(tmp_path / "out")

    def never(*_: object) -> None:
        raise AssertionError("a series was read again")

    monkeypatch.setattr(ctgen.data.dicom_import, "read_series", never)
    again = run(source, tmp_path / "out")
    assert again.tree.headers_read == 0
    assert again.kept == 4
    assert again.taken == first.taken
    assert hashes(tmp_path / "out") == before


def test_new_changed_and_removed_files(source, tmp_path):
    out, console = tmp_path / "out", Said()
    first = run(source, out)
    write_series(source / "new", series="new", seed=8)
    write_series(source / "Mustermann" / "b", series="b", seed=9)
    shutil.rmtree(source / "c")
    again = run(source, out, console)
    assert (len(again.taken), again.kept) == (3, 2)
    assert {read_volume(out / record["file"]).hu.tobytes() for record in again.taken} == {
        wanted_hu(seed=seed).tobytes() for seed in (0, 8, 9)
    }
    assert any("1 cases in" in line and "no longer there" in line for line in console.lines)
    assert {record["case"] for record in first.taken} - {record["case"] for record in again.taken}


def test_an_interrupted_import_goes_on(source, tmp_path, monkeypatch):
    whole, out = tmp_path / "whole", tmp_path / "out"
    run(source, whole)
    write, calls = ctgen.data.dicom_import.write_volume, []

    def stopped(volume, path):
        calls.append(path)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return write(volume, path)

    monkeypatch.setattr(ctgen.data.dicom_import, "write_volume", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(source, out)
    assert not (out / "manifest.json").exists()
    monkeypatch.setattr(ctgen.data.dicom_import, "write_volume", write)
    found = run(source, out)
    assert found.kept == 1
    assert hashes(out) == hashes(whole)


def test_several_processes_write_the_same(source, tmp_path):
    run(source, tmp_path / "one")
    run(source, tmp_path / "two", workers=2)
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")


def test_an_anonymised_folder_names_nobody(source, tmp_path):
    out = tmp_path / "out"
    found = run(source, out, anonymise=True)
    assert len(found.taken) == 2  # the third has burned-in text
    assert any("BurnedInAnnotation is YES" in item.reason for item in found.left_out)
    words = [
        "PAT-",
        "Mustermann",
        "Roe",
        "Brief",
        "ACC-",
        "2024",
        str(source),
        *(uid("series", name) for name in "abc"),
        uid("study", "a"),
    ]
    open_ids = {series.case_id() for series in found.series}
    for path in out.rglob("*"):
        assert not any(word in path.name for word in words), path
        if path.is_file() and path.suffix in (".json", ".csv"):
            text = path.read_text(encoding="utf-8")
            assert not [word for word in words if word in text], path
            assert not [one for one in open_ids if one in text], path
    mapping = rows(tmp_path / "out.ctgen-private" / "mapping.csv")
    assert {row["case"] for row in mapping} == {record["case"] for record in (*found.taken, *found.quarantined)}
    assert {row["PatientID"] for row in mapping} == {"PAT-4711"}
    # another secret, other ids
    other = run(source, tmp_path / "other", anonymise=True)
    assert not {record["case"] for record in other.taken} & {record["case"] for record in found.taken}
    assert hashes(out) == (run(source, out, anonymise=True), hashes(out))[1]


def test_the_folder_data_set_reads_it(source, tmp_path):
    reports = tmp_path / "r.csv"
    reports.write_text(f"SeriesInstanceUID,findings,Lung nodule\n{uid('series', 'b')},Nodule.,1\n", encoding="utf-8")
    for name, anonymise in (("open", False), ("closed", True)):
        out = tmp_path / name
        run(source, out, reports=reports, anonymise=anonymise)
        dataset = FolderDataset(FolderConfig(root=out))
        cases = [dataset[index] for index in range(len(dataset))]
        (told,) = [case for case in cases if case.report is not None]
        assert told.report.findings == "Nodule."
        assert told.labels == {"Lung nodule": 1}
        assert np.array_equal(told.volume.hu, wanted_hu(seed=1))
        assert len({case.meta["patient"] for case in cases}) == (1 if anonymise else 2)


def test_a_dry_run_writes_nothing(source, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    text = summary(look(source, ImportOptions(), Said()), done=False)
    assert sorted(tmp_path.rglob("*")) == before
    assert text.count("take      ct-") == 4
    assert "series 3 'Thorax 2.0' kernel B30f: 16 x 14 x 12, 0.8 x 0.7 x 2 mm" in text
    assert "left out  series 3 'Thorax 2.0' kernel B30f (11 slices): 1 slice is missing" in text
    assert "left out  1 files: MR Image Storage (MR)" in text
    assert text.endswith("4 series would be taken, 1 left out; 61 files")


def test_where_it_may_not_write(source, tmp_path):
    with pytest.raises(ConfigError, match="is inside"):
        run(source, source / "out")
    with pytest.raises(ConfigError, match="--private"):
        run(source, tmp_path / "out", private=source / "p")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.doc").write_text("x")
    with pytest.raises(DataError, match=r"holds other files, such as thesis\.doc"):
        run(source, tmp_path / "full")
    run(source, tmp_path / "out")
    with pytest.raises(DataError, match="holds an import with another reading"):
        run(source, tmp_path / "out", reading=DicomReading(gaps="resample"))
    with pytest.raises(ConfigError, match="no format named 'nift'"):
        run(source, tmp_path / "new", format="nift")
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text("x")
    with pytest.raises(DataError, match="no CT series among the 1 files"):
        run(tmp_path / "text", tmp_path / "new")


def test_a_sheared_volume_survives(tmp_path):
    write_series(tmp_path / "src", step=(0, 0.7, 2.0))
    for name in ("nifti", "mha"):
        found = run(tmp_path / "src", tmp_path / name, format=name)
        volume = read_volume(tmp_path / name / found.taken[0]["file"])
        assert np.abs(volume.affine[:3, 0] - (0, 0.7, 2.0)).max() < 1e-5
        assert any("kept as shear" in note for note in found.taken[0]["notes"])


def test_words_of_the_command():
    reading = parse_reading(["gaps=resample", "kernels=[B30f, Br38]", "min_slices=3", "series=null", "max_gap_mm=7.5"])
    assert reading == DicomReading(gaps="resample", kernels=("B30f", "Br38"), min_slices=3, max_gap_mm=7.5)
    with pytest.raises(ConfigError) as caught:
        parse_reading(["gap=resample", "min_slices", "x=1"])
    assert "no field named 'gap'; did you mean 'gaps'?" in str(caught.value)
    assert "'min_slices' is no key=value" in str(caught.value)
    with pytest.raises(ConfigError, match="gaps"):
        parse_reading(["gaps=guess"])


def test_inspect_shows_series(source):
    found = inspect_path(source)
    text = render(found)
    assert "a/[series 3 'Thorax 2.0' kernel B30f]" in text
    assert "DICOM, int16" in text
    assert "16 x 14 x 12 (x, y, z)" in text
    assert "BurnedInAnnotation is YES" in text
    assert "cannot be read: 11 slices: 1 slice is missing" in text
    assert "image 4: its pixels cannot be decoded" in text
    assert "1 files: MR Image Storage (MR)" in text


def test_inspect_shows_dicom_beside_other_volumes(source, tmp_path):
    found = run(source, tmp_path / "out")
    shutil.copy(tmp_path / "out" / found.taken[0]["file"], source / "scan.nii.gz")
    formats = [item.header.format for item in inspect_path(source) if item.header is not None]
    assert sorted(formats) == ["DICOM"] * 3 + ["NIfTI"]
    assert pydicom.dcmread(source / "c" / "IM000").PatientName == "Roe^Jane"
