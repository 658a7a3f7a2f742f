"""``ctgen data import``: a tree of DICOM files to one volume file per series, with lists of what was taken and what was not."""

from __future__ import annotations

import csv
import io
import secrets
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from ctgen import __version__
from ctgen.atomic import fingerprint, read_json, sha256_of, write_atomically, write_json, write_text
from ctgen.data.dicom import series_facts
from ctgen.data.dicom_config import private_beside
from ctgen.data.dicom_mapping import KEYS, read_reports, write_mapping
from ctgen.data.labels import LABELS
from ctgen.data.report_table import Row
from ctgen.dicom.config import DicomReading
from ctgen.dicom.plane import Plane
from ctgen.dicom.reading import read_series
from ctgen.dicom.series import LeftOut, Series, find_series
from ctgen.dicom.tree import Tree, open_private, scan
from ctgen.errors import ConfigError, DataError, VolumeError, did_you_mean
from ctgen.interfaces import Report
from ctgen.volume.io import write_volume

if TYPE_CHECKING:
    from ctgen.console import Console

SUFFIXES = {"nifti": ".nii.gz", "mha": ".mha"}
STATE, VOLUMES, RECORDS, SECRET = "import.json", "volumes", "records", "secret.key"
EXAMPLES = 5
PARTS = ("findings", "impressions", "clinical_information", "technique")


@dataclass(frozen=True)
class ImportOptions:
    """``anonymise``: case ids need a secret to be traced, no UID, path, date or free text of a header is written to OUT."""

    format: str = "nifti"
    anonymise: bool = False
    reports: Path | None = None
    private: Path | None = None
    workers: int = 1
    reading: DicomReading = field(default_factory=DicomReading)


@dataclass
class Imported:
    """What an import found; ``taken`` and ``quarantined`` are records as in OUT/records."""

    tree: Tree
    series: list[Series]
    left_out: list[LeftOut]
    taken: list[dict[str, Any]] = field(default_factory=list)
    quarantined: list[dict[str, Any]] = field(default_factory=list)
    kept: int = 0
    """Cases that were there already."""


def import_tree(source: Path, out: Path, options: ImportOptions, console: Console) -> Imported:
    """Write OUT/volumes, reports.csv, cases.csv and manifest.json; the private folder holds mapping.csv and the index.

    The same call goes on where it was interrupted; with more files in ``source`` it adds their series. Raises DataError for an
    OUT that holds something else, ConfigError for an unknown format or an OUT inside ``source``.
    """
    source, out = source.absolute(), out.absolute()
    private = private_folder(out, options)
    for place, name in ((out, "-o"), (private, "--private")):
        if place == source or source in place.parents:
            raise ConfigError(f"{name}: {place} is inside {source}, where nothing is written", hint="choose a folder elsewhere")
    state = _state(source, options)
    _check_out(out, state)
    open_private(private, "name another folder: --private DIR")
    secret = _secret(private) if options.anonymise else b""
    found = look(source, options, console, private)
    rows = read_reports(options.reports, found.series)[0] if options.reports is not None else {}
    write_json(out / STATE, state)
    write_mapping(private, found.series, secret)
    _import_all(found, out, options, secret, console)
    _write_lists(found, out, options, secret, rows)
    stale = sorted({path.stem for path in (out / RECORDS).glob("*.json")} - {one.case_id(secret) for one in found.series})
    if stale:
        console.warn(f"{len(stale)} cases in {out} are of series that are no longer there, such as {stale[0]}; they are kept")
    return found


def private_folder(out: Path, options: ImportOptions) -> Path:
    """Of mapping.csv, the index and the secret."""
    return (options.private or private_beside(out)).absolute()


def look(source: Path, options: ImportOptions, console: Console, private: Path | None = None) -> Imported:
    """What an import would take; writes nothing unless a private folder for the index is given."""
    if options.format not in SUFFIXES:
        hint = f"{did_you_mean(options.format, SUFFIXES)} formats: {', '.join(SUFFIXES)}".strip()
        raise ConfigError(f"no format named {options.format!r}", hint=hint)
    with console.task("read headers", unit="files") as task:
        tree = scan(source, private=private, workers=options.workers, progress=lambda done, total: task.set(done, total=total))
    found, left = find_series(tree, options.reading)
    if options.anonymise:
        marked = [one for one in found if one.first.burned_in]
        left += [
            LeftOut(one.key, one.part, one.first, len(one.stack.planes), "BurnedInAnnotation is YES (--anonymise)")
            for one in marked
        ]
        found = [one for one in found if one not in marked]
    if not found and not left:
        reasons = "\n".join(f"{count} files: {reason}" for reason, count in _reasons(tree).most_common(EXAMPLES))
        raise DataError(f"no CT series among the {tree.files} files under {source}", hint=reasons)
    return Imported(tree, found, left)


