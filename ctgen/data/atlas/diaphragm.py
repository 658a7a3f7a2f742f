"""The diaphragm of the atlas, and a flatter, lower one: what air that stays in the lungs does to it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ctgen.data.atlas.atlas import load_atlas
from ctgen.data.atlas.deform import upsample
from ctgen.data.atlas.findings.scene import Scene, ramp
from ctgen.data.atlas.tissue import load_guides, widen

Array = NDArray[Any]

UP_MM, DOWN_MM = 120.0, 62.0
"""How far above and below the diaphragm something moves: the lung stretches, the upper abdomen gives way."""
MOST_MM = 20.0
"""Lowering by more than this is not tested for folds."""
_CELL_MM = 12.0
_WALL_MM = 32.0
"""The diaphragm moves fully from this distance to the chest wall, where it is fixed."""
_RECESS_MM = 78.0
"""Height of the atlas below which the diaphragm lies against the wall."""


@dataclass(frozen=True)
class Diaphragm:
    """Maps (H, W) over the widened atlas, every ``step``-th voxel."""

    step: int
    height_mm: NDArray[np.float32]
    """Height of the diaphragm."""
    share: NDArray[np.float32]
    """0 where it is fixed, 1 at the domes."""
    domes_mm: NDArray[np.float64]
    """(2, 3) the point that moves most on the right and on the left, (D, H, W)."""


@lru_cache(maxsize=1)
def load_diaphragm() -> Diaphragm:
    """0.3 s, once per process, and only if a case needs it."""
    atlas, step = load_atlas(), 4
    _, labels = widen(atlas.hu, atlas.labels)
    labels = labels[:, ::step, ::step]
    rise, *across = (np.array(atlas.volume.spacing_mm) * (1, step, step)).tolist()
    organs = np.isin(labels, atlas.ids("liver", "spleen", "stomach", "colon"))
    lungs = np.isin(labels, atlas.ids("lung_"))
    top = np.where(organs.any(0), len(labels) - 1 - organs[::-1].argmax(0), 0) * rise
    base = np.where(lungs.any(0), lungs.argmax(0), 0) * rise
    dome = load_guides().dome_mm
    # In front of and beside the organs the lung alone tells; above the heart's flanks it ends on the heart.
    base = np.where(base <= dome + rise, base, 0)
    height = np.maximum(top, base)
    under = ndimage.binary_closing(height > 0, iterations=2)
    smooth = ndimage.gaussian_filter(np.where(height > 0, height, 0), 8.0 / across[0])
    smooth /= np.maximum(ndimage.gaussian_filter((height > 0).astype(float), 8.0 / across[0]), 1e-3)
    middle = round(float(load_guides().body_centre[2]) / across[1])
    share = np.zeros(height.shape)
    for side in (slice(0, middle), slice(middle, None)):
        over = np.where(top[:, side] > 0, smooth[:, side], 0)
        share[:, side] = np.clip((smooth[:, side] - _RECESS_MM) / (over.max() - _RECESS_MM), 0, 1) * under[:, side]
    edge = ndimage.distance_transform_edt(under, sampling=across)
    share = ndimage.gaussian_filter(share, 8.0 / across[0]) * ramp(edge, 0.0, _WALL_MM)
    share /= share.max()
    domes = []
    for first, part in ((0, share[:, :middle]), (middle, share[:, middle:])):
        row, column = np.unravel_index(int(part.argmax()), part.shape)
        domes.append([float(smooth[row, column + first]), row * across[0], (column + first) * across[1]])
    return Diaphragm(step, smooth.astype(np.float32), share.astype(np.float32), np.array(domes))


def lowering_mm(points_mm: Array, most_mm: float) -> NDArray[np.float32]:
    """How much higher the atlas is looked up at points (3, ...) of it, if the domes sink by about ``most_mm``.

    One-to-one up to ``MOST_MM``: points move along D alone, by an amount whose slope along D is under 1.
    """
    shape, tissue_mm = load_diaphragm(), np.array(load_atlas().volume.spacing_mm)
    guides = load_guides()
    where = points_mm[1:] / (tissue_mm[1:] * shape.step).reshape(2, *([1] * (points_mm.ndim - 1)))
    height = ndimage.map_coordinates(shape.height_mm, where, order=1, mode="nearest")
    share = ndimage.map_coordinates(shape.share, where, order=1, mode="nearest")
    cell = (tissue_mm * guides.step).reshape(3, *([1] * (points_mm.ndim - 1)))
    inside = ndimage.map_coordinates(guides.thorax_weight, points_mm / cell, order=1, mode="nearest")
    above = points_mm[0] - height + most_mm * share / 2
    fade = np.where(above > 0, 1 - ramp(above, 0.15 * UP_MM, UP_MM), 1 - ramp(-above, 0.15 * DOWN_MM, DOWN_MM))
    return np.asarray(most_mm * share * fade * ramp(inside, 0.4, 0.95), np.float32)


def flatten(scene: Scene, most_mm: float) -> None:
    """Lower the diaphragm of ``scene``, which has no ``hu`` yet: changes ``coordinates``; labels are to be looked up again."""
    steps = _steps(scene)
    positions = [np.arange(count) / step for count, step in zip(scene.shape, steps, strict=True)]
    knots = [np.arange(-1, int(place[-1]) + 3) * step for place, step in zip(positions, steps, strict=True)]
    picks = [np.clip(knot, 0, count - 1) for knot, count in zip(knots, scene.shape, strict=True)]
    millimetres = np.array(scene.tissue.spacing_mm).reshape(3, 1, 1, 1)
    coarse = scene.coordinates[:, picks[0][:, None, None], picks[1][:, None], picks[2]] * millimetres
    rise = upsample(lowering_mm(coarse, most_mm)[None], positions)[0]
    rise /= np.float32(scene.tissue.spacing_mm[0])
    scene.coordinates[0] += rise
    scene.lowered_mm = most_mm


def lowered_mm(scene: Scene) -> int:
    """How far the diaphragm sank in ``scene``, in mm of the case, at that of its domes that sank more; 0 if it shows none."""
    if not scene.lowered_mm:
        return 0
    sunk, steps = 0.0, _steps(scene)
    millimetres = np.array(scene.tissue.spacing_mm)
    reach = float(np.linalg.norm(np.array(steps) * scene.spacing_mm))
    grid = scene.coordinates[:, :: steps[0], :: steps[1], :: steps[2]] * millimetres.reshape(3, 1, 1, 1)
    for dome in load_diaphragm().domes_mm:
        far = ((grid - dome.reshape(3, 1, 1, 1)) ** 2).sum(0)
        nearest = np.unravel_index(int(far.argmin()), far.shape)
        if far[nearest] > reach**2:
            continue
        heights = scene.coordinates[0, :, nearest[1] * steps[1], nearest[2] * steps[2]] * millimetres[0]
        rise = float(lowering_mm(dome[:, None], scene.lowered_mm)[0])
        if heights[0] <= dome[0] and dome[0] + rise <= heights[-1]:
            now, before = np.interp([dome[0], dome[0] + rise], heights, np.arange(len(heights)) * scene.spacing_mm[0])
            sunk = max(sunk, float(before - now))
    return round(sunk)


def _steps(scene: Scene) -> list[int]:
    """Voxels per cell of a coarse grid."""
    return [max(1, round(_CELL_MM / mm)) for mm in scene.spacing_mm]
