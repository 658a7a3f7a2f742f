from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from ctgen.data.atlas.config import AtlasThoraxConfig
from ctgen.data.atlas.dataset import AtlasThorax, split_of
from ctgen.data.atlas.facts import LABEL_OF
from ctgen.data.atlas.scan import simulate
from ctgen.data.atlas.simulate import simulate_to_folder
from ctgen.data.folder import FolderDataset
from ctgen.data.folder_config import FolderConfig
from ctgen.data.labels import LABELS
from ctgen.errors import ConfigError, DataError
from ctgen.testing import check
from ctgen.volume.io import read_volume


def test_case_is_complete(coarse: AtlasThoraxConfig) -> None:
    case = AtlasThorax(coarse)[2]
    assert case.id == "atlas-0-00002" and case.split == "train"
    assert case.volume.shape == coarse.size and case.volume.spacing_mm == coarse.spacing_mm
    assert tuple(case.labels) == LABELS
    assert {row["name"] for row in case.meta["findings"]} == {name for name, label in LABEL_OF.items() if case.labels[label]}
    json.dumps(case.meta)


def test_masks_are_there_if_asked_for_and_change_nothing_else(coarse: AtlasThoraxConfig) -> None:
    asked = coarse.model_copy(update={"masks": True, "labels": {"pleural_effusion": True, "hiatal_hernia": False}})
    plain, dataset = AtlasThorax(asked.model_copy(update={"masks": False})), AtlasThorax(asked)
    beside = 0
    for index in range(3):
        case, without = dataset[index], plain[index]
        assert without.masks is None
        np.testing.assert_array_equal(case.volume.hu, without.volume.hu)
        assert (case.report, case.labels, case.meta) == (without.report, without.labels, without.meta)
        assert list(case.masks) == [label for label in LABELS if case.labels[label]]
        assert all(mask.shape == coarse.size and mask.dtype == bool and mask.any() for mask in case.masks.values())
        effusion = [row for row in case.meta["findings"] if row["name"] == "pleural_effusion"]
        wet = case.masks["Pleural effusion"]
        assert wet.sum() > 20 and effusion
        assert abs(case.volume.hu[wet].mean()) < 60
        beside += case.labels["Atelectasis"]
    assert beside
    check("dataset", dataset)
    assert dataset.config.identity() == {**plain.config.identity(), "masks": True}
    assert "masks" not in plain.config.identity(), "data sets from before there were masks are still the same"
    assert dataset.origin(1).facts != plain.origin(1).facts


def test_more_cases_move_none() -> None:
    few, many = AtlasThorax(AtlasThoraxConfig(cases=16)), AtlasThorax(AtlasThoraxConfig(cases=200))
    assert [few.split_of(case_id) for case_id in few.ids] == [many.split_of(case_id) for case_id in few.ids]
    assert sum(few.split_of(case_id) == "valid" for case_id in few.ids) == 2
    shares = [np.mean([split_of(index, fraction) == "valid" for index in range(300)]) for fraction in (0.0, 0.1, 0.3)]
    assert shares == pytest.approx([0.0, 0.1, 0.3], abs=0.01)


def test_index_out_of_range(coarse: AtlasThoraxConfig) -> None:
    dataset = AtlasThorax(coarse)
    with pytest.raises(IndexError):
        dataset[8]


def test_a_scan_longer_than_the_atlas_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"384 mm is longer than the 290 mm"):
        AtlasThorax(AtlasThoraxConfig(size=(128, 128, 128)))


def test_config_mistakes() -> None:
    for fields in (
        {"noise_hu": (9, 3)},
        {"findings": {"flu": 0.5}},
        {"kinds": ["flu"]},
        {"prevalence": 1.5},
        {"spacing_mm": (30, 3, 3)},
    ):
        with pytest.raises(ValidationError):
            AtlasThoraxConfig(**fields)
    with pytest.raises(ValidationError, match="kinds"):
        AtlasThoraxConfig(kinds=["flu"])


def test_folder_round_trip_and_resume(tmp_path: Path, coarse: AtlasThoraxConfig) -> None:
    out = simulate_to_folder(tmp_path / "sim", 2, 5, coarse)
    scans = {path.name: path.stat().st_mtime_ns for path in out.glob("*.nii.gz")}
    assert sorted(scans) == ["atlas-5-00000.nii.gz", "atlas-5-00001.nii.gz"]
    (out / "atlas-5-00001.json").unlink()
    simulate_to_folder(tmp_path / "sim", 3, 5, coarse)
    after = {path.name: path.stat().st_mtime_ns for path in out.glob("*.nii.gz")}
    assert len(after) == 3
    assert after["atlas-5-00000.nii.gz"] == scans["atlas-5-00000.nii.gz"], "a finished case is not made again"
    assert after["atlas-5-00001.nii.gz"] != scans["atlas-5-00001.nii.gz"], "an unfinished one is"

    folder = FolderDataset(FolderConfig(root=out))
    made = AtlasThorax(coarse.model_copy(update={"seed": 5}))
    for index in range(3):
        read, case = folder[index], made[index]
        np.testing.assert_array_equal(read.volume.hu, case.volume.hu)
        np.testing.assert_allclose(read.volume.affine, case.volume.affine, atol=1e-4)
        assert read.report == case.report and dict(read.labels) == dict(case.labels)


def test_folder_of_something_else_is_left_alone(tmp_path: Path, coarse: AtlasThoraxConfig) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"notes\.txt"):
        simulate_to_folder(tmp_path, 1, 0, coarse)
    out = simulate_to_folder(tmp_path / "sim", 1, 0, coarse)
    with pytest.raises(DataError, match="another seed"):
        simulate_to_folder(out, 1, 1, coarse)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", "sim"]


def test_masks_beside_scans_can_be_added_and_are_no_scans(tmp_path: Path, coarse: AtlasThoraxConfig) -> None:
    out, masked = tmp_path / "sim", coarse.model_copy(update={"masks": True})
    simulate_to_folder(out, 2, 5, coarse)
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    simulate_to_folder(out, 3, 5, masked)
    assert all(path.stat().st_mtime_ns == time for path, time in before.items() if path.name.startswith("atlas"))
    files = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    (out / "masks" / "atlas-5-00001" / "organs.nii.gz").unlink()
    simulate_to_folder(out, 3, 5, masked)
    again = {path for path, time in files.items() if path.stat().st_mtime_ns != time and path.name != "reports.csv"}
    assert {path.parent.name for path in again} == {"atlas-5-00001"}, "masks without organs are not complete"

    plain = FolderDataset(FolderConfig(root=out))
    folder = FolderDataset(FolderConfig(root=out, masks="masks"))
    assert list(plain.ids) == list(folder.ids) == ["atlas-5-00000", "atlas-5-00001", "atlas-5-00002"]
    assert plain[0].masks is None
    made = AtlasThorax(masked.model_copy(update={"seed": 5}))
    names = json.loads((out / "masks" / "organs.json").read_text())
    for index in range(3):
        read, case = folder[index], made[index]
        assert list(read.masks) == list(case.masks)
        for label, mask in case.masks.items():
            np.testing.assert_array_equal(read.masks[label], mask)
        organs = read_volume(out / "masks" / case.id / "organs.nii.gz")
        assert organs.meta["dtype"] == "uint8"
        np.testing.assert_allclose(organs.affine, read.volume.affine, atol=1e-4)
        np.testing.assert_array_equal(organs.hu, simulate(5, index, coarse, with_masks=True).labels)
        assert {names.get(str(value)) for value in np.unique(organs.hu) if value} >= {"aorta", "lung_lower_lobe_left"}
    check("dataset", folder)
