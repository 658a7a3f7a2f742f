"""One copy of CT-RATE: its files by name and its tables; nothing is known about the files' contents."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from ctgen.data.ct_rate.layout import COLUMNS, ID, SPLITS, SUFFIX, TABLES, Found, files_of, locate, parse_name
from ctgen.data.ct_rate.tables import METADATA_WANTED, Scan, Table, labels_of, read_table, report_of, scan_of
from ctgen.errors import DataError, MissingFileError
from ctgen.interfaces import Report, Split


class Copy:
    """``volumes`` in the order of their folders; ``others``: paths below the split folders that are no CT-RATE volumes.

    A volume's row is looked for in the table of the side it lies on, then in the other one's.
    Raises MissingFileError, DataError where ``root`` holds no CT-RATE layout or a table is no CSV.
    """

    def __init__(self, root: Path, *, all_rows: bool = False) -> None:
        self.base = locate(root)
        self.volumes: list[Found] = []
        self.others: list[str] = []
        for path, found in files_of(self.base):
            if found is None:
                self.others.append(path)
            else:
                self.volumes.append(found)
        self._all_rows = all_rows

    @cached_property
    def reports(self) -> dict[Split, Table]:
        return self._read("reports")

    @cached_property
    def labels(self) -> dict[Split, Table]:
        return self._read("labels")

    @cached_property
    def metadata(self) -> dict[Split, Table]:
        return self._read("metadata")

    @property
    def sides(self) -> tuple[Split, ...]:
        """Splits that have a volume."""
        present = {found.split for found in self.volumes}
        return tuple(split for split in SPLITS if split in present)

    def table_path(self, kind: str, split: Split) -> Path:
        return self.base / TABLES[kind][split]

    def report(self, found: Found) -> Report | None:
        table = self._table_of(self.reports, found)
        return report_of(table, found.name.text) if table else None

    def label(self, found: Found) -> dict[str, int] | None:
        table = self._table_of(self.labels, found)
        return labels_of(table, found.name.text) if table else None

    def scan(self, found: Found) -> Scan:
        table = self._table_of(self.metadata, found)
        return scan_of(table, found.name.text) if table else Scan()

    def conflict(self, found: Found) -> str:
        """Why a row of the volume cannot be trusted, or ""."""
        for tables in (self.reports, self.metadata):
            table = self._table_of(tables, found)
            if table is not None and found.name.text in table.conflicts:
                return f"{table.path.name} has several different rows of it, the first in line {table.lines[found.name.text]}"
        return ""

    def _table_of(self, tables: dict[Split, Table], found: Found) -> Table | None:
        order = sorted(tables, key=lambda split: split != found.split)
        return next((tables[split] for split in order if found.name.text in tables[split].rows), None)

    def _read(self, kind: str) -> dict[Split, Table]:
        names = {found.name.text for found in self.volumes}
        known: Callable[[str], bool] = (lambda name: True) if self._all_rows else names.__contains__
        wanted = METADATA_WANTED if kind == "metadata" else COLUMNS[kind][1:]
        paths = {split: self.table_path(kind, split) for split in SPLITS}
        return {split: read_table(path, wanted, known) for split, path in paths.items() if path.is_file()}


def read_list(path: Path) -> dict[str, str]:
    """Names of volumes, scans or patients, or paths, one a line, and the note behind "#" if there is one.

    A CSV works too: its column VolumeName, or its first. Raises MissingFileError, DataError for a line that is no such thing.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError as error:
        raise MissingFileError(f"no list at {path}", hint="see data.no_chest and data.exclude") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a readable list: {error}") from error
    header = [cell.strip().strip('"') for cell in lines[0].split(",")] if lines else []
    column = header.index(ID) if ID in header else 0
    found: dict[str, str] = {}
    for number, line in enumerate(lines[1:] if ID in header else lines, 2 if ID in header else 1):
        text, _, note = line.partition("#")
        cells = text.split(",")
        entry = cells[column].strip().strip('"').removesuffix(SUFFIX) if column < len(cells) else ""
        if not entry:
            continue
        if "/" not in entry and not any(parse_name(entry + tail) for tail in ("", "_1", "_a_1")):
            raise DataError(f"{path}:{number}: {entry!r} is no volume (train_1_a_1), scan (train_1_a), patient or path")
        found[entry] = note.strip()
    return found
