"""Pleural fluid that adhesions hold in place: a lens on the chest wall or in the major fissure, wherever gravity would draw it.

Each lens is fluid up to ``layer`` from a surface of the lung, at most in the middle and nothing from ``radius_mm`` on; the
effusion's own code presses lung away from it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ctgen.data.atlas.atlas import load_atlas
from ctgen.data.atlas.findings.scene import Facts
from ctgen.data.atlas.tissue import Guides, widen

Array = NDArray[Any]
PLACES = ("lateral wall", "posterior wall", "major fissure")
_SHARES = (0.45, 0.3, 0.25)
_STEP = 2


class Surface(NamedTuple):
    """At atlas points (3, ...): distance from the surface, mm of fluid on it, and the direction away from it (3, ...)."""

    depth: Array
    layer: Array
    direction: Array | None


def draw_lens(rng: np.random.Generator, depth_mm: float) -> Facts:
    """``place``; ``spot`` says where there, each from 0 to 1; ``depth_mm`` and ``radius_mm`` of the lens."""
    place = str(rng.choice(PLACES, p=_SHARES))
    spot = [round(float(rng.uniform()), 3) for _ in range(2)]
    depth = depth_mm * (0.7 if place == "major fissure" else 1.0)
    return {"place": place, "spot": spot, "depth_mm": round(depth, 1), "radius_mm": round(0.95 * depth + 15.0, 1)}


def middle(part: Facts, guides: Guides) -> NDArray[np.float64]:
    """The atlas point (mm) of the surface under the thickest place of the lens."""
    low, high = guides.lungs_mm[part["side"]]
    cell = np.array(load_atlas().volume.spacing_mm) * _STEP
    up, along = part["spot"]
    if part["place"] == "major fissure":
        field = load_fissure(part["side"])
        near = np.argwhere((np.abs(field) < 4.0) & (guides.wall_mm > 14.0))
        share = (near * cell - low) / (high - low)
        near = near[(share[:, 0] > 0.25) & (share[:, 0] < 0.7) & (share[:, 2] > 0.1) & (share[:, 2] < 0.9)]
        return np.asarray(near[int(up * (len(near) - 1))] * cell)
    axis = 1 if part["place"] == "posterior wall" else 2
    aim = (0.5, 0.35 + 0.3 * along) if axis == 1 else (0.35 + 0.3 * along, 0.5)
    start = np.rint((low + (high - low) * np.array([0.35 + 0.35 * up, *aim])) / cell).astype(int)
    line = guides.wall_mm[tuple(slice(None) if each == axis else start[each] for each in range(3))] > 0
    # The other lung is on the same line.
    first, last = (np.rint(bound[axis] / cell[axis]).astype(int) for bound in (low, high))
    found = first + np.flatnonzero(line[first : last + 1])
    start[axis] = found[0] if axis == 2 and part["side"] == "right" else found[-1]
    return np.asarray(start * cell)


def lens(points_mm: Array, part: Facts, guides: Guides, wall_mm: Array) -> Surface:
    """What the lens is at atlas points (3, N); ``wall_mm`` (N,) is their distance from the lung's surface."""
    centre = middle(part, guides)
    apart = ((points_mm - centre.reshape(3, *([1] * (points_mm.ndim - 1)))) ** 2).sum(0)
    depth, direction, most = wall_mm, None, part["depth_mm"]
    if part["place"] == "major fissure":
        where = points_mm / (np.array(load_atlas().volume.spacing_mm) * _STEP)[:, None]
        signed = ndimage.map_coordinates(load_fissure(part["side"]), where, order=1, mode="nearest")
        slopes = [ndimage.map_coordinates(axis, where, order=1, mode="nearest") for axis in _fissure_slope(part["side"])]
        depth, direction, most = np.abs(signed), np.stack(slopes) * np.sign(signed), part["depth_mm"] / 2
    aside = np.maximum(apart - depth**2, 0)
    return Surface(depth, most * np.clip(1 - aside / part["radius_mm"] ** 2, 0, 1) ** 0.75, direction)


@lru_cache(maxsize=2)
def load_fissure(side: str) -> NDArray[np.float32]:
    """Distance from the major fissure on every second voxel of the widened atlas: above it positive, below it negative. 1 s,
    once per process and side, and only if a case needs it."""
    atlas = load_atlas()
    _, labels = widen(atlas.hu, atlas.labels)
    labels = labels[::_STEP, ::_STEP, ::_STEP]
    spacing = np.array(atlas.volume.spacing_mm) * _STEP
    below = np.isin(labels, atlas.ids(f"lung_lower_lobe_{side}"))
    above = np.isin(labels, atlas.ids(f"lobe_{side}")) & ~below
    away = [ndimage.distance_transform_edt(~lobe, sampling=spacing) for lobe in (below, above)]
    return np.asarray(ndimage.gaussian_filter(away[0] - away[1], 4.0 / spacing), np.float32)


@lru_cache(maxsize=2)
def _fissure_slope(side: str) -> Array:
    spacing = np.array(load_atlas().volume.spacing_mm) * _STEP
    slopes: list[Array] = list(np.gradient(load_fissure(side), *spacing))
    return np.stack(slopes).astype(np.float32)
