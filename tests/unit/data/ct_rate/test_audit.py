"""The audit: every planted trap is found, and nothing else is serious."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from html import escape
from pathlib import Path

import pytest

from ctgen.data.ct_rate import audit as auditing
from ctgen.data.ct_rate.audit import Audit, audit
from ctgen.data.ct_rate.config import CtRateConfig
from ctgen.data.ct_rate.dataset import CtRate
from ctgen.data.ct_rate.findings import KINDS
from ctgen.data.labels import LABELS
from ctgen.errors import DataError
from ctgen.report.data_check import write_check

from .conftest import Copy

Made = Callable[..., Path]


def found(result: Audit) -> set[tuple[str, str]]:
    return {(one.kind, one.subject) for one in result.findings}


def planted(root: Path) -> set[tuple[str, str]]:
    return {(one["kind"], one["subject"]) for one in json.loads((root / "planted.json").read_text())["planted"]}


@pytest.fixture(scope="module")
def spoilt(simulated: Made) -> Audit:
    return audit(simulated("fixed", damage=True))


@pytest.mark.parametrize("kind", ["fixed", "raw"])
@pytest.mark.parametrize("damage", [True, False])
def test_what_was_planted_is_found_and_nothing_else(simulated: Made, kind: str, damage: bool) -> None:
    root = simulated(kind, damage=damage)
    result = audit(root)
    assert planted(root) <= found(result)
    # on so coarse a grid a simulated chest may have too few lung voxels to be called one
    assert {kind for kind, _ in found(result) - planted(root)} <= {"no-chest"}
    serious = {trap for trap in planted(root) if KINDS[trap[0]].severity == "serious"}
    assert result.serious == len(serious)
    assert bool(serious) is damage


def test_two_processes_find_the_same(simulated: Made, spoilt: Audit) -> None:
    assert audit(simulated("fixed", damage=True), workers=2).findings == spoilt.findings


def test_a_sample_reads_fewer_but_checks_every_header_and_row(simulated: Made, spoilt: Audit) -> None:
    none = audit(simulated("fixed", damage=True), sample=0)
    assert none.voxels == 0
    assert found(none) < found(spoilt)
    missed = {kind for kind, _ in found(spoilt) - found(none)}
    # the checksum's bit and the NaNs are only met when the voxels are read
    assert missed == {"unreadable", "hu-twice", "implausible-hu", "raw-in-fixed", "no-chest", "padding"}
    some = audit(simulated("fixed", damage=True), sample=30)
    assert some.voxels == 30
    assert found(none) < found(some) < found(spoilt)


def test_messages_hold_the_numbers(spoilt: Audit) -> None:
    texts = {one.kind: one.message for one in spoilt.findings}
    assert "add 1024" in texts["hu-twice"]
    assert "soft tissue" in texts["raw-in-fixed"]
    assert "-8192 HU" in texts["padding"]
    assert "of the body is lung" in texts["no-chest"]
    assert "25 x 32 x 32" in texts["metadata-mismatch"]
    assert "given in line" in texts["conflicting-rows"]
    assert "Arterial wall calcification for Medical material" in texts["label-columns"]


def test_the_list_of_what_to_leave_out_makes_a_clean_data_set(simulated: Made, spoilt: Audit, tmp_path: Path) -> None:
    root, exclude = simulated("fixed", damage=True), tmp_path / "exclude.txt"
    with pytest.raises(DataError, match="in train and in valid"):
        CtRate(CtRateConfig(root=root))
    exclude.write_text(spoilt.exclude_text())
    dataset = CtRate(CtRateConfig(root=root, exclude=(exclude,), reconstruction="all"))
    bad = {subject for kind, subject in planted(root) if kind in ("unreadable", "hu-twice", "implausible-hu", "no-chest")}
    used = {f"{dataset.origin(index).files[0].relative_to(root / 'dataset')}" for index in range(len(dataset))}
    assert not used & bad
    copies = [one for one in spoilt.findings if one.kind == "copy-in-other-split"]
    assert copies and all(one.subject not in used and one.message.split()[-1] in used for one in copies)
    sides = {(one.split("_")[1], dataset.split_of(one)) for one in dataset.ids if one.startswith("train_")}
    assert len(sides) == len({patient for patient, _ in sides})


def test_an_interrupted_audit_goes_on(simulated: Made, spoilt: Audit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, resume = simulated("fixed", damage=True), tmp_path / "volumes.jsonl"
    seen: list[str] = []
    check = auditing.check_volume

    def counted(base, one, scan, *, voxels):
        seen.append(one.path)
        if len(seen) == 20:
            raise KeyboardInterrupt
        return check(base, one, scan, voxels=voxels)

    monkeypatch.setattr(auditing, "check_volume", counted)
    with pytest.raises(KeyboardInterrupt):
        audit(root, resume=resume)
    with resume.open("a") as stream:
        stream.write('{"path": "torn')
    again = audit(root, resume=resume)
    assert len(seen) == 20 + len(again.checked) - 19
    assert again.findings == spoilt.findings
    assert again.to_json() == spoilt.to_json()
    audit(root, resume=resume)
    assert len(seen) == 20 + len(again.checked) - 19


def test_a_changed_file_or_row_is_checked_again(copy: Copy, tmp_path: Path) -> None:
    path = copy.volume("train_1_a_1")
    copy.volume("train_2_a_1")
    root, resume = copy.write(), tmp_path / "volumes.jsonl"
    assert audit(root, resume=resume).serious == 0
    path.write_bytes(path.read_bytes()[:-40])
    assert [one.kind for one in audit(root, resume=resume).findings] == ["unreadable"]
    copy.rows["metadata", "train"][1][41] = "21"
    copy.write()
    assert [one.kind for one in audit(root, resume=resume).findings] == ["unreadable", "metadata-mismatch"]


def test_what_only_hand_made_copies_have(copy: Copy) -> None:
    copy.volume("train_1_a_1")
    copy.volume("train_1_a_2")
    copy.rows["reports", "train"][1][3] = "Something else."
    copy.volume("train_2_a_1", rows=False)
    copy.row("reports", "train", "train_2_a_1", Findings_EN="Clear.")
    copy.rows["reports", "train"].append(["no name", "", "", "", ""])
    copy.volume("train_3_a_1", XYSpacing="[9.0, 9.0]")
    copy.volume("valid_1_a_1", rows=False)
    short = copy.volume("train_4_a_1", ZSpacing=5.0, NumberofSlices=20)
    headers = {"labels": ["VolumeName", *LABELS[:-1], "Cough"]}
    result = found(audit(copy.write(headers)))
    assert short.is_file()
    table = "radiology_text_reports/validation_reports.csv"
    assert {
        ("reports-differ", "train_1_a"),
        ("no-label-row", "train_2_a_1"),
        ("no-metadata-row", "train_2_a_1"),
        ("metadata-mismatch", "train_3_a_1"),
        ("missing-columns", "multi_abnormality_labels/train_predicted_labels.csv"),
        ("missing-table", table),
    } <= result
    assert {kind for kind, _ in result} >= {"bad-row", "no-report-row"}


def test_equal_checksums_of_different_files_are_no_copies(copy: Copy) -> None:
    first, second = copy.volume("train_1_a_1"), copy.volume("train_2_a_1")
    assert audit(copy.write()).serious == 0
    shutil.copyfile(first, second)
    assert [one.kind for one in audit(copy.root).findings] == ["copy-in-same-split"]
    # packed otherwise, the voxels are the same still
    second.write_bytes(gzip.compress(gzip.decompress(first.read_bytes()), 9))
    assert [one.kind for one in audit(copy.root).findings] == ["copy-in-same-split"]
    assert not auditing._equal(first, copy.volume("train_3_a_1"))


def test_the_page_is_self_contained_and_escaped(spoilt: Audit, tmp_path: Path) -> None:
    text = write_check(tmp_path / "check.html", spoilt).read_text()
    assert "data:image/png;base64," in text
    assert "http://" not in text and "https://" not in text and "<script" not in text
    for kind in {one.kind for one in spoilt.findings}:
        assert escape(KINDS[kind].title) in text
    assert f"{spoilt.serious} serious" in text
    assert "train_3_a_1 (1).nii.gz" in text


def test_the_json_holds_every_finding_and_the_distributions(spoilt: Audit) -> None:
    record = json.loads(json.dumps(spoilt.to_json()))
    assert len(record["findings"]) == len(spoilt.findings)
    assert record["counts"]["train"]["scans_with_two_or_more_reconstructions"] > 20
    assert record["distributions"]["slices"]["max"] == 24
    spacing = record["distributions"]["slice spacing, mm"]
    assert (spacing["min"], spacing["max"]) == (12, 24)
    assert list(spacing) == ["min", "p5", "median", "p95", "max"]