def _import_all(found: Imported, out: Path, options: ImportOptions, secret: bytes, console: Console) -> None:
    pending: list[tuple[Series, str]] = []
    for series in found.series:
        content = _content(series, options)
        record = _record(out, series.case_id(secret), content)
        if record is None:
            pending.append((series, content))
            continue
        found.kept += 1
        _sort_in(found, record)
    with console.task("import", len(found.series), unit="series") as task:
        task.set(found.kept)
        for record in _made(pending, out, options, secret):
            _sort_in(found, record)
            if "error" in record:
                console.warn(f"{record['case']} is left out: {record['error']}")
            task.advance(note=record["case"])
    order = {series.case_id(secret): number for number, series in enumerate(found.series)}
    for records in (found.taken, found.quarantined):
        records.sort(key=lambda record: order[record["case"]])


def _sort_in(found: Imported, record: dict[str, Any]) -> None:
    (found.quarantined if "error" in record else found.taken).append(record)


def _made(pending: list[tuple[Series, str]], out: Path, options: ImportOptions, secret: bytes) -> Iterator[dict[str, Any]]:
    workers = min(options.workers, len(pending))
    if workers <= 1:
        for series, content in pending:
            yield _import_one(series, content, out, options, secret)
        return
    from joblib import Parallel, delayed

    pool = Parallel(workers, return_as="generator_unordered", pre_dispatch=workers)
    yield from pool(delayed(_import_one)(series, content, out, options, secret) for series, content in pending)


def _import_one(series: Series, content: str, out: Path, options: ImportOptions, secret: bytes) -> dict[str, Any]:
    """The volume first: a case whose record is there is complete. A series that cannot be read gets a record of why."""
    case = series.case_id(secret)
    record: dict[str, Any] = {"case": case, "content": content, "patient": series.patient(secret), **series_facts(series)}
    path = out / VOLUMES / f"{case}{SUFFIXES[options.format]}"
    try:
        volume = read_series(series, options.reading)
        write_volume(volume, path)
        record |= {
            "file": path.relative_to(out).as_posix(),
            "sha256": sha256_of(path),
            "shape": list(volume.shape),
            "spacing_mm": list(volume.spacing_mm),
            "affine_lps": [[round(float(value), 9) for value in line] for line in volume.affine],
            "hu_range": [float(volume.hu.min()), float(volume.hu.max())],
            "notes": list(volume.meta["notes"]),
        }
    except VolumeError as error:
        # the error names the series by its open id; with a secret only the rest is told
        record["error"] = error.message.removeprefix(f"{series.case_id()}: ").removeprefix(f"{path}: ")
        path.unlink(missing_ok=True)
    write_json(out / RECORDS / f"{case}.json", record)
    return record


def _record(out: Path, case: str, content: str) -> dict[str, Any] | None:
    """What an earlier call wrote of this case, if its files and settings are still the same."""
    path = out / RECORDS / f"{case}.json"
    if not path.is_file():
        return None
    record: dict[str, Any] = read_json(path)
    if record.get("content") != content or ("file" in record and not (out / record["file"]).is_file()):
        return None
    return record


def _content(series: Series, options: ImportOptions) -> str:
    """Changes when a file of the series or a setting does."""
    states = [(name, (series.root / name).stat()) for name in series.files]
    files = [[name, state.st_size, state.st_mtime_ns] for name, state in states]
    return fingerprint([files, options.format, options.reading.model_dump(mode="json")])


def _state(source: Path, options: ImportOptions) -> dict[str, Any]:
    return {
        "importer": 1,
        "source": fingerprint(str(source)) if options.anonymise else str(source),
        "format": options.format,
        "anonymise": options.anonymise,
        "reading": options.reading.model_dump(mode="json"),
    }


def _check_out(out: Path, state: dict[str, Any]) -> None:
    if not out.exists():
        return
    if not out.is_dir():
        raise DataError(f"-o: {out} is not a folder", hint="name a new folder")
    if not (out / STATE).is_file():
        others = [path.name for path in out.iterdir() if not path.name.startswith(".writing-")]
        if others:
            raise DataError(f"-o: {out} holds other files, such as {others[0]}", hint="name a new folder")
        return
    before = read_json(out / STATE)
    differ = [key for key in state if before.get(key) != state[key]]
    if differ:
        raise DataError(f"-o: {out} holds an import with another {', '.join(differ)}", hint="name a new folder")


def _secret(private: Path) -> bytes:
    """Made once; without it the case ids of an anonymised import lead nowhere."""
    path = private / SECRET
    if not path.is_file():
        write_atomically(path, lambda temporary: temporary.write_text(secrets.token_hex(32), encoding="ascii"))
        path.chmod(0o600)
    return bytes.fromhex(path.read_text(encoding="ascii"))


def _reasons(tree: Tree) -> Counter[str]:
    return Counter(item.reason for item in tree.rejected)


