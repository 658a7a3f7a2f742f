"""Reading the reports to generate from: one text, a CSV, or the VLM3D challenge's JSON."""

from __future__ import annotations

import json
import re
from pathlib import Path

from ctgen.atomic import stable_hash
from ctgen.data.report_table import read_report_table
from ctgen.errors import DataError
from ctgen.interfaces import Report


def from_text(text: str) -> tuple[str, Report]:
    """A report given on the command line; its id follows from the text."""
    if not text.strip():
        raise DataError("the report is empty", hint='write --report "Small left pleural effusion."')
    return f"report-{stable_hash(text.strip()) % 16**8:08x}", Report(findings=text.strip())


def read_reports(path: Path) -> list[tuple[str, Report]]:
    """(id, report) of every row of a .csv (see read_report_table), or entry of a .json list. Raises DataError with the row."""
    if not path.is_file():
        raise DataError(f"no file {path}", hint="--reports takes a .csv or .json file; --report takes the text itself")
    suffix = path.suffix.lower()
    if suffix == ".csv":
        rows = read_report_table(path, match=lambda name: name)
        found = {name: row.report for name, row in rows.items()}
    elif suffix == ".json":
        found = _json_reports(path)
    else:
        raise DataError(f"{path}: reports are read from .csv or .json, not {path.suffix or 'a file without suffix'}")
    empty = [name for name, report in found.items() if report is None]
    if empty:
        raise DataError(f"{path}: no report text for {', '.join(empty[:8])}")
    if not found:
        raise DataError(f"{path}: no reports in it")
    names: dict[str, str] = {}
    for name in found:
        if (first := names.setdefault(safe_name(name), name)) != name:
            raise DataError(f"{path}: {first!r} and {name!r} would both be written as {safe_name(name)!r}", hint="rename one")
    return [(safe_name(name), report) for name, report in found.items() if report is not None]


def safe_name(name: str) -> str:
    """``name`` without a volume suffix and with no character that a file name should not have."""
    bare = re.sub(r"\.(nii\.gz|nii|mha|mhd|nrrd)$", "", name)
    return re.sub(r"[^A-Za-z0-9._-]+", "_", bare).strip("._") or f"report-{stable_hash(name) % 16**8:08x}"


def _json_reports(path: Path) -> dict[str, Report | None]:
    """The VLM3D challenge's list of {"input_image_name", "report"}; "id" and the report's parts are understood too."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: not JSON: {error}") from error
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise DataError(f'{path}: expected a list like [{{"input_image_name": "a", "report": "..."}}]')
    found: dict[str, Report | None] = {}
    for number, entry in enumerate(entries, start=1):
        name = str(entry.get("input_image_name") or entry.get("id") or f"entry-{number:05d}")
        if name in found:
            raise DataError(f"{path}: entry {number}: id {name!r} is there twice")
        findings, impressions = str(entry.get("report") or entry.get("findings") or ""), str(entry.get("impressions") or "")
        found[name] = Report(findings.strip(), impressions.strip()) if (findings + impressions).strip() else None
    return found
