"""The audit behind ``ctgen data check``: names and tables, every header, the voxels of all or of some."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctgen.atomic import stable_hash
from ctgen.data.ct_rate.check_tables import check_tables
from ctgen.data.ct_rate.check_volume import CHECK, Checked, check_volume, findings_of
from ctgen.data.ct_rate.copy import Copy, read_list
from ctgen.data.ct_rate.findings import SEVERITIES, Finding, severity_of
from ctgen.data.ct_rate.layout import NO_CHEST, SPLITS, Found
from ctgen.data.ct_rate.tables import Scan
from ctgen.data.labels import LABELS

if TYPE_CHECKING:
    from ctgen.console import Console

EXCLUDED = ("unreadable", "hu-twice", "implausible-hu", "conflicting-rows", "no-chest", "copy-in-same-split")
"""What exclude.txt leaves out, beside the train side of what is on both sides."""


@dataclass(frozen=True)
class Audit:
    """``findings`` in order of severity and kind. ``voxels``: how many volumes were read to the end."""

    base: Path
    findings: Sequence[Finding]
    checked: Mapping[str, Checked]
    counts: Mapping[str, Any]
    distributions: Mapping[str, Sequence[float]]
    exclude: Mapping[str, str]
    """Path or name -> reason."""
    voxels: int

    @property
    def serious(self) -> int:
        return sum(severity_of(finding.kind) == "serious" for finding in self.findings)

    def of_kind(self) -> dict[str, list[Finding]]:
        grouped: dict[str, list[Finding]] = {}
        for finding in self.findings:
            grouped.setdefault(finding.kind, []).append(finding)
        return grouped

    def to_json(self) -> dict[str, Any]:
        return {
            "root": str(self.base),
            "serious": self.serious,
            "volumes_read": self.voxels,
            "counts": dict(self.counts),
            "distributions": {name: quantiles(values) for name, values in self.distributions.items() if values},
            "findings": [{"severity": severity_of(one.kind), **one._asdict()} for one in self.findings],
        }

    def exclude_text(self) -> str:
        """For data.exclude: a path or name a line, and why."""
        lines = [f"{subject}  # {reason}" for subject, reason in self.exclude.items()]
        return "\n".join(["# left out by `ctgen data check`; use it as data.exclude", *lines]) + "\n"


def audit(
    root: Path, *, sample: int | None = None, workers: int = 1, resume: Path | None = None, console: Console | None = None
) -> Audit:
    """Audit the copy under ``root``. ``sample``: read the voxels of so many volumes, all if None; headers always of all.

    ``resume``: a file of results a line, which a later audit of unchanged files takes over. Raises MissingFileError, DataError
    if there is no CT-RATE layout.
    """
    if console is None:
        from ctgen.console import Console

        console = Console(quiet=True)
    copy = Copy(root, all_rows=True)
    findings = list(check_tables(copy))
    order = sorted(copy.volumes, key=lambda found: stable_hash("audit", found.path))
    read = {found.path for found in (order if sample is None else order[:sample])}
    scans = {found.path: copy.scan(found) for found in copy.volumes}
    checked: dict[str, Checked] = {}
    with console.task("check", len(copy.volumes), unit="volumes") as task:
        for result in _checks(copy, scans, read, workers, resume):
            checked[result.path] = result
            task.advance(note=result.path.rpartition("/")[2])
    no_chest = _no_chest(copy)
    for found in copy.volumes:
        listed = not no_chest.isdisjoint((found.name.text, found.name.scan, found.name.patient))
        findings += findings_of(checked[found.path], found, scans[found.path], listed=listed)
    copies = list(_copies(copy, checked))
    findings += [finding for finding, _ in copies]
    kinds = {one.kind: place for place, one in enumerate(findings)}
    findings.sort(key=lambda one: (SEVERITIES.index(severity_of(one.kind)), kinds[one.kind]))
    exclude = dict(_exclude(copy, findings, [path for _, path in copies]))
    return Audit(copy.base, findings, checked, _counts(copy), _distributions(copy, checked, scans), exclude, len(read))


def quantiles(values: Iterable[float]) -> dict[str, float]:
    """Smallest, 5 %, median, 95 %, largest."""
    ranked = sorted(values)
    places = {"min": 0.0, "p5": 0.05, "median": 0.5, "p95": 0.95, "max": 1.0}
    return {name: round(ranked[round(share * (len(ranked) - 1))], 4) for name, share in places.items()}


def _checks(copy: Copy, scans: Mapping[str, Scan], read: set[str], workers: int, resume: Path | None) -> Iterator[Checked]:
    done = _resumed(copy, scans, read, resume)
    yield from done.values()
    pending = [found for found in copy.volumes if found.path not in done]
    if workers <= 1 or len(pending) < 2:
        results: Iterable[Checked] = (_one(copy.base, found, scans[found.path], found.path in read) for found in pending)
    else:
        from joblib import Parallel, delayed

        pool = Parallel(min(workers, len(pending)), return_as="generator_unordered")
        results = pool(delayed(_one)(copy.base, found, scans[found.path], found.path in read) for found in pending)
    if resume is None:
        yield from results
        return
    resume.parent.mkdir(parents=True, exist_ok=True)
    torn = resume.is_file() and not resume.read_bytes().endswith(b"\n")
    with resume.open("a", encoding="utf-8") as stream:
        stream.write("\n" if torn else "")
        for result in results:
            row = {"check": CHECK, "row": _row_key(scans[result.path]), **result.to_json()}
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")
            stream.flush()
            yield result


def _one(base: Path, found: Found, scan: Scan, voxels: bool) -> Checked:
    return check_volume(base, found, scan, voxels=voxels)


def _row_key(scan: Scan) -> int:
    return stable_hash(json.dumps(scan))


def _resumed(copy: Copy, scans: Mapping[str, Scan], read: set[str], resume: Path | None) -> dict[str, Checked]:
    """Results of an earlier audit that still hold: same check, same row, same size and time of the file, read if it must be."""
    if resume is None or not resume.is_file():
        return {}
    done: dict[str, Checked] = {}
    for line in resume.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
            check, row = entry.pop("check"), entry.pop("row")
            for name in ("shape", "spacing_mm", "content"):
                entry[name] = tuple(entry[name]) if entry[name] is not None else None
            result = Checked(**entry)
        except (ValueError, TypeError, KeyError):  # a torn last line, or one of another version
            continue
        if check != CHECK or result.path not in scans or _row_key(scans[result.path]) != row:
            continue
        path = copy.base / result.path
        state = path.stat() if path.exists() else None
        same = state is not None and (state.st_size, state.st_mtime_ns) == (result.bytes, result.mtime_ns)
        if same and (result.voxels or result.path not in read):
            done[result.path] = result
    return done


def _no_chest(copy: Copy) -> set[str]:
    paths = (copy.base / name for name in NO_CHEST.values())
    return {name for path in paths if path.is_file() for name in read_list(path)}


def _copies(copy: Copy, checked: Mapping[str, Checked]) -> Iterator[tuple[Finding, str]]:
    """(finding, path to leave out) for volumes whose unpacked bytes are equal though their names are not."""
    groups: dict[tuple[int, int], list[Found]] = {}
    for found in copy.volumes:
        result = checked[found.path]
        if result.content is not None and not result.error:
            groups.setdefault(result.content, []).append(found)
    for group in groups.values():
        first, *others = group
        for other in others:
            if other.name.text == first.name.text or not _equal(copy.base / first.path, copy.base / other.path):
                continue
            apart = other.split != first.split
            kind = "copy-in-other-split" if apart else "copy-in-same-split"
            drop = first.path if apart and first.split == "train" else other.path
            yield Finding(kind, first.path, f"the same voxels as {other.path}"), drop


def _equal(one: Path, other: Path) -> bool:
    """Checksums of 32 bits agree now and then by chance: compare the unpacked bytes."""
    with gzip.open(one) as first, gzip.open(other) as second:
        while True:
            chunk = first.read(1 << 20)
            if chunk != second.read(1 << 20):
                return False
            if not chunk:
                return True


def _exclude(copy: Copy, findings: Sequence[Finding], copies: Sequence[str]) -> Iterator[tuple[str, str]]:
    for finding in findings:
        if finding.kind in EXCLUDED and not finding.kind.startswith("copy"):
            why = finding.message.partition(";")[0].replace("\n", " ")
            yield finding.subject.removesuffix(".nii.gz"), f"{finding.kind}: {why}"
        if finding.kind == "both-sides":
            for found in copy.volumes:
                if found.name.patient == finding.subject and found.split == "train":
                    yield found.path.removesuffix(".nii.gz"), "both-sides: the patient is in valid too"
    for path in copies:
        yield path.removesuffix(".nii.gz"), "the same voxels are in another file"


def _counts(copy: Copy) -> dict[str, Any]:
    counts: dict[str, Any] = {}
    for split in copy.sides:
        names = {found.name for found in copy.volumes if found.split == split}
        files = [found for found in copy.volumes if found.split == split]
        scans = Counter(name.scan for name in names)
        counts[split] = {
            "patients": len({name.patient for name in names}),
            "scans": len(scans),
            "volumes": len(files),
            "fixed": sum(found.fixed for found in files),
            "raw": sum(not found.fixed for found in files),
            "scans_with_two_or_more_reconstructions": sum(count > 1 for count in scans.values()),
        }
    scanned = [copy.scan(found) for found in copy.volumes]
    counts["kernels"] = dict(Counter(scan.kernel or "not known" for scan in scanned).most_common(12))
    counts["sex"] = dict(Counter(scan.sex or "not known" for scan in scanned).most_common())
    present = [copy.label(found) or {} for found in copy.volumes]
    counts["labels"] = {label: sum(labels.get(label, 0) for labels in present) for label in LABELS} if any(present) else {}
    counts["splits"] = [split for split in SPLITS if split in copy.sides]
    return counts


def _distributions(copy: Copy, checked: Mapping[str, Checked], scans: Mapping[str, Scan]) -> dict[str, list[float]]:
    whole = [checked[found.path] for found in copy.volumes if checked[found.path].shape and not checked[found.path].error]
    reports = [copy.report(found) for found in copy.volumes]
    ages = (scans[found.path].age_years for found in copy.volumes)
    return {
        "slices": [float(one.shape[0]) for one in whole],
        "slice spacing, mm": [one.spacing_mm[0] for one in whole],
        "pixel spacing, mm": [one.spacing_mm[2] for one in whole],
        "pixels per row": [float(one.shape[2]) for one in whole],
        "length, mm": [one.shape[0] * one.spacing_mm[0] for one in whole],
        "lung, share of the body": [one.lung for one in whole if one.lung is not None],
        "words in findings": [float(len(report.findings.split())) for report in reports if report is not None],
        "age, years": [float(age) for age in ages if age is not None],
    }
