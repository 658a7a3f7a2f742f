"""What the audit of a copy of CT-RATE may find, how serious each is, and what ctgen does about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

Severity = Literal["serious", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("serious", "warning", "note")


@dataclass(frozen=True)
class Kind:
    """``meaning``: what it does to training; ``remedy``: what ``ct-rate`` does, or what to do."""

    severity: Severity
    title: str
    meaning: str
    remedy: str


class Finding(NamedTuple):
    """``subject``: a path below the data set's folder, a volume's name, a patient, or a split."""

    kind: str
    subject: str
    message: str


KINDS: dict[str, Kind] = {
    "unreadable": Kind(
        "serious", "unreadable volumes", "a loader stops there, or trains on zeros", "left out when it is met, with the reason"
    ),
    "hu-twice": Kind("serious", "HU computed twice", "the chest is all air", "left out; copy the file again"),
    "implausible-hu": Kind("serious", "not HU", "no tissue is where it should be", "left out; copy the file again"),
    "raw-in-fixed": Kind(
        "serious",
        "stored values in a *_fixed folder",
        "read as HU, tissue becomes bone",
        "intensity: auto computes HU; intensity: hu refuses it",
    ),
    "hu-in-raw": Kind(
        "serious",
        "HU in a folder of stored values",
        "rescaled by the table, the chest becomes air",
        "intensity: auto reads it as it is; intensity: csv-rescale refuses it",
    ),
    "both-sides": Kind(
        "serious",
        "patients in train and in valid",
        "validation scores are too good",
        "an error, or on_both_sides: drop-from-train",
    ),
    "copy-in-other-split": Kind(
        "serious",
        "the same voxels in train and in valid",
        "validation scores are too good",
        "leave the listed files out by exclude",
    ),
    "copy-in-same-split": Kind(
        "serious", "the same voxels under two names", "one scan with two reports", "leave the listed files out by exclude"
    ),
    "conflicting-rows": Kind("serious", "several different rows of a volume", "one of the texts is wrong", "left out"),
    "label-columns": Kind(
        "serious",
        "label columns in another order",
        "loaders that go by position swap labels",
        "ct-rate goes by the columns' names",
    ),
    "missing-table": Kind("serious", "no such table", "no text, labels or HU for a whole split", "copy the table"),
    "missing-columns": Kind("serious", "a table lacks columns", "what they say is not known", "copy the table again"),
    "no-chest": Kind("warning", "no lungs: head, neck or abdomen", "the report is of something else", "left out by prepare"),
    "no-report": Kind(
        "warning", "reports without findings and impressions", "nothing to condition on", "left out by require_report"
    ),
    "no-report-row": Kind(
        "warning", "volumes without a row of reports", "nothing to condition on", "left out by require_report"
    ),
    "no-label-row": Kind("warning", "volumes without a row of labels", "labels are not known", "kept, without labels"),
    "no-metadata-row": Kind(
        "warning",
        "volumes without a row of metadata",
        "rescale, kernel and spacing are not known",
        "kept, if they are HU as stored",
    ),
    "reports-differ": Kind(
        "warning", "reconstructions of a scan with different reports", "one of the texts is wrong", "each keeps its own"
    ),
    "metadata-mismatch": Kind(
        "warning", "size or spacing is not as in the table", "a wrong or a half file", "the file counts; look at it"
    ),
    "geometry-lost": Kind("warning", "fixed volumes without a geometry", "spacing is not known", "taken from the table"),
    "misplaced": Kind("warning", "volumes in another patient's folder", "scripts that build paths miss them", "found by name"),
    "foreign-name": Kind("warning", ".nii.gz files with other names", "no row belongs to them", "not read"),
    "bad-row": Kind("warning", "unreadable rows of tables", "what they say is lost", "skipped"),
    "short": Kind("warning", "scans that cover less than 150 mm", "part of a chest", "left out by prepare.min_depth_mm"),
    "padding": Kind("note", "padding below -1024 HU", "a huge negative number in means and scales", "clipped to floor_hu: air"),
    "row-without-file": Kind("note", "rows without a file", "usual in a copy of a part", "ignored"),
    "duplicate-row": Kind("note", "the same row twice", "harmless", "read once"),
    "extra-file": Kind("note", "files that are no volumes", "left behind by a download", "not read"),
}


def severity_of(kind: str) -> Severity:
    return KINDS[kind].severity
