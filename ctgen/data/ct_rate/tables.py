"""CT-RATE's tables, read once into compact rows. A mistake in a row is kept and told; it never ends the reading."""

from __future__ import annotations

import ast
import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from ctgen.data.ct_rate.layout import ID, REPORT_PARTS, Name, parse_name
from ctgen.data.labels import LABELS
from ctgen.data.report_table import MISSING
from ctgen.errors import DataError
from ctgen.interfaces import Report

Trouble = Literal["bad-row", "duplicate-row", "conflicting-rows", "bad-value"]


class RowProblem(NamedTuple):
    """What is wrong with a line; ``name``: the volume it is about, or ""."""

    kind: Trouble
    line: int
    name: str
    message: str


@dataclass
class Table:
    """``rows``: volume name -> the wanted cells in order of ``wanted`` ("" where the column is missing); first rows win.

    ``conflicts``: names with several different rows, which cannot be trusted. ``lines``: where each name was first.
    """

    path: Path
    columns: tuple[str, ...]
    wanted: tuple[str, ...]
    rows: dict[str, tuple[str, ...]] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    conflicts: set[str] = field(default_factory=set)
    problems: list[RowProblem] = field(default_factory=list)

    def cell(self, name: str, column: str) -> str:
        """The empty string if the volume has no row or the table no such column."""
        row = self.rows.get(name)
        return row[self.wanted.index(column)] if row else ""


class Scan(NamedTuple):
    """What ctgen takes from a metadata row. Of 44 columns 15 tell the vendor by being empty: they are left alone."""

    rescale: tuple[float, float] | None = None
    """Slope, intercept."""
    spacing_mm: tuple[float, float, float] | None = None
    """(D, H, W)."""
    origin_mm: tuple[float, float, float] | None = None
    direction: tuple[float, ...] | None = None
    """Cosines of a row and of a column, 6 numbers."""
    kernel: str = ""
    sex: str = ""
    age_years: int | None = None
    shape: tuple[int, int, int] | None = None
    """(D, H, W)."""


METADATA_WANTED = (
    "RescaleSlope",
    "RescaleIntercept",
    "XYSpacing",
    "ZSpacing",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "ConvolutionKernel",
    "PatientSex",
    "PatientAge",
    "NumberofSlices",
    "Rows",
    "Columns",
)


def read_table(path: Path, wanted: tuple[str, ...], known: Callable[[str], bool] = lambda name: True) -> Table:
    """Rows of the volumes for which ``known(name)``; columns are found by name, in whatever order and case.

    Raises DataError if the file is no CSV in UTF-8 or has no column VolumeName.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream)
            header = tuple(name.strip() for name in next(reader, []))
            lower = [name.lower() for name in header]
            if ID.lower() not in lower:
                raise DataError(f"{path}:1: no column {ID} (columns: {', '.join(header[:8]) or 'none'})")
            table = Table(path, header, wanted)
            places = [lower.index(column.lower()) if column.lower() in lower else None for column in wanted]
            _read_rows(reader, table, lower.index(ID.lower()), places, known)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    except csv.Error as error:
        raise DataError(f"{path}: not a readable CSV: {error}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    return table


def _read_rows(reader: object, table: Table, place: int, places: list[int | None], known: Callable[[str], bool]) -> None:
    # Both reconstructions of a scan carry the same report: one string in memory.
    texts: dict[str, str] = {}
    whole: dict[str, int] = {}
    for cells in reader:  # type: ignore[attr-defined]
        line: int = reader.line_num  # type: ignore[attr-defined]
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(table.columns):
            name = cells[place].strip().removesuffix(".nii.gz") if place < len(cells) else ""
            what = f"{len(cells)} cells, the header has {len(table.columns)}"
            table.problems.append(RowProblem("bad-row", line, name, what))
            continue
        named: Name | None = parse_name(cells[place])
        if named is None:
            table.problems.append(RowProblem("bad-row", line, "", f"{cells[place]!r} is no volume name"))
            continue
        name = named.text
        if not known(name):
            continue
        content = hash(tuple(cells))
        if name in table.lines:
            same = whole[name] == content
            if not same:
                table.conflicts.add(name)
            kind: Trouble = "duplicate-row" if same else "conflicting-rows"
            how = "again" if same else "again, and differently"
            table.problems.append(RowProblem(kind, line, name, f"given in line {table.lines[name]} and {how} in line {line}"))
            continue
        table.lines[name] = line
        whole[name] = content
        row = tuple("" if at is None else cells[at].strip() for at in places)
        table.rows[name] = tuple(texts.setdefault(text, text) for text in row)


def report_of(table: Table, name: str) -> Report | None:
    """None if findings and impressions are both empty or "Not given."; other missing parts are empty."""
    if name not in table.rows:
        return None
    texts = {part: table.cell(name, column) for part, column in REPORT_PARTS.items()}
    texts = {part: "" if text.lower() in MISSING else text for part, text in texts.items()}
    return Report(**texts) if texts["findings"] or texts["impressions"] else None


def labels_of(table: Table, name: str) -> dict[str, int] | None:
    """The labels that the row gives as 0 or 1; None if there is none."""
    cells = ((label, table.cell(name, label)) for label in LABELS)
    found = {label: int(float(text)) for label, text in cells if text in ("0", "1", "0.0", "1.0")}
    return found or None


def scan_of(table: Table, name: str) -> Scan:
    """What the row says; what is missing or unreadable there is None."""
    if name not in table.rows:
        return Scan()
    cells: Mapping[str, str] = dict(zip(table.wanted, table.rows[name], strict=True))
    rescale = _numbers(f"[{cells['RescaleSlope']}, {cells['RescaleIntercept']}]", 2)
    xy, z = _numbers(cells["XYSpacing"], 2), _numbers(f"[{cells['ZSpacing']}]", 1)
    spacing = (z[0], xy[1], xy[0]) if xy and z and min(*xy, *z) > 0 else None
    origin = _numbers(cells["ImagePositionPatient"], 3)
    size = _numbers(f"[{cells['NumberofSlices']}, {cells['Rows']}, {cells['Columns']}]", 3)
    age = cells["PatientAge"].upper().rstrip("Y")
    return Scan(
        (rescale[0], rescale[1]) if rescale and rescale[0] != 0 else None,
        spacing,
        (origin[0], origin[1], origin[2]) if origin else None,
        _numbers(cells["ImageOrientationPatient"], 6),
        _first(cells["ConvolutionKernel"]),
        cells["PatientSex"],
        int(age) if age.isdigit() else None,
        (int(size[0]), int(size[1]), int(size[2])) if size else None,
    )


def _numbers(text: str, count: int) -> tuple[float, ...] | None:
    """Of a list written as text, "[0.68, 0.68]"."""
    try:
        found = tuple(float(value) for value in text.strip().removeprefix("[").removesuffix("]").split(","))
    except ValueError:
        return None
    return found if len(found) == count and all(abs(value) < 1e9 for value in found) else None


def _first(kernel: str) -> str:
    """Siemens gives two values, "['Br40d', '3']": the first is the kernel."""
    if kernel.startswith("["):
        try:
            values = ast.literal_eval(kernel)
        except (ValueError, SyntaxError):
            return kernel
        return str(values[0]) if values else ""
    return kernel