def _identifiers(first: Plane) -> dict[str, str]:
    """Of a series, for lists that may name them."""
    return {
        "SeriesInstanceUID": first.series,
        "StudyInstanceUID": first.study,
        "AccessionNumber": first.accession,
        "PatientID": first.patient.partition("@")[0],
        "SeriesNumber": first.number,
        "SeriesDescription": first.description,
        "folder": PurePosixPath(first.file).parent.as_posix(),
    }


def _write_lists(found: Imported, out: Path, options: ImportOptions, secret: bytes, rows: dict[str, Row]) -> None:
    named = not options.anonymise
    by_case = {series.case_id(secret): series for series in found.series}
    lines: list[dict[str, Any]] = []
    for status, records in (("taken", found.taken), ("quarantined", found.quarantined)):
        for record in records:
            reason = record["error"] if status == "quarantined" else "; ".join(record["notes"])
            line = {"case": record["case"], "status": status, "reason": reason, "file": record.get("file", "")}
            facts = {key: record[key] for key in ("patient", "slices", "kernel", "contrast", "manufacturer")}
            first = by_case[record["case"]].first
            spacing = " x ".join(f"{value:g}" for value in record["spacing_mm"])
            lines.append({**line, **facts, "spacing_mm": spacing, **(_identifiers(first) if named else {})})
    for item in found.left_out:
        line = {"case": item.case_id(secret), "status": "left out", "reason": item.reason, "slices": item.slices}
        lines.append({**line, "kernel": item.first.kernel, **(_identifiers(item.first) if named else {})})
    columns = ["case", "status", "reason", "file", "patient", "slices", "spacing_mm", "kernel", "contrast", "manufacturer"]
    columns += [*(name for name, _ in KEYS), "SeriesNumber", "SeriesDescription", "folder"] if named else []
    _write_csv(out / "cases.csv", columns, lines)
    _write_reports(out, found.taken, {by_case[record["case"]].case_id(): record["case"] for record in found.taken}, rows)
    files: dict[str, Any] = {}
    for reason, count in _reasons(found.tree).most_common():
        examples = [item.file for item in found.tree.rejected if item.reason == reason][:EXAMPLES]
        files[reason] = {"files": count, **({"examples": examples} if named else {})}
    manifest = {
        "ctgen": __version__,
        **_state(found.tree.root, options),
        "files": found.tree.files,
        "files_left_out": files,
        "counts": {"taken": len(found.taken), "quarantined": len(found.quarantined), "left_out": len(found.left_out)},
        "cases": found.taken,
        "quarantined": found.quarantined,
        "left_out": [
            {
                "case": item.case_id(secret),
                "slices": item.slices,
                "reason": item.reason,
                **({"series": item.name} if named else {}),
            }
            for item in found.left_out
        ],
    }
    write_json(out / "manifest.json", manifest)


def _write_reports(out: Path, taken: Sequence[dict[str, Any]], names: dict[str, str], rows: dict[str, Row]) -> None:
    """``reports.csv`` as the ``folder`` data set reads it: with the patient, so that a patient stays in one split."""
    by_case = {names[case]: row for case, row in rows.items() if case in names}
    lines = []
    for record in taken:
        row = by_case.get(record["case"])
        report = asdict(row.report) if row is not None and row.report is not None else asdict(Report(""))
        labels = (row.labels or {}) if row is not None else {}
        lines.append({"id": record["case"], "patient": record["patient"], **report, **labels})
    used = [label for label in LABELS if any(label in line for line in lines)]
    _write_csv(out / "reports.csv", ["id", "patient", *PARTS, *used], lines)


def _write_csv(path: Path, columns: list[str], lines: list[dict[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    write_text(path, text.getvalue())


def summary(found: Imported, *, done: bool) -> str:
    """A table for a person: every series with what happened (or would) and why, then counts."""
    lines = []
    errors = {record["case"]: record["error"] for record in found.quarantined}
    if not done:
        for series in found.series:
            facts = series_facts(series)
            spacing = " x ".join(f"{value:.4g}" for value in facts["spacing_mm"][::-1])
            size = f"{facts['columns']} x {facts['rows']} x {facts['slices']}, {spacing} mm"
            lines.append(f"take      {series.case_id()}  {series.name}: {size}")
            lines += [f"            {note}" for note in series.notes]
    for item in found.left_out:
        lines.append(f"left out  {item.name} ({item.slices} slices): {item.reason}")
    lines += [f"quarantined  {case}: {error}" for case, error in errors.items()]
    lines += [f"left out  {count} files: {reason}" for reason, count in _reasons(found.tree).most_common()]
    verb = "taken" if done else "would be taken"
    count = len(found.taken) if done else len(found.series)
    tail = f"{count} series {verb}, {len(found.left_out)} left out" + (f", {len(errors)} quarantined" if errors else "")
    tail += f"; {found.tree.files} files" + (f"; {found.kept} were there already" if found.kept else "")
    return "\n".join([*lines, tail])
