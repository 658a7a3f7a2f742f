"""Reading the reports to generate from: one text, a CSV, or the VLM3D challenge's JSON."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping
from pathlib import Path

from ctgen.atomic import stable_hash
from ctgen.errors import DataError, did_you_mean
from ctgen.interfaces import Report

ID_COLUMNS = ("id", "VolumeName", "input_image_name")
PARTS: Mapping[str, tuple[str, ...]] = {
    "findings": ("findings", "Findings_EN", "report"),
    "impressions": ("impressions", "Impressions_EN"),
    "clinical_information": ("clinical_information", "ClinicalInformation_EN"),
    "technique": ("technique", "Technique_EN"),
}
NOT_GIVEN = "Not given."
"""CT-RATE's word for a missing part."""


def from_text(text: str) -> tuple[str, Report]:
    """A report given on the command line; its id follows from the text."""
    if not text.strip():
        raise DataError("the report is empty", hint='write --report "Small left pleural effusion."')
    return f"report-{stable_hash(text) % 16**8:08x}", Report(findings=text.strip())


def read_reports(path: Path) -> list[tuple[str, Report]]:
    """(id, report) of every row of a .csv, or entry of a .json list. Raises DataError with the row's number."""
    if not path.is_file():
        raise DataError(f"no file {path}", hint="--reports takes a .csv or .json file; --report takes the text itself")
    if path.suffix == ".json":
        rows = _json_rows(path)
    elif path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8-sig") as handle:
            rows = [dict(row) for row in csv.DictReader(handle)]
    else:
        raise DataError(f"{path}: reports are read from .csv or .json, not {path.suffix or 'a file without suffix'}")
    if not rows:
        raise DataError(f"{path}: no reports in it")
    found: dict[str, Report] = {}
    for number, row in enumerate(rows, start=2 if path.suffix == ".csv" else 1):
        case_id, report = _row(path, number, row)
        if case_id in found:
            raise DataError(f"{path}: row {number}: id {case_id!r} is there twice")
        found[case_id] = report
    return list(found.items())


def _json_rows(path: Path) -> list[dict[str, str]]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: not JSON: {error}") from error
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise DataError(f'{path}: expected a list like [{{"id": "a", "report": "..."}}]')
    return value


def _row(path: Path, number: int, row: Mapping[str, str]) -> tuple[str, Report]:
    id_column = next((column for column in ID_COLUMNS if row.get(column)), None)
    parts = {
        part: next((str(row[column]).strip() for column in columns if row.get(column)), "") for part, columns in PARTS.items()
    }
    if not parts["findings"] and not parts["impressions"]:
        columns = [column for names in PARTS.values() for column in names]
        near = next((hint for key in row if key not in columns and (hint := did_you_mean(str(key), columns))), "")
        raise DataError(f"{path}: row {number}: no report text in columns {', '.join(map(str, row))}", hint=near or "expected id, report")
    report = Report(**{part: "" if text == NOT_GIVEN else text for part, text in parts.items()})
    raw = str(row[id_column]) if id_column else f"row-{number:05d}"
    name = re.sub(r"\.(nii\.gz|nii|mha|mhd|nrrd)$", "", raw)
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._") or f"row-{number:05d}", report
