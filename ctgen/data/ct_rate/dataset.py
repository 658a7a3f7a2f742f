"""The data set ``ct-rate``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctgen.data.ct_rate.config import CtRateConfig
from ctgen.data.ct_rate.copy import Copy
from ctgen.data.ct_rate.layout import Found
from ctgen.data.ct_rate.select import select
from ctgen.data.ct_rate.tables import Scan
from ctgen.data.rescale import decide, sampled, to_hu
from ctgen.errors import MissingFileError, VolumeError
from ctgen.interfaces import Case, Origin, Skipped, Split
from ctgen.volume.io import read_volume
from ctgen.volume.volume import Volume

LOST_MM = 1e-3


class CtRate:
    """Cases of a copy of CT-RATE. At construction names and tables are read, and no volume; each access reads one volume.

    Raises MissingFileError, DataError: no such layout, no table of reports though they are required, a patient on both sides.
    """

    def __init__(self, config: CtRateConfig) -> None:
        self.config = config
        copy = Copy(config.root)
        if config.require_report:
            for split in copy.sides:
                path = copy.table_path("reports", split)
                if split in config.splits and not path.is_file():
                    raise MissingFileError(
                        f"no table of reports at {path}", hint="copy it there, or set data.require_report=false"
                    )
        selection = select(copy, config)
        self.base = copy.base
        self.skipped: Sequence[Skipped] = selection.skipped
        self.ids: Sequence[str] = tuple(selection.chosen)
        self._chosen, self._splits = selection.chosen, selection.splits
        self._reports = {case_id: copy.report(found) for case_id, (found, _) in self._chosen.items()}
        self._labels = {case_id: copy.label(found) for case_id, (found, _) in self._chosen.items()}
        self.without_report: tuple[str, ...] = tuple(case_id for case_id in self.ids if self._reports[case_id] is None)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Case:
        """HU, nothing below ``floor_hu``; ``meta["intensity"]`` says how they were read and from which numbers.

        Raises VolumeError, with those numbers, for a damaged file and for what cannot be HU.
        """
        case_id = self.ids[index]
        found, scan = self._chosen[case_id]
        path = self.base / found.path
        stored = read_volume(path)
        decision = decide(path, sampled(stored.hu), scan.rescale, self.config.intensity)
        affine, source = placed(stored, scan, found, self.config.geometry)
        hu = to_hu(stored.hu, decision, path, self.config.floor_hu)
        meta: dict[str, Any] = {
            "file": found.path,
            "patient": found.name.patient,
            "scan": found.name.scan,
            "reconstruction": found.name.reconstruction,
            "kernel": scan.kernel or None,
            "sex": scan.sex or None,
            "age_years": scan.age_years,
            "intensity": {**decision.to_json(), "floor_hu": self.config.floor_hu},
            "geometry": source,
            "notes": stored.meta["notes"],
        }
        volume = Volume(hu, affine, stored.meta)
        return Case(case_id, volume, self._reports[case_id], self._labels[case_id], self._splits[case_id], meta)

    def origin(self, index: int) -> Origin:
        """The volume's file, and all that the tables and the config say about how it is read."""
        case_id = self.ids[index]
        found, scan = self._chosen[case_id]
        report = self._reports[case_id]
        facts = {
            "file": found.path,
            "intensity": self.config.intensity,
            "geometry": self.config.geometry,
            "floor_hu": self.config.floor_hu,
            "metadata": scan._asdict(),
            "report": asdict(report) if report else None,
            "labels": self._labels[case_id],
            "split": self._splits[case_id],
        }
        return Origin((self.base / found.path,), facts)

    def split_of(self, case_id: str) -> Split:
        """Known without reading the scan."""
        return self._splits[case_id]


def placed(volume: Volume, scan: Scan, found: Found, mode: str = "auto") -> tuple[NDArray[np.float64], str]:
    """The affine to use, and where it is from: "file" or "csv". Raises VolumeError if the table is needed and does not say.

    "auto": the file's in ``*_fixed`` folders, unless it was lost (1 x 1 x 1 mm at the origin); the table's in raw folders,
    where headers mean nothing (CT-RATE's own correction sets spacing, origin and direction from the table). Raw files of which
    the table says nothing keep the file's, if it was not lost.
    """
    lost = is_lost(volume.spacing_mm, volume.affine)
    if mode == "file" or (mode == "auto" and found.fixed and not lost):
        return volume.affine, "file"
    if scan.spacing_mm is None:
        if mode == "csv" or lost:
            raise VolumeError(found.path, "its spacing is not known: lost in the file, and not in the metadata table")
        return volume.affine, "file"
    row, column = np.array((scan.direction or (1, 0, 0, 0, 1, 0)), np.float64).reshape(2, 3)
    axes = np.stack([np.cross(row, column), column, row], axis=1)
    if not np.allclose(axes.T @ axes, np.eye(3), atol=1e-3):
        raise VolumeError(found.path, f"ImageOrientationPatient {scan.direction} of the metadata table is no orientation")
    affine = np.eye(4)
    affine[:3, :3] = axes * np.asarray(scan.spacing_mm)
    affine[:3, 3] = scan.origin_mm or (0.0, 0.0, 0.0)
    return affine, "csv"


def is_lost(spacing_mm: Sequence[float], affine: NDArray[np.float64]) -> bool:
    """Whether a geometry is what files have that lost theirs: 1 x 1 x 1 mm at the origin."""
    return np.allclose(spacing_mm, 1.0, atol=LOST_MM) and np.allclose(affine[:3, 3], 0.0, atol=LOST_MM)
