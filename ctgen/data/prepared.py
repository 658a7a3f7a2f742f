"""Prepared cases on disk: one int16 array and one JSON record per case, and a manifest written last.

Folder: ``cases/<id>.npy`` (D, H, W) HU, ``cases/<id>.json`` (record; its presence means the case is whole),
``cases/<id>.skipped.json`` (left out, with the reason), ``manifest.json``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctgen.atomic import read_json, write_atomically, write_json
from ctgen.errors import StageError
from ctgen.interfaces import Case, Prompt, Report, Skipped, Split
from ctgen.volume import Volume


def write_case(folder: Path, case: Case, volume: Volume, facts: Mapping[str, Any]) -> None:
    """Store a prepared volume and everything known about its case; the record is written last."""
    array = np.clip(np.rint(volume.hu), -32768, 32767).astype(np.int16)
    write_atomically(folder / "cases" / f"{case.id}.npy", lambda path: np.save(path, array))
    record = {
        "id": case.id,
        "split": case.split,
        "report": asdict(case.report) if case.report else None,
        "labels": dict(case.labels) if case.labels is not None else None,
        "shape": list(volume.shape),
        "spacing_mm": list(volume.spacing_mm),
        "affine": volume.affine.tolist(),
        "meta": dict(case.meta),
        **facts,
    }
    write_json(folder / "cases" / f"{case.id}.json", record)


def write_skipped(folder: Path, skipped: Skipped) -> None:
    write_json(folder / "cases" / f"{skipped.id}.skipped.json", asdict(skipped))


def read_outcome(folder: Path, case_id: str) -> dict[str, Any] | Skipped | None:
    """The record of a stored case, why it was left out, or None if it has not been tried."""
    stored = folder / "cases" / f"{case_id}.json"
    if stored.is_file():
        record: dict[str, Any] = read_json(stored)
        return record
    left_out = folder / "cases" / f"{case_id}.skipped.json"
    return Skipped(**read_json(left_out)) if left_out.is_file() else None


class PreparedCases:
    """Read access to a finished prepare stage; every array is memory-mapped at use."""

    def __init__(self, folder: Path) -> None:
        if not (folder / "manifest.json").is_file():
            raise StageError(
                f"{folder} holds no prepared cases (no manifest.json)", hint="run: ctgen run RECIPE --until prepare"
            )
        self.folder = folder
        self.manifest: dict[str, Any] = read_json(folder / "manifest.json")
        self._records: dict[str, dict[str, Any]] = {}

    def ids(self, split: Split) -> list[str]:
        return [case["id"] for case in self.manifest["cases"] if case["split"] == split]

    @property
    def skipped(self) -> Sequence[Skipped]:
        return [Skipped(**entry) for entry in self.manifest["skipped"]]

    def record(self, case_id: str) -> dict[str, Any]:
        if case_id not in self._records:
            self._records[case_id] = read_json(self.folder / "cases" / f"{case_id}.json")
        return self._records[case_id]

    def array(self, case_id: str) -> NDArray[np.int16]:
        """(D, H, W) int16 HU, memory-mapped."""
        array: NDArray[np.int16] = np.load(self.folder / "cases" / f"{case_id}.npy", mmap_mode="r")
        return array

    def volume(self, case_id: str) -> Volume:
        return Volume(np.array(self.array(case_id)), np.asarray(self.record(case_id)["affine"], dtype=np.float64))

    def report(self, case_id: str) -> Report | None:
        stored = self.record(case_id)["report"]
        return Report(**stored) if stored else None

    def prompt(self, case_id: str) -> Prompt:
        """What the text encoder reads; a case without a report is prompted with the empty report (said in the manifest)."""
        return Prompt(self.report(case_id) or Report(findings=""), slices=self.record(case_id)["shape"][0])
