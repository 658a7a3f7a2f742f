"""Prepared cases on disk: one int16 array and one JSON record per case, and a manifest written last.

Folder: ``cases/<id>.npy`` (D, H, W) HU, ``cases/<id>.masks.npz`` (of findings, where a case has masks; see ctgen.data.masks),
``cases/<id>.json`` (record; its presence means the case is whole),
``cases/<id>.skipped.json`` (left out, with the reason), ``manifest.json``.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctgen.atomic import read_json, write_atomically, write_json
from ctgen.data.masks import in_order, pack, planes_of, read_bits, read_masks, read_planes, write_masks
from ctgen.errors import StageError
from ctgen.interfaces import Case, Prompt, Report, Skipped, Split
from ctgen.volume import Volume

RECORDS_KEPT = 4096
"""Records in memory at a time: a large data set's reports must not fill every reader process."""


def write_case(
    folder: Path, case: Case, volume: Volume, facts: Mapping[str, Any], bits: NDArray[np.int32] | None = None
) -> dict[str, Any]:
    """Store a prepared volume and everything known about its case; the record is written last, and returned.

    ``bits``: the case's masks on the grid of ``volume`` (ctgen.data.masks); without them those of the case as they are.
    """
    array = as_int16(volume.hu)
    write_atomically(array_file(folder, case.id), lambda path: np.save(path, array))
    masked: dict[str, Any] = {}
    if case.masks is not None:
        labels = in_order(case.masks)
        planes = planes_of(pack(case.masks, volume.shape, case.id) if bits is None else bits, labels)
        write_masks(masks_file(folder, case.id), planes, labels, volume.shape)
        masked = {"masks": list(labels), "masks_sha256": sha256_of_array(planes)}
    record = {
        "id": case.id,
        "split": case.split,
        "report": asdict(case.report) if case.report else None,
        "labels": dict(case.labels) if case.labels is not None else None,
        "shape": list(volume.shape),
        "spacing_mm": list(volume.spacing_mm),
        "affine": volume.affine.tolist(),
        "hu_range": [int(array.min()), int(array.max())],
        "voxels_sha256": sha256_of_array(array),
        "meta": dict(case.meta),
        **masked,
        **facts,
    }
    write_json(record_file(folder, case.id), record)
    return record


def write_skipped(folder: Path, skipped: Skipped, facts: Mapping[str, Any] | None = None) -> None:
    write_json(folder / "cases" / f"{skipped.id}.skipped.json", {**asdict(skipped), **(facts or {})})


def take_over(earlier: Path, folder: Path, case_id: str, outcome: Mapping[str, Any]) -> None:
    """Make a case of another folder this one's, under the record ``outcome``: its files are linked, where links exist."""
    if "reason" in outcome:
        write_json(folder / "cases" / f"{case_id}.skipped.json", dict(outcome))
        return
    link_or_copy(array_file(earlier, case_id), array_file(folder, case_id))
    if "masks" in outcome:
        link_or_copy(masks_file(earlier, case_id), masks_file(folder, case_id))
    write_json(record_file(folder, case_id), dict(outcome))


def link_or_copy(source: Path, target: Path) -> None:
    """The same file under another name; atomically, replacing what is there."""

    def write(temporary: Path) -> None:
        try:
            os.link(source, temporary)
        except OSError:  # another file system, or one without links
            shutil.copyfile(source, temporary)

    write_atomically(target, write)


def array_file(folder: Path, case_id: str) -> Path:
    return folder / "cases" / f"{case_id}.npy"


def masks_file(folder: Path, case_id: str) -> Path:
    return folder / "cases" / f"{case_id}.masks.npz"


def record_file(folder: Path, case_id: str) -> Path:
    return folder / "cases" / f"{case_id}.json"


def outcome_of(folder: Path, case_id: str) -> dict[str, Any] | None:
    """The JSON of a case that was stored or (it then has a "reason") left out; None if it has not been tried."""
    for path in (record_file(folder, case_id), folder / "cases" / f"{case_id}.skipped.json"):
        if path.is_file():
            found: dict[str, Any] = read_json(path)
            return found
    return None


def as_int16(hu: NDArray[Any]) -> NDArray[np.int16]:
    """Rounded and clipped, not wrapped."""
    if hu.dtype == np.int16:
        return np.ascontiguousarray(hu)
    array = np.empty(hu.shape, np.int16)
    for plane, target in zip(hu, array, strict=True):
        target[...] = np.clip(np.rint(plane), -32768, 32767)
    return array


def sha256_of_array(array: NDArray[Any]) -> str:
    """Of the values in C order; not of the file, whose header may differ between versions of numpy."""
    digest = hashlib.sha256()
    for plane in array:
        digest.update(np.ascontiguousarray(plane).data)
    return digest.hexdigest()


class PreparedCases:
    """Read access to a finished prepare stage; every array is memory-mapped at use."""

    def __init__(self, folder: Path) -> None:
        if not (folder / "manifest.json").is_file():
            raise StageError(
                f"{folder} holds no prepared cases (no manifest.json)", hint="run: ctgen run RECIPE --until prepare"
            )
        self.folder = folder
        self.manifest: dict[str, Any] = read_json(folder / "manifest.json")
        self._records: OrderedDict[str, dict[str, Any]] = OrderedDict()

    def ids(self, split: Split | None = None) -> list[str]:
        """Of one split, or of all."""
        return [case["id"] for case in self.manifest["cases"] if split is None or case["split"] == split]

    @property
    def skipped(self) -> Sequence[Skipped]:
        return [Skipped(entry["id"], entry["reason"]) for entry in self.manifest["skipped"]]

    def record(self, case_id: str) -> dict[str, Any]:
        if case_id not in self._records:
            self._records[case_id] = read_json(record_file(self.folder, case_id))
            if len(self._records) > RECORDS_KEPT:
                self._records.popitem(last=False)
        return self._records[case_id]

    def array(self, case_id: str) -> NDArray[np.int16]:
        """(D, H, W) int16 HU, memory-mapped."""
        array: NDArray[np.int16] = np.load(array_file(self.folder, case_id), mmap_mode="r")
        return array

    def masks(self, case_id: str) -> Mapping[str, NDArray[np.bool_]] | None:
        """Where findings are, (D, H, W) by label; None if the case has no masks."""
        return read_masks(masks_file(self.folder, case_id)) if "masks" in self.record(case_id) else None

    def mask_bits(self, case_id: str) -> NDArray[np.int32] | None:
        """The same as one bit field (D, H, W): bit k of a voxel is LABELS[k]."""
        return read_bits(masks_file(self.folder, case_id)) if "masks" in self.record(case_id) else None

    def masks_intact(self, case_id: str) -> bool:
        """Whether the masks are those that were written; true if there are none. Raises one of ctgen.data.masks.DAMAGED."""
        record = self.record(case_id)
        if "masks" not in record:
            return True
        planes, labels, _ = read_planes(masks_file(self.folder, case_id))
        return [*labels, sha256_of_array(planes)] == [*record["masks"], record["masks_sha256"]]

    def volume(self, case_id: str) -> Volume:
        return Volume(np.array(self.array(case_id)), np.asarray(self.record(case_id)["affine"], dtype=np.float64))

    def report(self, case_id: str) -> Report | None:
        stored = self.record(case_id)["report"]
        return Report(**stored) if stored else None

    def prompt(self, case_id: str) -> Prompt:
        """What the text encoder reads; a case without a report is prompted with the empty report (said in the manifest)."""
        return Prompt(self.report(case_id) or Report(findings=""), slices=self.record(case_id)["shape"][0])
