"""Audit of names and tables: everything that can be found without opening a volume."""

from __future__ import annotations

from collections.abc import Iterator

from ctgen.data.ct_rate.copy import Copy
from ctgen.data.ct_rate.findings import Finding
from ctgen.data.ct_rate.layout import COLUMNS, LABEL_COLUMNS, SPLITS, SUFFIX, Found
from ctgen.data.ct_rate.tables import Table
from ctgen.interfaces import Split

NEEDED = {
    "reports": ("Findings_EN", "Impressions_EN"),
    "labels": LABEL_COLUMNS[1:],
    "metadata": ("RescaleSlope", "RescaleIntercept", "XYSpacing", "ZSpacing"),
}
KINDS = tuple(COLUMNS)


def check_tables(copy: Copy) -> Iterator[Finding]:
    """``copy`` was read with all rows."""
    yield from _files(copy)
    tables = {"reports": copy.reports, "labels": copy.labels, "metadata": copy.metadata}
    for kind in KINDS:
        yield from _table(copy, kind, tables[kind])
    yield from _rows_without_file(copy, tables)
    yield from _files_without_row(copy, tables)
    yield from _sides(copy)
    yield from _reports_of_scans(copy)


def _files(copy: Copy) -> Iterator[Finding]:
    for path in copy.others:
        if path.endswith(SUFFIX):
            yield Finding("foreign-name", path, "not of the form train_1_a_1.nii.gz")
        else:
            yield Finding("extra-file", path, "no volume")
    for found in copy.volumes:
        folder = found.path.partition("/")[2].rpartition("/")[0]
        if folder not in (found.name.folder, ""):
            yield Finding("misplaced", found.path, f"belongs in {found.name.folder}/")


def _table(copy: Copy, kind: str, tables: dict[Split, Table]) -> Iterator[Finding]:
    for split in copy.sides:
        if split not in tables:
            yield Finding("missing-table", copy.table_path(kind, split).relative_to(copy.base).as_posix(), "not there")
    for split, table in tables.items():
        path = table.path.relative_to(copy.base).as_posix()
        if missing := [name for name in NEEDED[kind] if name not in table.columns]:
            yield Finding("missing-columns", path, f"no column {', '.join(missing)}")
        elif kind == "labels":
            order = [name for name in table.columns if name in LABEL_COLUMNS[1:]]
            if wrong := [f"{name} for {right}" for name, right in zip(order, LABEL_COLUMNS[1:], strict=True) if name != right]:
                yield Finding("label-columns", split, f"{path}: {'; '.join(wrong[:4])}")
        for problem in table.problems:
            subject = problem.name or f"{path}:{problem.line}"
            found = "bad-row" if problem.kind == "bad-value" else problem.kind
            yield Finding(found, subject, f"{path}:{problem.line}: {problem.message}")


def _rows_without_file(copy: Copy, tables: dict[str, dict[Split, Table]]) -> Iterator[Finding]:
    names = {found.name.text for found in copy.volumes}
    absent: dict[str, list[str]] = {}
    for found in tables.values():
        for table in found.values():
            for name in table.rows:
                if name not in names:
                    absent.setdefault(name, []).append(table.path.name)
    for name, where in absent.items():
        yield Finding("row-without-file", name, f"in {', '.join(where)}")


def _files_without_row(copy: Copy, tables: dict[str, dict[Split, Table]]) -> Iterator[Finding]:
    for found in _once(copy):
        for kind, of_kind in tables.items():
            if of_kind and not any(found.name.text in table.rows for table in of_kind.values()):
                yield Finding(f"no-{kind.removesuffix('s')}-row", found.name.text, f"no row in the tables of {kind}")
            elif kind == "reports" and of_kind and copy.report(found) is None:
                yield Finding("no-report", found.name.text, "findings and impressions are empty")


def _sides(copy: Copy) -> Iterator[Finding]:
    sides: dict[str, dict[Split, Found]] = {}
    for found in copy.volumes:
        sides.setdefault(found.name.patient, {}).setdefault(found.split, found)
    for patient, found_on in sides.items():
        if len(found_on) > 1:
            where = " and ".join(found_on[split].path for split in SPLITS)
            yield Finding("both-sides", patient, f"for example {where}")


def _reports_of_scans(copy: Copy) -> Iterator[Finding]:
    first: dict[str, tuple[str, object]] = {}
    for found in _once(copy):
        report = copy.report(found)
        if report is None or copy.conflict(found):
            continue
        name, text = first.setdefault(found.name.scan, (found.name.text, report))
        if text != report:
            yield Finding("reports-differ", found.name.scan, f"{found.name.text} has another report than {name}")


def _once(copy: Copy) -> Iterator[Found]:
    """Every name once: a volume may be there as fixed, as raw, and on both sides."""
    seen: set[str] = set()
    for found in copy.volumes:
        if found.name.text not in seen:
            seen.add(found.name.text)
            yield found
