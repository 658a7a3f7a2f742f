"""What leads from a case back to a patient, and reports that come by DICOM's own keys."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from ctgen.atomic import write_atomically
from ctgen.data.report_table import Row, read_report_table
from ctgen.dicom.series import Series
from ctgen.errors import DataError

MAPPING = "mapping.csv"
KEYS: tuple[tuple[str, Callable[[Series], str]], ...] = (
    ("SeriesInstanceUID", lambda series: series.first.series),
    ("StudyInstanceUID", lambda series: series.first.study),
    ("AccessionNumber", lambda series: series.first.accession),
    ("PatientID", lambda series: series.first.patient.partition("@")[0]),
)
"""Columns of a table of reports, the most specific first."""


def write_mapping(private: Path, series: Sequence[Series], secret: bytes = b"") -> Path:
    """``private``/mapping.csv, readable by its owner alone; with a line per case."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["case", "patient", *(name for name, _ in KEYS), "SeriesNumber", "SeriesDescription", "folder"])
    for one in series:
        folder = PurePosixPath(one.first.file).parent.as_posix()
        identifiers = [of(one) for _, of in KEYS]
        writer.writerow(
            [one.case_id(secret), one.patient(secret), *identifiers, one.first.number, one.first.description, folder]
        )

    def write(temporary: Path) -> None:
        temporary.write_text(text.getvalue(), encoding="utf-8")

    path = private / MAPPING
    if path.is_file() and path.read_text(encoding="utf-8") == text.getvalue():
        return path
    try:
        write_atomically(path, write)
        path.chmod(0o600)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}") from error
    return path


def read_reports(path: Path, series: Sequence[Series]) -> tuple[dict[str, Row], int]:
    """Case id (without a secret) -> row, and how many rows have no series here: a hospital's table is longer than an export.

    Raises DataError: no key column, no row that fits, a PatientID of several studies, mistakes in the table.
    """
    name, of = _key_column(path)
    by_key: dict[str, list[Series]] = {}
    for one in series:
        if key := of(one):
            by_key.setdefault(key, []).append(one)
    others: set[str] = set()

    def match(key: str) -> str:
        if key in by_key:
            return key
        others.add(key)
        return ""

    rows = read_report_table(path, match, id_columns=(name.lower(),))
    if not rows and series:
        example = next(iter(by_key), "none")
        raise DataError(
            f"{path}: no {name} of its {len(others)} rows is one of the {len(series)} series",
            hint=f"the table has, for example, {next(iter(others), 'no rows')!r}; the series have {example!r}",
        )
    if name == "PatientID":
        several = [key for key in rows if len({one.first.study for one in by_key[key]}) > 1]
        if several:
            raise DataError(
                f"{path}: {len(several)} PatientIDs of the table have several studies; whose report is it?",
                hint="give a column StudyInstanceUID or AccessionNumber",
            )
    return {one.case_id(): row for key, row in rows.items() for one in by_key[key]}, len(others)


def _key_column(path: Path) -> tuple[str, Callable[[Series], str]]:
    names = [name for name, _ in KEYS]
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            header = {name.strip().lower() for name in next(csv.reader(stream), [])}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a readable CSV: {error}") from error
    for name, of in KEYS:
        if name.lower() in header:
            return name, of
    if "id" in header:
        return "id", lambda one: one.case_id()
    raise DataError(f"{path}: none of the columns {', '.join(names)} or id", hint="one of them says which scan a report is of")
