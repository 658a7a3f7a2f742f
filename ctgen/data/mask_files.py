"""Masks of findings as files that viewers show: a folder per scan, in it one volume per finding, on the scan's grid.

``<masks>/<id of the scan>/<finding>.nii.gz`` (or any other format of volumes): 0 outside, any one other value inside. A finding
is called as its label is, or in snake case. ``organs`` is passed over. A scan with a folder and without a file in it has masks
of nothing; one without a folder has none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctgen.atomic import write_atomically
from ctgen.data.labels import LABELS
from ctgen.errors import DataError, MissingFileError, did_you_mean
from ctgen.volume import Volume, nifti
from ctgen.volume.header import is_volume_file, volume_stem
from ctgen.volume.io import read_volume
from ctgen.volume.orient import from_canonical, to_canonical

ORGANS = "organs"
NAMES = {label.lower().replace(" ", "_"): label for label in LABELS}
"""Files' names -> labels."""
APART = 0.1
"""Voxels that corners of a mask and of its scan may lie apart: more than a header's float32 numbers lose."""


def write_mask(path: Path, values: NDArray[Any], like: Volume) -> Path:
    """(D, H, W) as a NIfTI file of uint8 with the affine of ``like``; atomically."""
    volume = Volume(values.astype(np.uint8, copy=False), like.affine)
    return write_atomically(path, lambda to: nifti.write(volume, path, to))


def find_masks(folder: Path, ids: Sequence[str]) -> dict[str, dict[str, Path]]:
    """Id -> label -> file, labels in the order of LABELS; no file is opened.

    Raises MissingFileError without the folder; DataError for a subfolder that is no scan's, a file that is no finding's, two
    files of one finding.
    """
    if not folder.is_dir():
        raise MissingFileError(
            f"masks: no folder at {folder}", hint="set data.masks to a folder below data.root, or leave it out"
        )
    known, found = set(ids), {}
    for below in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        if below.name not in known:
            hint = did_you_mean(below.name, ids) or f"folders are called as the ids of scans: {', '.join(list(ids)[:4])}"
            raise DataError(f"masks: {below} is not of a scan", hint=hint)
        found[below.name] = _of_one(below)
    return found


def _of_one(folder: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in sorted(path for path in folder.iterdir() if is_volume_file(path) and not path.name.startswith(".")):
        name = volume_stem(path).lower().replace(" ", "_").replace("-", "_")
        if name == ORGANS:
            continue
        if name not in NAMES:
            hint = did_you_mean(name, NAMES) or f"findings are {', '.join(NAMES)}"
            raise DataError(f"masks: {path} is of no finding that has a label", hint=hint)
        if other := files.get(NAMES[name]):
            raise DataError(f"masks: {path} and {other.name} are of one finding", hint="keep one of them")
        files[NAMES[name]] = path
    return {label: files[label] for label in LABELS if label in files}


def read_mask_files(files: Mapping[str, Path], scan: Volume) -> dict[str, NDArray[np.bool_]]:
    """(D, H, W) bool by label, on the grid of ``scan``; axes of a file may be in another order or reversed.

    Raises DataError for a file on another grid or with several values, VolumeError for one that cannot be read.
    """
    upright, orientation = to_canonical(scan, copy=False)
    return {label: from_canonical(_read(path, upright), orientation).hu for label, path in files.items()}


def _read(path: Path, scan: Volume) -> Volume:
    """A mask on the grid of the canonical ``scan``."""
    stored = read_volume(path)
    mask, _ = to_canonical(stored, copy=False)
    if mask.shape != scan.shape or _apart(mask, scan) > APART * min(scan.spacing_mm):
        raise DataError(
            f"{path}: the mask is on another grid than its scan: {_grid(mask)}; the scan {_grid(scan)}",
            hint="resample it to the scan's grid, with nearest neighbours",
        )
    inside = mask.hu != 0
    values = mask.hu[inside]
    if values.size and (values != values[0]).any():
        raise DataError(
            f"{path}: the mask has several values besides 0, from {values.min():g} to {values.max():g}",
            hint="write one file per finding, of 0 and 1",
        )
    return Volume(inside, scan.affine)


def _apart(one: Volume, other: Volume) -> float:
    """Most mm between corners."""
    corners = np.array([[*np.multiply(at, np.array(one.shape) - 1), 1] for at in np.ndindex(2, 2, 2)]).T
    return float(np.linalg.norm(((one.affine - other.affine) @ corners)[:3], axis=0).max())


def _grid(volume: Volume) -> str:
    """For people, of a canonical volume."""
    shape, spacing = (" x ".join(f"{value:g}" for value in values) for values in (volume.shape, volume.spacing_mm))
    origin = ", ".join(f"{value:.2f}" for value in volume.affine[:3, 3])
    return f"{shape} voxels (D, H, W) of {spacing} mm from ({origin}) mm (x, y, z; LPS)"
