"""What several findings of the lung are painted with. Lengths are mm of the case; nothing here draws random numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ctgen.data.atlas.airways import load_lobules
from ctgen.data.atlas.findings.scene import Box, Scene, box_of, ramp

Array = NDArray[Any]
_SOLID = ("consolidation", "lung_nodule")
SHARPEST_MM = 1.5
"""Width of the softest edge that a scan shows: thin lines must not be sharper than the atlas's own vessels."""


def open_lung(scene: Scene, box: Box, *lobes: str) -> NDArray[np.float32]:
    """1 in the lungs (or those lobes) where neither fluid nor an earlier solid finding is."""
    out = scene.in_box(box, *([f"lung_{lobe}" for lobe in lobes] or ["lung_"])) * scene.free(box)
    for name in _SOLID:
        if name in scene.masks:
            out = out * ~scene.masks[name][box]
    return np.asarray(out, np.float32)


def wall_mm(scene: Scene, box: Box) -> NDArray[np.float32]:
    """Distance to the lung's surface, inside a lung; in mm of the atlas."""
    where = scene.atlas_mm(box) / (np.array(scene.tissue.spacing_mm, np.float32) * 2).reshape(3, 1, 1, 1)
    return np.asarray(ndimage.map_coordinates(scene.guides.wall_mm, where, order=1, mode="nearest"), np.float32)


def height(scene: Scene, box: Box, side: str | None = None) -> NDArray[np.float32]:
    """0 at the base of the lungs (or of one), 1 at the apex."""
    corners = [scene.guides.lungs_mm[side]] if side else list(scene.guides.lungs_mm.values())
    low, high = min(corner[0][0] for corner in corners), max(corner[1][0] for corner in corners)
    return np.asarray((scene.atlas_mm(box)[0] - low) / (high - low), np.float32)


def edge_mm(voxel: float) -> float:
    """Over how many mm an edge goes from nothing to all, in voxels of this size."""
    return float(np.sqrt(voxel**2 + SHARPEST_MM**2))


def coverage(distance: Array, thickness: Array | float, voxel: float) -> NDArray[np.float32]:
    """The part of a voxel that a sheet of ``thickness`` covers, at ``distance`` from its middle."""
    edge = edge_mm(voxel)
    most = np.minimum(1.0, np.asarray(thickness) / edge)
    return np.asarray(np.clip((np.asarray(thickness) / 2 - np.abs(distance)) / edge + 0.5, 0, most), np.float32)


def densify(scene: Scene, box: Box, amount: Array, hu: float) -> None:
    """Add ``hu`` to aerated lung by ``amount`` (0 ... 1); vessels and whatever is dense stay, so they remain visible."""
    part = scene.hu[box]
    part += (amount * hu * ramp(-part, 100.0, 650.0)).astype(np.float32)


def box_around(scene: Scene, centre: Array, reach_mm: float) -> Box | None:
    """The part of the volume within ``reach_mm`` of a voxel position along each axis; None if the position is outside."""
    if (np.rint(centre) < 0).any() or (np.rint(centre) >= np.array(scene.shape)).any():
        return None
    reach = np.ceil(reach_mm / np.array(scene.spacing_mm)).astype(int) + 1
    low, high = np.floor(centre).astype(int) - reach, np.ceil(centre).astype(int) + reach + 1
    sides = [slice(max(0, int(a)), min(n, int(b))) for a, b, n in zip(low, high, scene.shape, strict=True)]
    return sides[0], sides[1], sides[2]


def offsets(scene: Scene, box: Box, centre: Array) -> NDArray[np.float32]:
    """(3, ...) mm from a voxel position."""
    axes = [
        ((np.arange(part.start, part.stop) - c) * step).astype(np.float32)
        for part, c, step in zip(box, centre, scene.spacing_mm, strict=True)
    ]
    return np.stack(np.meshgrid(*axes, indexing="ij"))


@dataclass(frozen=True)
class Plate:
    """A curved sheet: ``normal`` and ``along`` are (3,) directions (D, H, W), made orthogonal; lengths in mm."""

    normal: tuple[float, ...]
    along: tuple[float, ...]
    half_length: float
    half_width: float
    thickness: float
    bend: float = 0.0
    """mm that the ends lie off the middle's plane."""
    wave: float = 0.0
    """Amplitude of undulations."""
    phase: float = 0.0


