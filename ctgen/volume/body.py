"""Where the patient is in a CT volume, without the table."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctgen.volume.volume import Volume

TISSUE_HU = -500
THIN_MM = 7.0
"""Sheets thinner than this (table top, mattress, clothes) are not the body."""


def tissue_mask(volume: Volume) -> NDArray[np.bool_]:
    """The largest connected piece above -500 HU of a canonical volume, thin sheets removed; empty if there is none."""
    from scipy import ndimage

    tissue = volume.hu > TISSUE_HU
    width = [max(1, round(THIN_MM / spacing)) | 1 for spacing in volume.spacing_mm[1:]]
    # A wall of tissue at the edge of the image is not thin: the opening must not eat it.
    edge = max(width) // 2 + 1
    padded = np.pad(tissue, ((0, 0), (edge, edge), (edge, edge)), mode="edge")
    opened = ndimage.binary_opening(padded, np.ones((1, *width), bool))[:, edge:-edge, edge:-edge]
    labels, count = ndimage.label(opened)
    if count == 0:
        return np.zeros(volume.shape, bool)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    largest: NDArray[np.bool_] = labels == int(sizes.argmax())
    return largest


def body_centre_mm(volume: Volume) -> tuple[float, float, float] | None:
    """LPS (x, y, z) of the middle of the body's bounding box; None if the volume holds no body."""
    return centre_mm(tissue_mask(volume), volume.affine)


def centre_mm(mask: NDArray[np.bool_], affine: NDArray[np.float64]) -> tuple[float, float, float] | None:
    """LPS (x, y, z) of the middle of the bounding box of ``mask`` (D, H, W); None if nothing is in it."""
    if not mask.any():
        return None
    middle = []
    for axis in range(3):
        other = tuple(i for i in range(3) if i != axis)
        found = np.flatnonzero(mask.any(axis=other))
        middle.append((found[0] + found[-1]) / 2)
    x, y, z = (affine @ np.array([*middle, 1.0]))[:3]
    return float(x), float(y), float(z)


def filled(mask: NDArray[np.bool_]) -> NDArray[Any]:
    """``mask`` with the holes of every axial slice filled."""
    from scipy import ndimage

    return np.stack([ndimage.binary_fill_holes(plane) for plane in mask])
