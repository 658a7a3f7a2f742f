"""The folder data set."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from ctgen.data.folder import FolderDataset, unique_ids
from ctgen.data.folder_config import FolderConfig
from ctgen.data.labels import LABELS
from ctgen.errors import DataError, MissingFileError, VolumeError
from ctgen.interfaces import Dataset, Report
from ctgen.volume import Volume
from ctgen.volume.io import write_volume
from ctgen.volume.orient import to_canonical


def scan(path: Path, value: int = 0) -> Path:
    return write_volume(Volume(np.full((2, 3, 4), value, np.int16), np.diag([-2.0, 1.0, -1.0, 1.0])), path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for index, name in enumerate(["a.nii.gz", "deep/er/b.mha", "c d (1).nrrd", ".hidden/x.nii.gz", "notes.txt"]):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".txt"):
            path.write_text("not a scan")
        else:
            scan(path, index * 100)
    return tmp_path


def dataset(root: Path, **fields: object) -> FolderDataset:
    return FolderDataset(FolderConfig(root=root, **fields))  # type: ignore[arg-type]


def test_scans_are_found_at_any_depth_and_read_as_they_are(root: Path) -> None:
    found = dataset(root)
    assert isinstance(found, Dataset)
    assert list(found.ids) == ["a", "c_d_1", "b"]
    assert len(found) == 3
    case = found[2]
    assert (case.id, case.volume.hu.max(), case.report, case.labels) == ("b", 100, None, None)
    np.testing.assert_allclose(case.volume.affine, np.diag([-2.0, 1.0, -1.0, 1.0]))
    assert case.meta["file"] == "deep/er/b.mha"
    json.dumps(case.meta)
    assert found.without_report == found.ids


def test_unreadable_files_are_skipped_with_their_reason(root: Path) -> None:
    (root / "text.nii.gz").write_text("hello")
    (root / "empty.mha").touch()
    assert {item.id: item.reason.split(" (")[0] for item in dataset(root).skipped} == {
        "text": "is named .gz but is not gzip data",
        "empty": "the file is empty",
    }


def test_voxels_are_read_on_access_alone(root: Path) -> None:
    # large, and noise: whoever unpacks the header of a small file has met its end already
    noise = np.random.default_rng(0).integers(-1000, 1000, (40, 64, 64)).astype(np.int16)
    data = write_volume(Volume(noise, np.diag([-2.0, 1.0, -1.0, 1.0])), root / "a.nii.gz").read_bytes()
    (root / "a.nii.gz").write_bytes(data[:-4])
    found = dataset(root)
    with pytest.raises(VolumeError, match="truncated"):
        found[0]


def test_reports_in_their_columns(root: Path) -> None:
    (root / "reports.csv").write_text(
        "VolumeName,Findings_EN,Impressions_EN,Cardiomegaly,Lung nodule,other\n"
        'a.nii.gz,"Clear, both lungs.",Not given.,0,1,x\n'
        "deep/er/b.mha,Effusion.,Left effusion.,,,\n"
        "c_d_1,,,1.0,,\n",
        encoding="utf-8-sig",
    )
    found = dataset(root)
    cases = {case_id: found[index] for index, case_id in enumerate(found.ids)}
    assert cases["a"].report == Report("Clear, both lungs.")
    assert cases["a"].labels == {"Cardiomegaly": 0, "Lung nodule": 1}
    assert cases["b"].report == Report("Effusion.", "Left effusion.")
    assert cases["b"].labels is None
    assert cases["c_d_1"].report is None
    assert cases["c_d_1"].labels == {"Cardiomegaly": 1}
    assert found.without_report == ("c_d_1",)


def test_a_default_report_is_given_only_when_asked_for(root: Path) -> None:
    (root / "reports.csv").write_text("id,report\na,Nodule.\n")
    found = dataset(root, default_report="Chest CT.")
    assert [found[index].report for index in range(3)] == [Report("Nodule."), Report("Chest CT."), Report("Chest CT.")]
    assert found.without_report == ()


def test_mistakes_in_the_table_are_reported_together_with_their_lines(root: Path) -> None:
    table = root / "reports.csv"
    table.write_text("id,report,Cardiomegaly\na,x,0\nz,x,0\na,y,0\nb,x,maybe\n\n,x,1\nb,x\n")
    with pytest.raises(DataError) as caught:
        dataset(root)
    assert caught.value.message.splitlines() == [
        f"{table}:3: no scan with the id 'z'",
        f"{table}:4: 'a' was given before, in line 2",
        f"{table}:5: Cardiomegaly: 'maybe' is not 0 or 1",
        f"{table}:7: the id is empty",
        f"{table}:8: 2 cells, the header has 3 (a comma in a text needs quotes)",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name,report\n", "no column 'id'"),
        ("id,text\n", "no column 'report' or 'findings'"),
        ("id;report\n", "separated by ';'"),
        ("id,report,findings\n", "mean the same"),
        ("id,reprot\n", "did you mean 'report'"),
        ("", "no column 'id'"),
    ],
)
def test_missing_columns(root: Path, text: str, words: str) -> None:
    (root / "reports.csv").write_text(text)
    with pytest.raises(DataError, match=words):
        dataset(root)


def test_a_report_of_a_skipped_scan_is_no_mistake(root: Path) -> None:
    (root / "broken.nii.gz").write_text("hello")
    (root / "reports.csv").write_text("id,report\nbroken,x\na,y\n")
    assert dataset(root).without_report == ("c_d_1", "b")


def test_a_table_that_was_named_must_exist(root: Path) -> None:
    with pytest.raises(MissingFileError, match="no table of reports"):
        dataset(root, reports=root / "other.csv")


def test_splits_are_stable_and_both_filled(tmp_path: Path) -> None:
    for index in range(30):
        scan(tmp_path / f"s{index:02}.nii")
    found = dataset(tmp_path)
    splits = {case_id: found.split_of(case_id) for case_id in found.ids}
    assert 3 <= sum(split == "valid" for split in splits.values()) <= 13
    for index in range(15):
        (tmp_path / f"s{index:02}.nii").unlink()
    fewer = dataset(tmp_path)
    changed = [case_id for case_id in fewer.ids if fewer.split_of(case_id) != splits[case_id]]
    assert len(changed) <= 1
    for index in range(15, 28):
        (tmp_path / f"s{index:02}.nii").unlink()
    assert sorted(dataset(tmp_path).split_of(case_id) for case_id in ("s28", "s29")) == ["train", "valid"]
    everything = dataset(tmp_path, valid_fraction=0)
    assert {everything.split_of(case_id) for case_id in everything.ids} == {"train"}


def test_the_validation_split_can_be_named(root: Path) -> None:
    found = dataset(root, valid=("b",))
    assert [found[index].split for index in range(3)] == ["train", "train", "valid"]
    with pytest.raises(DataError, match="no scan with the id 'bb'"):
        dataset(root, valid=("bb",))


def test_scans_of_one_patient_stay_together(tmp_path: Path) -> None:
    for patient in range(12):
        for kernel in "ab":
            scan(tmp_path / f"p{patient}_{kernel}.nii")
    found = dataset(tmp_path, patient_pattern=r"^p(\d+)_")
    splits = [(found.split_of(f"p{patient}_a"), found.split_of(f"p{patient}_b")) for patient in range(12)]
    assert all(first == second for first, second in splits)
    assert {first for first, _ in splits} == {"train", "valid"}
    assert found[0].meta["patient"] == "0"
    (tmp_path / "reports.csv").write_text(
        "id,report,patient\n" + "".join(f"p{p}_{k},x,same{p % 2}\n" for p in range(12) for k in "ab")
    )
    assert dataset(tmp_path)[0].meta["patient"] == "same0"


def test_folders_that_hold_nothing(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no folder at"):
        dataset(tmp_path / "nowhere")
    (tmp_path / "slice.dcm").touch()
    with pytest.raises(DataError, match="1 DICOM files"):
        dataset(tmp_path)
    (tmp_path / "v.nii").write_text("hello")
    with pytest.raises(DataError, match="none of the 1 files"):
        dataset(tmp_path)


def test_ids_are_safe_unique_and_short() -> None:
    assert unique_ids(["x/scan.nii.gz", "y/scan.nii.gz", "z/other.mha"]) == ["x-scan", "y-scan", "other"]
    assert unique_ids(["s.nii.gz", "s.mha"]) == ["s-niigz", "s-mha"]
    assert unique_ids(["A.nii", "a.nii"]) == ["A-nii", "a-nii-2"]
    assert unique_ids(["ä ö.nii"]) == ["scan"]
    assert unique_ids(["a b.nii", "a_b.nii"]) == ["a_b-nii", "a_b-nii-2"]


def test_the_identity_follows_what_the_folder_holds(root: Path) -> None:
    config = FolderConfig(root=root)
    before = config.identity()
    assert config.identity() == before
    json.dumps(before)
    scan(root / "new.nii")
    assert config.identity() != before
    assert FolderConfig(root=root / "nowhere").identity()


def test_wrong_patterns_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a regular expression"):
        FolderConfig(root=tmp_path, patient_pattern="(")


def test_the_labels_are_ct_rates() -> None:
    assert len(LABELS) == len(set(LABELS)) == 18
    assert (LABELS[0], LABELS[2], LABELS[9], LABELS[17]) == (
        "Medical material",
        "Cardiomegaly",
        "Lung nodule",
        "Interlobular septal thickening",
    )


def test_real_scans(shared_folder: Path) -> None:
    found = dataset(shared_folder / "data" / "ct")
    assert len(found) == 9
    assert not found.skipped
    assert {found.split_of(case_id) for case_id in found.ids} == {"train", "valid"}


AFFINE = np.diag([-2.0, 1.0, -1.0, 1.0])


@pytest.fixture
def masked(root: Path) -> Path:
    """Masks of a and of b: of two findings, and of none."""
    inside = np.zeros((2, 3, 4), np.int16)
    inside[1, 2, :3] = 1
    write_volume(Volume(inside, AFFINE), root / "marks" / "a" / "lung_nodule.nii.gz")
    write_volume(Volume(255 * (1 - inside), AFFINE), root / "marks" / "a" / "Pleural effusion.nrrd")
    write_volume(Volume(inside * 7 + 3, AFFINE), root / "marks" / "a" / "organs.nii.gz")
    (root / "marks" / "b").mkdir()
    return root


def test_masks_come_with_their_cases(masked: Path) -> None:
    found = dataset(masked, masks="marks")
    assert list(found.ids) == ["a", "c_d_1", "b"]
    masks = found[0].masks
    assert list(masks) == ["Lung nodule", "Pleural effusion"]
    assert masks["Lung nodule"].dtype == bool
    assert np.argwhere(masks["Lung nodule"]).tolist() == [[1, 2, 0], [1, 2, 1], [1, 2, 2]]
    assert np.array_equal(masks["Pleural effusion"], ~masks["Lung nodule"])
    assert found[1].masks is None
    assert found[2].masks == {}


def test_masks_change_what_a_case_and_a_data_set_are(masked: Path) -> None:
    with_masks, without = dataset(masked, masks="marks"), dataset(masked)
    assert [path.name for path in with_masks.origin(0).files] == ["a.nii.gz", "lung_nodule.nii.gz", "Pleural effusion.nrrd"]
    assert with_masks.origin(1) == without.origin(1)
    assert with_masks.origin(2) != without.origin(2)
    assert "masks" not in without.config.identity()
    before = with_masks.config.identity()
    (masked / "marks" / "a" / "lung_nodule.nii.gz").unlink()
    assert dataset(masked, masks="marks").config.identity() != before


def test_masks_whose_axes_are_stored_otherwise_lie_where_they_lay(masked: Path) -> None:
    direct = dataset(masked, masks="marks")[0].masks["Lung nodule"]
    turned, _ = to_canonical(Volume(direct.astype(np.int16), AFFINE))
    assert turned.affine[0, 2] > 0 > AFFINE[0, 0]
    write_volume(turned, masked / "marks" / "a" / "lung_nodule.nii.gz")
    assert np.array_equal(dataset(masked, masks="marks")[0].masks["Lung nodule"], direct)


def test_masks_on_another_grid_are_refused_with_both_grids(masked: Path) -> None:
    file = masked / "marks" / "a" / "lung_nodule.nii.gz"
    moved = AFFINE.copy()
    moved[0, 3] = 0.3
    for wrong, says in (
        (
            Volume(np.ones((2, 3, 5), np.int16), AFFINE),
            r"5 x 3 x 2 voxels \(D, H, W\) of 1 x 1 x 2 mm .*; the scan 4 x 3 x 2 voxels",
        ),
        (
            Volume(np.ones((2, 3, 4), np.int16), moved),
            r"from \(-1.70, 0.00, -3.00\) mm .*; the scan .* from \(-2.00, 0.00, -3.00\)",
        ),
    ):
        write_volume(wrong, file)
        with pytest.raises(DataError, match=says) as caught:
            dataset(masked, masks="marks")[0]
        assert str(file) in str(caught.value)
    write_volume(Volume(np.arange(24, dtype=np.int16).reshape(2, 3, 4), AFFINE), file)
    with pytest.raises(DataError, match="several values besides 0, from 1 to 23"):
        dataset(masked, masks="marks")[0]


def test_masks_with_wrong_names_are_refused_at_once(masked: Path) -> None:
    scan(masked / "marks" / "a" / "lung_nodul.nii.gz")
    with pytest.raises(DataError, match=r"a/lung_nodul\.nii\.gz is of no finding that has a label") as caught:
        dataset(masked, masks="marks")
    assert "did you mean 'lung_nodule'?" in caught.value.hint
    (masked / "marks" / "a" / "lung_nodul.nii.gz").rename(masked / "marks" / "a" / "Lung-Nodule.nii.gz")
    with pytest.raises(DataError, match="are of one finding"):
        dataset(masked, masks="marks")
    (masked / "marks" / "a").rename(masked / "marks" / "c_d_2")
    with pytest.raises(DataError, match="c_d_2 is not of a scan") as caught:
        dataset(masked, masks="marks")
    assert "did you mean 'c_d_1'?" in caught.value.hint
    with pytest.raises(MissingFileError, match=r"masks: no folder at .*none"):
        dataset(masked, masks="none")
    for outside in ("../marks", "/marks", "", "."):
        with pytest.raises(ValidationError, match="not the name of a folder below root"):
            dataset(masked, masks=outside)


def test_folders_of_the_simulators_masks_hold_no_scans(masked: Path) -> None:
    assert len(dataset(masked).ids) == 6, "somebody's masks, unless they are called so"
    (masked / "marks" / "organs.json").write_text("{}")
    assert list(dataset(masked).ids) == ["a", "c_d_1", "b"]