def plate(
    scene: Scene, centre: Array, shape: Plate, *, taper: Callable[[Scene, Box], Array] | None = None
) -> tuple[Box, NDArray[np.float32]] | None:
    """Box and coverage (0 ... 1) of a plate around a voxel position; None if that is outside the volume.

    ``taper`` multiplies the thickness, voxel by voxel.
    """
    box = box_around(scene, centre, max(shape.half_length, shape.half_width) + abs(shape.bend) + 3)
    if box is None:
        return None
    offset = offsets(scene, box, centre)
    normal = _unit(np.array(shape.normal))
    along = np.array(shape.along) - normal * float((np.array(shape.along) * normal).sum())
    along = _unit(along)
    across = np.array(
        [
            normal[1] * along[2] - normal[2] * along[1],
            normal[2] * along[0] - normal[0] * along[2],
            normal[0] * along[1] - normal[1] * along[0],
        ]
    )
    u, v, d = (_dot(axis, offset) for axis in (along, across, normal))
    a, b = u / shape.half_length, v / shape.half_width
    d = d - shape.bend * a**2
    if shape.wave:
        d = d + shape.wave * (
            np.sin(u / 4.3 + shape.phase) + 0.6 * np.sin(v / 3.1 + 2 * shape.phase) + 0.5 * np.sin((u + v) / 6.7)
        )
        b = b * (1 + 0.25 * np.sin(u / 5.0 + shape.phase))
    far = np.sqrt(a**2 + b**2)
    thick = shape.thickness * (1 - 0.45 * np.minimum(far, 1))
    if taper is not None:
        thick = thick * taper(scene, box)
    voxel = float(sum(abs(n) * step for n, step in zip(normal, scene.spacing_mm, strict=True)) / np.abs(normal).sum())
    return box, coverage(d, thick, voxel) * ramp(1 - far, 0.0, 0.15).astype(np.float32)


def longest_mm(mask: NDArray[np.bool_], scene: Scene) -> int:
    """The longest side of the box around ``mask`` (which is not empty)."""
    box = box_of(mask)
    assert box is not None
    return round(max(float(part.stop - part.start) * step for part, step in zip(box, scene.spacing_mm, strict=True)))


def axial_mm(mask: NDArray[np.bool_], scene: Scene) -> int:
    """The largest width in an axial slice, along H or W."""
    return round(float(max(mask.any(2).sum(1).max() * scene.spacing_mm[1], mask.any(1).sum(1).max() * scene.spacing_mm[2])))


def lobules(scene: Scene, box: Box) -> tuple[NDArray[np.int16], NDArray[np.int16], NDArray[np.float32]]:
    """Of each voxel: its secondary lobule, the one beside it, and the distance (mm of the atlas) to the septum between them.

    Lobules are -1 outside the lungs. Numbers are below ``len(load_lobules().points)``.
    """
    cells = load_lobules()
    place = scene.atlas_mm(box)
    # Septa are not flat: the cells are looked up a little aside, here this way, there that.
    aside = [1.3 * np.sin(place[(axis + 1) % 3] / 4.7 + axis) for axis in range(3)]
    for axis in range(3):
        place[axis] += aside[axis]
    steps = np.array(scene.tissue.spacing_mm, np.float32).reshape(3, 1, 1, 1)
    where = np.rint(place / steps).astype(np.int32)
    for axis, count in zip(where, cells.first.shape, strict=True):
        np.clip(axis, 0, count - 1, out=axis)
    flat = np.ravel_multi_index(tuple(where), cells.first.shape)
    first, second = cells.first.ravel()[flat], cells.second.ravel()[flat]
    squares, apart = np.zeros(first.shape, np.float32), np.zeros(first.shape, np.float32)
    for axis in range(3):
        one, two = cells.points[first, axis], cells.points[second, axis]
        squares += (place[axis] - two) ** 2 - (place[axis] - one) ** 2
        apart += (two - one) ** 2
    # The cells were found on the atlas's grid: between its voxels the two may have changed places.
    swapped = squares < 0
    first, second = np.where(swapped, second, first), np.where(swapped, first, second)
    return first, second, np.asarray(np.abs(squares) / (2 * np.sqrt(apart) + 1e-6), np.float32)


def _unit(vector: Array) -> Array:
    return np.asarray(vector / np.sqrt((vector**2).sum()))


def _dot(axis: Array, offset: NDArray[np.float32]) -> NDArray[np.float32]:
    # Not a matrix product: a BLAS gives other last bits on another processor.
    return np.asarray(axis[0] * offset[0] + axis[1] * offset[1] + axis[2] * offset[2], np.float32)
