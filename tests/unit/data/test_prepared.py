from __future__ import annotations

import numpy as np
import pytest

from ctgen.atomic import write_json
from ctgen.data.prepared import PreparedCases, outcome_of, take_over, write_case, write_skipped
from ctgen.errors import StageError
from ctgen.interfaces import Case, Report, Skipped
from ctgen.testing import phantom
from ctgen.volume import Volume

LABELS = {"Lung nodule": 1, "Pleural effusion": 0}


def store(folder, *cases):
    for case in cases:
        write_case(folder, case, case.volume, {"note": "x"})
    write_json(
        folder / "manifest.json",
        {
            "cases": [{"id": case.id, "split": case.split} for case in cases],
            "skipped": [{"id": "gone", "reason": "no chest"}],
            "without_report": [],
        },
    )
    return PreparedCases(folder)


def test_a_case_comes_back_as_it_went_in(tmp_path):
    volume = phantom(seed=4)
    report = Report("Nodule.", "Follow up.", "Cough.", "Native.")
    cases = store(tmp_path, Case("a", volume, report, LABELS, "valid", {"seed": 3}), Case("b", volume))
    assert (cases.ids("valid"), cases.ids("train")) == (["a"], ["b"])
    assert np.array_equal(cases.volume("a").hu, volume.hu)
    assert np.array_equal(cases.volume("a").affine, volume.affine)
    assert cases.report("a") == report
    assert cases.prompt("a").report == report
    assert cases.prompt("a").slices == 12
    record = cases.record("a")
    assert record["labels"] == LABELS
    assert record["meta"] == {"seed": 3}
    assert record["note"] == "x"
    assert cases.skipped == [Skipped("gone", "no chest")]


def test_no_report_and_no_labels_stay_unknown(tmp_path):
    cases = store(tmp_path, Case("b", phantom()))
    assert cases.report("b") is None
    assert cases.record("b")["labels"] is None
    assert cases.prompt("b").report == Report(findings="")


def test_hu_are_rounded_and_clipped_not_wrapped(tmp_path):
    hu = np.array([-40000.0, -0.6, 0.4, 40000.0], np.float32).reshape(1, 2, 2)
    cases = store(tmp_path, Case("a", Volume(hu, np.eye(4))))
    assert cases.array("a").dtype == np.int16
    assert cases.array("a").ravel().tolist() == [-32768, -1, 0, 32767]


def test_arrays_are_mapped_not_loaded(tmp_path):
    assert isinstance(store(tmp_path, Case("a", phantom())).array("a"), np.memmap)


def test_masks_come_back_and_are_checked(tmp_path):
    volume, none = phantom(), phantom().hu > 32000
    masks = {"Pleural effusion": volume.hu > 30, "Lung nodule": volume.hu < -500}
    bare, empty = Case("bare", volume), Case("empty", volume, masks={})
    cases = store(tmp_path, Case("a", volume, labels=LABELS, masks=masks), bare, empty)
    assert cases.record("a")["masks"] == ["Lung nodule", "Pleural effusion"]
    found = cases.masks("a")
    assert list(found) == ["Lung nodule", "Pleural effusion"]
    assert all(np.array_equal(found[label], mask) for label, mask in masks.items())
    assert np.array_equal(cases.mask_bits("a"), (masks["Lung nodule"] << 9) + (masks["Pleural effusion"] << 12))
    assert cases.masks("bare") is None and cases.mask_bits("bare") is None
    assert not {"masks", "masks_sha256"} & cases.record("bare").keys()
    assert not (tmp_path / "cases" / "bare.masks.npz").exists()
    assert cases.masks("empty") == {}
    assert np.array_equal(cases.mask_bits("empty"), none)

    assert all(cases.masks_intact(name) for name in ("a", "bare", "empty"))
    (tmp_path / "cases" / "empty.masks.npz").replace(tmp_path / "cases" / "a.masks.npz")
    assert not cases.masks_intact("a")
    write_case(tmp_path, Case("b", volume, masks={**masks, "Lung nodule": none}), volume, {})
    (tmp_path / "cases" / "b.masks.npz").replace(tmp_path / "cases" / "a.masks.npz")
    assert not cases.masks_intact("a")


def test_masks_are_taken_over_with_their_case(tmp_path):
    volume = phantom()
    old, new = tmp_path / "old", tmp_path / "new"
    for case in (Case("a", volume, masks={"Lung nodule": volume.hu > 30}), Case("b", volume)):
        write_case(old, case, volume, {})
        take_over(old, new, case.id, outcome_of(old, case.id))
    write_json(new / "manifest.json", {"cases": [], "skipped": []})
    cases = PreparedCases(new)
    assert np.array_equal(cases.masks("a")["Lung nodule"], volume.hu > 30)
    assert cases.masks_intact("a")
    assert sorted(path.name for path in (new / "cases").iterdir()) == ["a.json", "a.masks.npz", "a.npy", "b.json", "b.npy"]


def test_outcomes(tmp_path):
    volume = phantom()
    write_case(tmp_path, Case("a", volume), volume, {})
    write_skipped(tmp_path, Skipped("b", "why"))
    assert outcome_of(tmp_path, "a")["id"] == "a"
    assert outcome_of(tmp_path, "b") == {"id": "b", "reason": "why"}
    assert outcome_of(tmp_path, "c") is None


def test_an_array_without_its_record_is_not_a_case(tmp_path):
    volume = phantom()
    write_case(tmp_path, Case("a", volume), volume, {})
    (tmp_path / "cases" / "a.json").unlink()
    assert outcome_of(tmp_path, "a") is None


def test_an_unfinished_folder_says_what_to_run(tmp_path):
    with pytest.raises(StageError, match=r"no manifest\.json") as caught:
        PreparedCases(tmp_path)
    assert "--until prepare" in caught.value.hint
