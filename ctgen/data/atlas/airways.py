"""Bronchi and secondary lobules that the atlas is too coarse to show: grown once, the same in every process.

The tree divides the lobe's volume again and again, each branch towards the middle of what it supplies (as in Tawhai et al.,
J Appl Physiol 2004). Lobules are the cells around points of a jittered grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ctgen.data.atlas.atlas import load_atlas
from ctgen.data.atlas.tissue import LOBES, load_guides, widen

Array = NDArray[Any]
LOBULE_MM = 14.0
_SEED = 20_040
_RADIUS_MM = 3.4
"""Of the lumen of a lobar bronchus; each division takes a fifth."""


@dataclass(frozen=True)
class Bronchi:
    """Straight pieces, in mm (D, H, W) from the widened atlas's first voxel; a piece comes after its parent."""

    start: NDArray[np.float64]
    """(N, 3)"""
    end: NDArray[np.float64]
    radius_mm: NDArray[np.float64]
    """(N,) of a healthy lumen."""
    generation: NDArray[np.int64]
    """(N,) divisions from the lobar bronchus, which is 0."""
    lobe: tuple[str, ...]
    parent: NDArray[np.int64]
    """(N,) row of the piece that it leaves; -1 for lobar bronchi."""


@lru_cache(maxsize=1)
def load_bronchi() -> Bronchi:
    """About 500 pieces down to 7 mm from the pleura; 0.2 s, once per process."""
    guides, atlas = load_guides(), load_atlas()
    _, labels = widen(atlas.hu, atlas.labels)
    windpipe = np.argwhere(np.isin(labels, atlas.ids("trachea")))
    # The label ends with the main bronchi; its lowest 10 mm hold their outer ends.
    low = windpipe[windpipe[:, 0] <= windpipe[:, 0].min() + 4] * np.array(atlas.volume.spacing_mm)
    ends = {"right": low[low[:, 2].argmin()], "left": low[low[:, 2].argmax()]}
    rows: list[tuple[Array, Array, float, int, str, int]] = []
    rng = np.random.default_rng(_SEED)
    for lobe in LOBES:
        points = guides.lobe_points[lobe][:, :3].astype(float)
        points = points[rng.permutation(len(points))[:900]]
        _grow(rows, ends["left" if lobe.endswith("left") else "right"], points, 0, lobe, -1)
    return Bronchi(
        np.array([row[0] for row in rows]).round(2),
        np.array([row[1] for row in rows]).round(2),
        np.array([row[2] for row in rows]),
        np.array([row[3] for row in rows]),
        tuple(row[4] for row in rows),
        np.array([row[5] for row in rows]),
    )


def _grow(rows: list[Any], start: Array, points: Array, generation: int, lobe: str, parent: int) -> None:
    """Add the branch from ``start`` into ``points``, and those that leave its end."""
    way = points.mean(0) - start
    end = start + (0.62 if generation == 0 else 0.42) * way
    if len(points) < 14 or generation > 7 or float(np.sqrt((way**2).sum())) < 8:
        return
    rows.append((start, end, _RADIUS_MM * 0.8**generation, generation, lobe, parent))
    here = len(rows) - 1
    # Split across the axis along which the points spread most, of those that the branch does not run along.
    along = np.abs(way) / (np.abs(way).sum() + 1e-9)
    axis = int((points.std(0) * (1 - 0.8 * along)).argmax())
    order = np.argsort(points[:, axis], kind="stable")
    middle = int(len(points) * (0.42 if (here + axis) % 2 else 0.58))
    for part in (order[:middle], order[middle:]):
        _grow(rows, end, points[part], generation + 1, lobe, here)


@dataclass(frozen=True)
class Lobules:
    """``points`` (N, 3) mm are the cells' middles; ``first`` and ``second`` (D, H, W) int16 the nearest and the next cell of
    each voxel of the widened atlas, -1 outside the lungs."""

    points: NDArray[np.float32]
    first: NDArray[np.int16]
    second: NDArray[np.int16]


@lru_cache(maxsize=1)
def load_lobules() -> Lobules:
    """About 0.6 s and 75 MB, once per process, and only if a finding needs it."""
    atlas = load_atlas()
    _, labels = widen(atlas.hu, atlas.labels)
    spacing = np.array(atlas.volume.spacing_mm)
    lungs = np.argwhere(np.isin(labels, atlas.ids("lung_")))
    where = lungs * spacing
    axes = [np.arange(where[:, axis].min() - 10, where[:, axis].max() + 10, LOBULE_MM) for axis in range(3)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    grid = (grid + np.random.default_rng(_SEED + 1).uniform(-0.38, 0.38, grid.shape) * LOBULE_MM).round(2)
    _, nearest = cKDTree(grid).query(where, k=2)
    first, second = np.full(labels.shape, -1, np.int16), np.full(labels.shape, -1, np.int16)
    flat = np.ravel_multi_index(tuple(lungs.T), labels.shape)
    first.ravel()[flat], second.ravel()[flat] = nearest[:, 0], nearest[:, 1]
    return Lobules(grid.astype(np.float32), first, second)
