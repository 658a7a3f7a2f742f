"""The ``folder`` data set: any folder of scans, with a table of reports if there is one."""

from __future__ import annotations

import glob
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path, PurePosixPath

from ctgen.data.folder_config import FolderConfig
from ctgen.data.mask_files import find_masks, read_mask_files
from ctgen.data.report_table import Row, read_report_table
from ctgen.data.splits import split_by_patient
from ctgen.errors import DataError, MissingFileError, VolumeError, did_you_mean
from ctgen.interfaces import Case, Origin, Report, Skipped, Split
from ctgen.volume.header import volume_stem, volume_suffix
from ctgen.volume.io import probe_volume, read_volume


class FolderDataset:
    """Scans as they are on disk: native orientation, HU unchanged. Headers are read at construction, voxels on access.

    ``skipped`` holds files whose header is no CT volume; ``without_report`` the ids of scans that have none.
    Raises MissingFileError, DataError: nothing readable, mistakes in the table of reports or in the names of masks, unknown ids
    in ``valid``.
    """

    def __init__(self, config: FolderConfig) -> None:
        self.config = config
        root = config.root
        if not root.is_dir():
            raise MissingFileError(
                f"dataset folder: no folder at {root}", hint="set data.root to the folder that holds the scans"
            )
        files = config.files()
        if not files:
            raise DataError(
                f"no scans under {root} (looked for .nii.gz, .nii, .mha, .mhd, .nrrd at any depth)", hint=_dicom_hint(root)
            )
        named = unique_ids([path.relative_to(root).as_posix() for path in files])
        self._files: dict[str, Path] = {}
        skipped = []
        for case_id, path in zip(named, files, strict=True):
            try:
                probe_volume(path)
                self._files[case_id] = path
            except VolumeError as error:
                skipped.append(Skipped(case_id, error.message.removeprefix(f"{path}: ")))
        self.skipped: Sequence[Skipped] = tuple(skipped)
        if not self._files:
            reasons = "\n".join(f"{item.id}: {item.reason}" for item in skipped[:10])
            raise DataError(f"none of the {len(files)} files under {root} is a readable CT volume\n{reasons}")
        self.ids: Sequence[str] = tuple(self._files)
        self._rows = self._read_reports(dict(zip(named, files, strict=True)))
        self.without_report: tuple[str, ...] = tuple(case_id for case_id in self.ids if self._report(case_id) is None)
        self._splits = self._split()
        masks = config.masks_folder()
        self._masks = None if masks is None else find_masks(masks, named)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Case:
        """Reads the file, and its masks if ``masks`` is set.

        Raises VolumeError when voxels are damaged, DataError for masks that do not lie on the scan.
        """
        case_id = self.ids[index]
        path = self._files[case_id]
        volume = read_volume(path)
        row = self._rows.get(case_id)
        meta = {"file": path.relative_to(self.config.root).as_posix(), "notes": volume.meta["notes"]}
        if patient := self._patient(case_id):
            meta["patient"] = patient
        files = self._mask_files(case_id)
        masks = None if files is None else read_mask_files(files, volume)
        return Case(case_id, volume, self._report(case_id), row.labels if row else None, self._splits[case_id], meta, masks)

    def origin(self, index: int) -> Origin:
        """The scan's file (with its data file, for .mhd), and what the table of reports and the config say about it."""
        case_id = self.ids[index]
        path, row, report = self._files[case_id], self._rows.get(case_id), self._report(case_id)
        beside = sorted(path.parent.glob(f"{glob.escape(path.stem)}.*raw")) if path.suffix.lower() == ".mhd" else []
        facts = {
            "file": path.relative_to(self.config.root).as_posix(),
            "report": asdict(report) if report else None,
            "labels": row.labels if row else None,
            "patient": self._patient(case_id),
            "split": self._splits[case_id],
        }
        masks = self._mask_files(case_id)
        if masks is None:
            return Origin((path, *beside), facts)
        # also masks of nothing are something else than none
        return Origin((path, *beside, *masks.values()), {**facts, "masks": list(masks)})

    def _mask_files(self, case_id: str) -> Mapping[str, Path] | None:
        return None if self._masks is None else self._masks.get(case_id)

    def split_of(self, case_id: str) -> Split:
        """Known without reading the scan."""
        return self._splits[case_id]

    def _read_reports(self, known: Mapping[str, Path]) -> Mapping[str, Row]:
        table = self.config.reports_file()
        if table is None:
            return {}
        relative = {case_id: path.relative_to(self.config.root) for case_id, path in known.items()}
        bases = Counter(path.name for path in known.values())
        names = {path.name: case_id for case_id, path in known.items() if bases[path.name] == 1}
        names |= {path.with_name(volume_stem(path)).as_posix(): case_id for case_id, path in relative.items()}
        names |= {path.as_posix(): case_id for case_id, path in relative.items()}
        names |= {case_id: case_id for case_id in known}
        readable = self._files

        def match(name: str) -> str | None:
            found = names.get(name)
            return found if found is None or found in readable else ""

        return read_report_table(table, match)

    def _report(self, case_id: str) -> Report | None:
        row = self._rows.get(case_id)
        if row is not None and row.report is not None:
            return row.report
        return None if self.config.default_report is None else Report(findings=self.config.default_report)

    def _patient(self, case_id: str) -> str | None:
        row = self._rows.get(case_id)
        if row is not None and row.patient:
            return row.patient
        if self.config.patient_pattern is None:
            return None
        found = re.search(self.config.patient_pattern, case_id)
        return (found.group(1) if found.re.groups else found.group(0)) if found else None

    def _split(self) -> Mapping[str, Split]:
        if self.config.valid:
            if unknown := [name for name in self.config.valid if name not in self._files]:
                hint = did_you_mean(unknown[0], self.ids) or f"ids: {', '.join(self.ids[:10])}"
                raise DataError(f"data.valid: no scan with the id {', '.join(map(repr, unknown))}", hint=hint)
            return {case_id: "valid" if case_id in self.config.valid else "train" for case_id in self.ids}
        patients = {case_id: self._patient(case_id) or case_id for case_id in self.ids}
        return split_by_patient(patients, self.config.valid_fraction)


def unique_ids(names: Sequence[str]) -> list[str]:
    """File-name safe ids for relative paths, each as short as it can be: stem, then with its folders, then with its suffix."""
    paths = [PurePosixPath(name) for name in names]
    stems = [volume_stem(Path(path.name)) for path in paths]
    suffixes = [(volume_suffix(Path(path.name)) or "").replace(".", "") for path in paths]
    folders = ["-".join([*path.parts[:-1], stem]) for path, stem in zip(paths, stems, strict=True)]
    candidates = [stems, folders, [f"{folder}-{suffix}" for folder, suffix in zip(folders, suffixes, strict=True)]]
    levels = [[_safe(name) for name in names] for names in candidates]
    counts = [Counter(name.casefold() for name in level) for level in levels]
    ids: list[str] = []
    taken: set[str] = set()
    for index in range(len(names)):
        best = next(
            (level[index] for level, count in zip(levels, counts, strict=True) if count[level[index].casefold()] == 1),
            levels[-1][index],
        )
        name, number = best, 2
        while name.casefold() in taken:
            name, number = f"{best}-{number}", number + 1
        taken.add(name.casefold())
        ids.append(name)
    return ids


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._") or "scan"


def _dicom_hint(root: Path) -> str:
    dicom = sum(1 for path in root.rglob("*") if path.suffix.lower() in (".dcm", ".ima"))
    return f"there are {dicom} DICOM files: set data.use=dicom, or convert them: ctgen data import" if dicom else ""
