"""Masks of findings as a bit field, and their files. In a bit field bit k of a voxel is LABELS[k]."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile
from zlib import error as ZlibError

import numpy as np
from numpy.typing import NDArray

from ctgen.atomic import write_atomically
from ctgen.data.labels import LABELS
from ctgen.errors import DataError, did_you_mean
from ctgen.volume import Volume
from ctgen.volume.orient import to_canonical
from ctgen.volume.resample import fit, resample

DAMAGED = (OSError, ValueError, KeyError, EOFError, BadZipFile, ZlibError)
"""What reading a damaged file raises."""


def pack(masks: Mapping[str, NDArray[Any]], shape: Sequence[int], what: str) -> NDArray[np.int32]:
    """Masks (D, H, W) by label as one bit field. DataError, naming ``what``: an unknown label, another shape, not bool."""
    bits = np.zeros(tuple(shape), np.int32)
    for label, mask in masks.items():
        if label not in LABELS:
            raise DataError(f"{what}: no label is called {label!r}", hint=did_you_mean(label, LABELS))
        if mask.shape != bits.shape:
            raise DataError(f"{what}: the mask of {label} has {_sized(mask.shape)} voxels, the volume has {_sized(bits.shape)}")
        if mask.dtype != np.bool_:
            raise DataError(f"{what}: the mask of {label} is {mask.dtype}, not bool")
        # slice by slice: no other copy of a large volume
        for plane, shown in zip(bits, mask, strict=True):
            plane |= shown.astype(np.int32) << LABELS.index(label)
    return bits


def regrid(
    bits: Volume, grid: Volume, spacing_mm: Sequence[float] | Literal["keep"], centre_mm: Sequence[float] | None
) -> NDArray[np.int32]:
    """The bit field ``bits`` on ``grid``, a canonical volume that was resampled to ``spacing_mm`` from the grid of ``bits`` and
    cropped or padded around ``centre_mm`` (None: its middle): nearest neighbours, and nothing where ``grid`` is padded."""
    placed, _ = to_canonical(bits, copy=False)
    if spacing_mm != "keep":
        placed = resample(placed, spacing_mm, order="nearest")
    placed = fit(placed, grid.shape, fill_hu=0, centre_mm=centre_mm, pad_depth=True)
    assert np.allclose(placed.affine, grid.affine)
    return np.ascontiguousarray(placed.hu)


def in_order(labels: Mapping[str, Any] | Sequence[str]) -> tuple[str, ...]:
    """In the order of LABELS."""
    return tuple(label for label in LABELS if label in labels)


def planes_of(bits: NDArray[np.int32], labels: Sequence[str]) -> NDArray[np.uint8]:
    """(labels, ceil(voxels / 8)): eight voxels in a byte, as ``numpy.packbits`` has them; what is stored.

    Deflated it is a third of the deflated bit field, and read back several times as fast.
    """
    planes = np.empty((len(labels), -(-bits.size // 8)), np.uint8)
    for plane, label in zip(planes, labels, strict=True):
        plane[:] = np.packbits(bits & (1 << LABELS.index(label)))
    return planes


def write_masks(path: Path, planes: NDArray[np.uint8], labels: Sequence[str], shape: Sequence[int]) -> None:
    """Atomically. ``planes`` as of ``planes_of``, of bit fields of ``shape``; equal masks give equal bytes."""
    size, names = np.asarray(shape, np.int64), np.asarray(labels, str)
    write_atomically(path, lambda to: np.savez_compressed(to, planes=planes, labels=names, shape=size))


def read_planes(path: Path) -> tuple[NDArray[np.uint8], tuple[str, ...], tuple[int, ...]]:
    """``planes``, ``labels``, ``shape`` as they were written."""
    with np.load(path) as stored:
        return stored["planes"], tuple(map(str, stored["labels"])), tuple(map(int, stored["shape"]))


def read_masks(path: Path) -> dict[str, NDArray[np.bool_]]:
    """(D, H, W) by label."""
    planes, labels, shape = read_planes(path)
    count = int(np.prod(shape))
    return {
        label: np.unpackbits(plane, count=count).reshape(shape).view(np.bool_)
        for label, plane in zip(labels, planes, strict=True)
    }


def read_bits(path: Path) -> NDArray[np.int32]:
    """(D, H, W) bit field."""
    planes, labels, shape = read_planes(path)
    eights = np.zeros((planes.shape[1], 8), np.int32)
    for label, plane in zip(labels, planes, strict=True):
        # findings are small: most bytes are 0
        some = np.flatnonzero(plane)
        eights[some] |= np.unpackbits(plane[some]).reshape(-1, 8).astype(np.int32) << LABELS.index(label)
    return eights.reshape(-1)[: int(np.prod(shape))].reshape(shape)


def known_labels(record: Mapping[str, Any]) -> NDArray[np.bool_]:
    """(18,): labels that have a mask or that the case is known not to have (nothing of it is anywhere)."""
    labels: Mapping[str, int] = record.get("labels") or {}
    masked = record.get("masks") or ()
    return np.array([label in masked or labels.get(label) == 0 for label in LABELS])


def _sized(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
