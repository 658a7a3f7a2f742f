"""Planes of a volume as a radiologist looks at them: the patient's right on the left, anterior or head up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctgen.volume import Volume
from ctgen.volume.orient import to_canonical


@dataclass(frozen=True)
class Plane:
    """``hu`` (rows, columns), row 0 on top; ``size_mm`` (height, width); ``ends`` letters of the left and the upper edge.

    ``slice_up`` is True where rows are axial slices with the highest one on top.
    """

    hu: NDArray[Any]
    size_mm: tuple[float, float]
    ends: tuple[str, str]
    slice_up: bool = False


def index_at(fraction: float, count: int) -> int:
    """The voxel that holds ``fraction`` (0..1) of an axis of ``count`` voxels."""
    return min(max(int(fraction * count), 0), count - 1)


def axial(volume: Volume, fraction: float) -> Plane:
    """The slice at ``fraction`` of the way from the lowest to the highest; seen from the feet, anterior up."""
    canonical, _ = to_canonical(volume)
    hu = canonical.hu[index_at(fraction, canonical.shape[0])]
    return Plane(hu, _millimetres(hu, canonical.spacing_mm[1], canonical.spacing_mm[2]), ("R", "A"))


def coronal(volume: Volume, fraction: float = 0.5) -> Plane:
    """The plane at ``fraction`` of the way from anterior to posterior; seen from the front, head up."""
    canonical, _ = to_canonical(volume)
    hu = canonical.hu[::-1, index_at(fraction, canonical.shape[1])]
    return Plane(hu, _millimetres(hu, canonical.spacing_mm[0], canonical.spacing_mm[2]), ("R", "S"), slice_up=True)


def sagittal(volume: Volume, fraction: float = 0.5) -> Plane:
    """The plane at ``fraction`` of the way from the patient's right to left; head up, anterior on the left."""
    canonical, _ = to_canonical(volume)
    hu = canonical.hu[::-1, :, index_at(fraction, canonical.shape[2])]
    return Plane(hu, _millimetres(hu, canonical.spacing_mm[0], canonical.spacing_mm[1]), ("A", "S"), slice_up=True)


def relative_heights(count: int) -> list[float]:
    """``count`` evenly spaced fractions strictly inside 0..1, from the feet up."""
    return [float(height) for height in (np.arange(count) + 0.5) / count]


def _millimetres(hu: NDArray[Any], row_mm: float, column_mm: float) -> tuple[float, float]:
    return hu.shape[0] * row_mm, hu.shape[1] * column_mm
