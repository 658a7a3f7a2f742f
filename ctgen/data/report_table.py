"""A CSV of reports and labels, matched with scans; every mistake is reported with its line."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ctgen.data.labels import LABELS
from ctgen.errors import DataError, MissingFileError, did_you_mean
from ctgen.interfaces import Report

ID_COLUMNS = ("id", "volumename")
PARTS = {
    "findings": ("report", "findings", "findings_en"),
    "impressions": ("impressions", "impression", "impressions_en"),
    "clinical_information": ("clinical_information", "clinicalinformation_en"),
    "technique": ("technique", "technique_en"),
}
MISSING = ("", "not given.", "not given", "nan")
LISTED = 20


@dataclass(frozen=True)
class Row:
    """One line of the table; ``report`` is None where all its parts are empty, ``labels`` where no label is given."""

    line: int
    report: Report | None
    labels: dict[str, int] | None
    patient: str | None


def read_report_table(
    path: Path, match: Callable[[str], str | None], *, id_columns: tuple[str, ...] = ID_COLUMNS
) -> dict[str, Row]:
    """Scan id -> row. ``match`` turns a name of the table into a scan's id, None if there is no such scan, "" to pass over it.

    Columns: id (or VolumeName); report, or findings with impressions, clinical_information, technique (also by CT-RATE's
    names); any of the 18 labels with 0, 1 or nothing; patient. Others are ignored. ``id_columns``: other names, in lower case.
    Raises DataError with all mistakes and their lines.
    """
    if not path.is_file():
        raise MissingFileError(f"no table of reports at {path}", hint="leave data.reports away to go without reports")
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream)
            header = [name.strip() for name in next(reader, [])]
            columns = _columns(path, header, id_columns)
            lines = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: not UTF-8 text ({error.reason} at byte {error.start})", hint="save it as CSV UTF-8"
        ) from error
    except csv.Error as error:
        raise DataError(f"{path}: not a readable CSV: {error}") from error
    problems: list[str] = []
    rows: dict[str, Row] = {}
    for line, cells in lines:
        where = f"{path}:{line}"
        if len(cells) != len(header):
            problems.append(f"{where}: {len(cells)} cells, the header has {len(header)} (a comma in a text needs quotes)")
            continue
        name = cells[columns["id"]].strip()
        if not name:
            problems.append(f"{where}: the id is empty")
            continue
        found = match(name)
        if found is None:
            problems.append(f"{where}: no scan with the id {name!r}")
        elif found and found in rows:
            problems.append(f"{where}: {name!r} was given before, in line {rows[found].line}")
        elif found:
            rows[found] = _row(line, cells, columns, where, problems)
    if problems:
        more = [f"... and {len(problems) - LISTED} more"] if len(problems) > LISTED else []
        raise DataError("\n".join([*problems[:LISTED], *more]), hint="ids are file names without their suffix")
    return rows


def _columns(path: Path, header: list[str], id_columns: tuple[str, ...]) -> dict[str, int]:
    """Meaning -> column: "id", "patient", a report part or a label."""
    lower = [name.lower() for name in header]
    columns: dict[str, int] = {}
    for meaning, names in {
        "id": id_columns,
        "patient": ("patient",),
        **PARTS,
        **{label: (label.lower(),) for label in LABELS},
    }.items():
        hits = [index for index, name in enumerate(lower) if name in names]
        if len(hits) > 1:
            raise DataError(f"{path}:1: the columns {', '.join(header[index] for index in hits)} mean the same; keep one")
        if hits:
            columns[meaning] = hits[0]
    unknown = [name for index, name in enumerate(lower) if index not in columns.values()]
    near = next((hint for name in unknown if (hint := did_you_mean(name, ["id", "report", "findings", "impressions"]))), "")
    if len(header) == 1 and ";" in header[0]:
        near = "the cells are separated by ';': save the table with commas"
    if "id" not in columns:
        raise DataError(f"{path}:1: no column 'id' (columns: {', '.join(header) or 'none'})", hint=near)
    if "findings" not in columns and not any(label in columns for label in LABELS):
        raise DataError(f"{path}:1: no column 'report' or 'findings', and no label (columns: {', '.join(header)})", hint=near)
    return columns


def _row(line: int, cells: list[str], columns: dict[str, int], where: str, problems: list[str]) -> Row:
    texts = {part: cells[columns[part]].strip() for part in PARTS if part in columns}
    texts = {part: "" if text.lower() in MISSING else text for part, text in texts.items()}
    report = Report(**{"findings": "", **texts}) if any(texts.values()) else None
    labels: dict[str, int] = {}
    for label in LABELS:
        text = cells[columns[label]].strip() if label in columns else ""
        if text in ("0", "1", "0.0", "1.0"):
            labels[label] = int(float(text))
        elif text:
            problems.append(f"{where}: {label}: {text!r} is not 0 or 1")
    patient = cells[columns["patient"]].strip() if "patient" in columns else ""
    return Row(line, report, labels or None, patient or None)
