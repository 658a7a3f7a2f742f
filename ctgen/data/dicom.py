"""The ``dicom`` data set: CT series as a PACS exports them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ctgen.atomic import fingerprint
from ctgen.data.dicom_config import DicomConfig
from ctgen.data.dicom_mapping import read_reports, write_mapping
from ctgen.data.splits import split_by_patient
from ctgen.dicom.config import DicomReading
from ctgen.dicom.plane import Rejected
from ctgen.dicom.reading import header_of, read_series
from ctgen.dicom.series import LeftOut, Series, find_series
from ctgen.dicom.tree import open_private, scan
from ctgen.errors import DataError
from ctgen.interfaces import Case, Origin, Report, Skipped, Split


class DicomDataset:
    """Headers are read at construction (once: then they are in the private index), voxels on access.

    ``skipped``: series that are left out, and counts of files that are no CT slices. ``Case.meta`` holds no patient's data: a
    pseudonym, the kernel, the scanner's make. Raises MissingFileError, DataError: no usable series, mistakes in the reports.
    """

    def __init__(self, config: DicomConfig) -> None:
        self.config = config
        private = config.private_folder()
        open_private(private, "set data.private to a folder that you may write, outside data.root")
        tree = scan(config.root, private=private, workers=config.workers)
        found, left = find_series(tree, config)
        self.skipped: Sequence[Skipped] = tuple([*(_skipped(item) for item in left), *rejected_files(tree.rejected)])
        if not found:
            reasons = "\n".join(f"{item.id}: {item.reason}" for item in self.skipped[:10])
            raise DataError(
                f"no usable CT series among the {tree.files} files under {config.root}",
                hint=reasons or "is this the folder of the DICOM files?",
            )
        write_mapping(private, found)
        self._series: dict[str, Series] = {one.case_id(): one for one in found}
        self.ids: Sequence[str] = tuple(self._series)
        self._rows, self.reports_elsewhere = read_reports(config.reports, found) if config.reports is not None else ({}, 0)
        self.without_report: tuple[str, ...] = tuple(case_id for case_id in self.ids if self._report(case_id) is None)
        patients = {case_id: one.patient() for case_id, one in self._series.items()}
        self._splits = split_by_patient(patients, config.valid_fraction)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Case:
        """Decodes the slices; raises VolumeError, with the case's id in place of a path, when they are damaged."""
        case_id = self.ids[index]
        series = self._series[case_id]
        volume = read_series(series, self.config)
        row = self._rows.get(case_id)
        meta = {**series_facts(series), "patient": series.patient(), "notes": list(volume.meta["notes"])}
        return Case(case_id, volume, self._report(case_id), row.labels if row else None, self._splits[case_id], meta)

    def origin(self, index: int) -> Origin:
        """By names, sizes and times of change; no path is handed out, because those of a hospital's export may hold names."""
        case_id = self.ids[index]
        series, report, row = self._series[case_id], self._report(case_id), self._rows.get(case_id)
        states = [(name, (series.root / name).stat()) for name in series.files]
        facts = {
            "files": fingerprint([[name, state.st_size, state.st_mtime_ns] for name, state in states]),
            "reading": DicomReading.model_validate(self.config.model_dump(include=set(DicomReading.model_fields))).identity(),
            "report": asdict(report) if report else None,
            "labels": row.labels if row else None,
            "patient": series.patient(),
            "split": self._splits[case_id],
        }
        return Origin((), facts)

    def split_of(self, case_id: str) -> Split:
        """Known without reading the scan."""
        return self._splits[case_id]

    def _report(self, case_id: str) -> Report | None:
        row = self._rows.get(case_id)
        if row is not None and row.report is not None:
            return row.report
        return None if self.config.default_report is None else Report(findings=self.config.default_report)


def series_facts(series: Series) -> dict[str, Any]:
    """JSON-ready facts that identify nobody."""
    first, header = series.first, header_of(series)
    return {
        "slices": header.shape[0],
        "rows": header.shape[1],
        "columns": header.shape[2],
        "spacing_mm": [round(value, 6) for value in header.spacing_mm],
        "slice_thickness_mm": first.thickness or None,
        "tilt_degrees": round(series.stack.tilt_degrees, 3),
        "kernel": first.kernel or None,
        "contrast": bool(first.contrast),
        "manufacturer": first.manufacturer or None,
        "kvp": first.kvp or None,
    }


def rejected_files(rejected: Sequence[Rejected]) -> list[Skipped]:
    """One entry per reason, with the number of files."""
    counts = Counter(item.reason for item in rejected)
    return [
        Skipped(f"files-{number}", f"{count} files: {reason}") for number, (reason, count) in enumerate(counts.most_common(), 1)
    ]


def _skipped(item: LeftOut) -> Skipped:
    return Skipped(item.case_id(), f"{item.slices} slices: {item.reason}")
