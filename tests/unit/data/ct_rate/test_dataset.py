"""The data set ct-rate on hand-made copies."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ctgen.data.ct_rate.config import CtRateConfig
from ctgen.data.ct_rate.dataset import CtRate
from ctgen.errors import DataError, MissingFileError, VolumeError
from ctgen.interfaces import Dataset, Report
from ctgen.testing import check_dataset
from ctgen.volume import nifti

from .conftest import Copy


def read(root: Path, **fields: object) -> CtRate:
    return CtRate(CtRateConfig(root=root, **fields))  # type: ignore[arg-type]


def left_out(dataset: CtRate) -> dict[str, str]:
    return {one.id: one.reason for one in dataset.skipped}


def test_a_copy_as_it_is_published(copy: Copy) -> None:
    for name in ("train_1_a_1", "train_1_a_2", "train_1_b_1", "train_2_a_1", "valid_1_a_1", "valid_1_a_2"):
        copy.volume(name)
    found = read(copy.write())
    assert isinstance(found, Dataset)
    check_dataset(found)
    assert found.ids == ("train_1_a_1", "train_1_b_1", "train_2_a_1", "valid_1_a_1")
    assert left_out(found) == {
        "train_1_a_2": "another reconstruction of the scan: train_1_a_1 is used",
        "valid_1_a_2": "another reconstruction of the scan: valid_1_a_1 is used",
    }
    case = found[1]
    assert case.report == Report("Findings of train_1_b.", "None.")
    assert case.labels is not None
    assert len(case.labels) == 18
    assert case.split == "train"
    assert case.meta["file"] == "train_fixed/train_1/train_1_b/train_1_b_1.nii.gz"
    assert (case.meta["patient"], case.meta["scan"], case.meta["kernel"]) == ("train_1", "train_1_b", "B30f")
    assert (case.meta["sex"], case.meta["age_years"]) == ("F", 36)
    assert case.meta["intensity"]["decision"] == "hu"
    assert case.meta["geometry"] == "file"
    assert [found.split_of(case_id) for case_id in found.ids] == ["train", "train", "train", "valid"]
    assert read(copy.base).ids == found.ids


def test_nothing_is_opened_before_it_is_asked_for(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    copy.volume("train_1_a_1").write_bytes(b"")
    copy.volume("train_2_a_1")
    found = read(copy.write())
    assert found.ids == ("train_1_a_1", "train_2_a_1")
    with pytest.raises(VolumeError, match="empty"):
        found[0]
    opened: list[Path] = []
    monkeypatch.setattr(nifti, "read_header", lambda path: opened.append(path))
    assert len(read(copy.root)) == 2
    assert opened == []


def test_raw_volumes_get_hu_and_geometry_from_the_table(copy: Copy) -> None:
    whole = Copy(copy.root / "other")
    whole.volume("train_1_a_1")
    good = read(whole.write())[0].volume
    lost = np.array([[0, 0, -1.0, 0], [0, -1.0, 0, 0], [1.0, 0, 0, 0], [0, 0, 0, 1.0]])
    copy.volume("train_1_a_1", fixed=False, hu=good.hu + 1024, XYSpacing="[8.0, 9.0]", ZSpacing=10.5)
    path = copy.base / "train/train_1/train_1_a/train_1_a_1.nii.gz"
    from ctgen.volume import Volume
    from ctgen.volume.io import write_volume

    write_volume(Volume(good.hu + np.int16(1024), lost), path)
    case = read(copy.write())[0]
    assert case.meta["intensity"]["decision"] == "csv-rescale"
    assert case.meta["geometry"] == "csv"
    assert np.array_equal(case.volume.hu, good.hu)
    wanted = [[0, 0, 8.0, -1], [0, 9.0, 0, -2], [10.5, 0, 0, -3], [0, 0, 0, 1]]
    assert np.allclose(case.volume.affine, wanted)
    assert np.allclose(read(copy.root, geometry="file")[0].volume.affine, lost)
    assert read(copy.root, intensity="csv-rescale")[0].volume.hu.min() == good.hu.min()
    with pytest.raises(VolumeError, match="never applied"):
        read(copy.root, intensity="hu")[0]


def test_a_raw_volume_without_a_row_has_no_spacing(copy: Copy) -> None:
    good = Copy(copy.root / "other")
    good.volume("train_1_a_1")
    hu = read(good.write())[0].volume.hu
    copy.volume("train_1_a_1", fixed=False, hu=hu, XYSpacing="")
    copy.write()
    assert read(copy.root)[0].meta["geometry"] == "file"
    with pytest.raises(VolumeError, match="its spacing is not known"):
        read(copy.root, geometry="csv")[0]


def test_padding_is_clipped_to_the_floor(copy: Copy) -> None:
    hu = np.full((20, 28, 28), -1000, np.int16)
    hu[:, 6:22, 4:24] = 40
    hu[:, 10:18, 8:12] = -850
    hu[:, :4] = -8192
    copy.volume("train_1_a_1", hu=hu)
    case = read(copy.write())[0]
    assert case.volume.hu.min() == -1024
    assert np.array_equal(case.volume.hu, np.maximum(hu, -1024))
    assert case.meta["intensity"]["stored"]["padding_hu"] == -8192
    assert case.meta["intensity"]["stored"]["padding_share"] == pytest.approx(4 / 28, abs=1e-3)
    assert read(copy.root, floor_hu=-1000)[0].volume.hu.min() == -1000
    json.dumps(case.meta)


def test_the_choice_of_reconstructions(copy: Copy) -> None:
    copy.volume("train_1_a_1", ConvolutionKernel="['Br40d', '3']", ZSpacing=3.0)
    copy.volume("train_1_a_2", ConvolutionKernel="['Bl57d', '3']", ZSpacing=1.0)
    copy.volume("train_2_a_1", ConvolutionKernel="YA", ZSpacing=1.5)
    root = copy.write()
    assert read(root).ids == ("train_1_a_1", "train_2_a_1")
    assert read(root, reconstruction="all").ids == ("train_1_a_1", "train_1_a_2", "train_2_a_1")
    assert read(root, reconstruction="smallest-spacing").ids == ("train_1_a_2", "train_2_a_1")
    assert read(root, reconstruction="kernel", prefer=("Bl*", "Br*")).ids == ("train_1_a_2", "train_2_a_1")
    assert read(root, reconstruction="kernel", prefer=("br40d",)).ids == ("train_1_a_1", "train_2_a_1")
    assert read(root, kernels=("Bl57d", "Br40d"), reconstruction="all").ids == ("train_1_a_1", "train_1_a_2")
    assert left_out(read(root, kernels=("Bl*",)))["train_2_a_1"] == "kernel YA (data.kernels)"
    # a filter comes before the choice: the second is taken where the first does not pass
    assert read(root, slice_spacing_mm=(0.5, 2.0)).ids == ("train_1_a_2", "train_2_a_1")
    assert left_out(read(root, slice_spacing_mm=(0.5, 2.0)))["train_1_a_1"] == "slice spacing 3 mm (data.slice_spacing_mm)"
    with pytest.raises(DataError, match="none of the 3 volumes"):
        read(root, pixel_spacing_mm=(0.1, 1.0))


def test_reports_and_labels_as_filters(copy: Copy) -> None:
    copy.volume("train_1_a_1")
    copy.volume("train_2_a_1", rows=False)
    copy.volume("train_3_a_1", rows=False)
    copy.row("reports", "train", "train_3_a_1")
    labels = {"Cardiomegaly": 1, "Emphysema": 0}
    copy.volume("train_4_a_1", rows=False)
    copy.row("labels", "train", "train_4_a_1", **labels)
    copy.row("reports", "train", "train_4_a_1", Findings_EN="Large heart.")
    root = copy.write()
    missing = "no report: no row, or neither findings nor impressions"
    assert left_out(read(root)) == {"train_2_a_1": missing, "train_3_a_1": missing}
    everything = read(root, require_report=False)
    assert len(everything) == 4
    assert everything.without_report == ("train_2_a_1", "train_3_a_1")
    assert read(root, labels_required=("Cardiomegaly",)).ids == ("train_4_a_1",)
    assert read(root, labels_excluded=("Cardiomegaly",)).ids == ("train_1_a_1",)
    assert left_out(read(root, labels_excluded=("Cardiomegaly",)))["train_4_a_1"] == "Cardiomegaly (data.labels_excluded)"
    # a label that is not known is not excluded by guessing
    assert read(root, labels_excluded=("Bronchiectasis",)).ids == ("train_1_a_1",)
    with pytest.raises(ValueError, match="did you mean 'Cardiomegaly'"):
        read(root, labels_required=("Cardiomegali",))


def test_rows_that_contradict_each_other_leave_the_volume_out(copy: Copy) -> None:
    copy.volume("train_1_a_1")
    copy.volume("train_2_a_1")
    copy.row("reports", "train", "train_1_a_1", Findings_EN="Another text.")
    found = read(copy.write())
    assert found.ids == ("train_2_a_1",)
    assert "train_reports.csv has several different rows of it, the first in line 2" in left_out(found)["train_1_a_1"]


def test_the_published_list_of_heads_is_used_and_others_on_request(copy: Copy, tmp_path: Path) -> None:
    for name in ("train_1_a_1", "train_2_a_1", "train_2_b_1", "train_3_a_1", "train_4_a_1"):
        copy.volume(name)
    root = copy.write()
    (copy.base / "metadata/no_chest_train.txt").write_text("train_1_a_1.nii.gz\n")
    assert left_out(read(root)) == {"train_1_a_1": "no chest: listed in no_chest_train.txt"}
    own = tmp_path / "own.txt"
    own.write_text("train_2\ntrain_fixed/train_3/train_3_a/train_3_a_1.nii.gz # blurred\n")
    found = read(root, no_chest=tmp_path / "empty.txt", exclude=(own,)) if (tmp_path / "empty.txt").touch() is None else None
    assert found is not None
    assert found.ids == ("train_1_a_1", "train_4_a_1")
    assert left_out(found)["train_3_a_1"] == "excluded: listed in own.txt (blurred)"
    with pytest.raises(MissingFileError, match=r"no list at .*absent\.txt"):
        read(root, exclude=(tmp_path / "absent.txt",))


def test_a_patient_on_both_sides_is_an_error_unless_said_otherwise(copy: Copy) -> None:
    for name in ("train_1_a_1", "train_2_a_1", "train_2_b_1", "valid_1_a_1"):
        copy.volume(name)
    copy.volume("train_2_b_1", side="valid")
    root = copy.write()
    with pytest.raises(DataError, match="1 patient is in train and in valid: train_2") as caught:
        read(root)
    assert "data.on_both_sides=drop-from-train" in caught.value.hint
    found = read(root, on_both_sides="drop-from-train")
    assert {case_id: found.split_of(case_id) for case_id in found.ids} == {
        "train_1_a_1": "train",
        "valid_1_a_1": "valid",
        "train_2_b_1": "valid",
    }
    assert left_out(found) == {
        "train_2_a_1": "patient train_2 is in valid too",
        "train_fixed/train_2/train_2_b/train_2_b_1.nii.gz": "patient train_2 is in valid too",
    }
    check_dataset(found)
    # reading one side alone, there is nothing to leak
    assert len(read(root, splits=("train",))) == 3


def test_without_a_valid_folder_patients_are_split(copy: Copy) -> None:
    for number in range(1, 25):
        for scan in "ab":
            copy.volume(f"train_{number}_{scan}_1")
    root = copy.write()
    found = read(root, valid_fraction=0.3)
    sides: dict[str, set[str]] = {}
    for case_id in found.ids:
        sides.setdefault(case_id.rsplit("_", 2)[0], set()).add(found.split_of(case_id))
    assert all(len(side) == 1 for side in sides.values())
    assert {side for one in sides.values() for side in one} == {"train", "valid"}
    alone = read(root, splits=("train",), valid_fraction=0.3)
    assert {alone.split_of(one) for one in alone.ids} == {"train"}
    copy.volume("valid_1_a_1")
    copy.write()
    again = read(root, valid_fraction=0.3)
    assert [one for one in again.ids if again.split_of(one) == "valid"] == ["valid_1_a_1"]


def test_fixed_before_raw_and_each_on_request(copy: Copy) -> None:
    copy.volume("train_1_a_1")
    copy.volume("train_1_a_1", fixed=False, rows=False)
    copy.volume("train_2_a_1", fixed=False)
    root = copy.write()
    found = read(root)
    assert found[0].meta["file"].startswith("train_fixed/")
    assert len(found) == 2
    assert left_out(found) == {
        "train/train_1/train_1_a/train_1_a_1.nii.gz": "train_fixed/train_1/train_1_a/train_1_a_1.nii.gz is used"
    }
    assert read(root, volumes="fixed").ids == ("train_1_a_1",)
    assert read(root, volumes="raw").ids == ("train_1_a_1", "train_2_a_1")


def test_what_is_missing_is_said(copy: Copy, tmp_path: Path) -> None:
    copy.volume("train_1_a_1", rows=False)
    with pytest.raises(MissingFileError, match=r"no table of reports at .*train_reports\.csv"):
        read(copy.write())
    assert len(read(copy.root, require_report=False)) == 1
    with pytest.raises(MissingFileError, match="no folder at"):
        read(tmp_path / "nowhere")
    with pytest.raises(DataError, match="is no copy of CT-RATE"):
        read(copy.base / "train_fixed")
    with pytest.raises(DataError, match="none of the 1 volumes"):
        read(copy.root, splits=("valid",), require_report=False)


def test_fields_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    for fields in ({"reconstruction": "kernel"}, {"prefer": ("B",)}, {"slice_spacing_mm": (2.0, 1.0)}, {"splits": ()}):
        with pytest.raises(ValueError):
            CtRateConfig(root=tmp_path, **fields)  # type: ignore[arg-type]
    both = {"labels_required": ("Emphysema",), "labels_excluded": ("Emphysema",)}
    with pytest.raises(ValueError, match="both required and excluded"):
        CtRateConfig(root=tmp_path, **both)  # type: ignore[arg-type]


def test_the_identity_follows_what_the_copy_holds(copy: Copy) -> None:
    copy.volume("train_1_a_1")
    config = CtRateConfig(root=copy.write())
    before = config.identity()
    assert config.identity() == before
    json.dumps(before)
    copy.volume("train_2_a_1")
    with_volume = config.identity()
    assert with_volume != before
    copy.write()
    assert config.identity() != with_volume
    assert CtRateConfig(root=copy.root / "nowhere").identity()["contents"]


def test_origins_change_with_what_decides_a_case(copy: Copy) -> None:
    copy.volume("train_1_a_1")
    copy.volume("train_2_a_1")
    before = [read(copy.write()).origin(index) for index in (0, 1)]
    assert before[0].files == (copy.base / "train_fixed/train_1/train_1_a/train_1_a_1.nii.gz",)
    json.dumps([dict(one.facts) for one in before])
    copy.rows["reports", "train"][0][3] = "Changed."
    after = [read(copy.write()).origin(index) for index in (0, 1)]
    assert after[0].facts != before[0].facts
    assert after[1].facts == before[1].facts
    assert read(copy.root, intensity="hu").origin(1).facts != after[1].facts
