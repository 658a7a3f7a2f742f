"""Courses along vessels, in mm of the widened atlas, and what is drawn along them: plaques, wires, stents.

The atlas has labels of the aorta and its branches, and none of coronary arteries: those are curves through points of its
grooves between atria and ventricles. A course goes with the heart when that is deformed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ctgen.data.atlas.atlas import load_atlas
from ctgen.data.atlas.findings.scene import Box, Scene
from ctgen.data.atlas.findings.shapes import edge_mm
from ctgen.data.atlas.tissue import widen

Array = NDArray[Any]
_LEFT_MAIN = ((187.5, 140.0, 249.0), (189.5, 141.0, 258.0))
_CORONARIES: dict[str, tuple[tuple[float, float, float], ...]] = {
    "LAD": (
        *_LEFT_MAIN, (190, 139, 268), (189, 133, 279), (187, 124, 286), (183, 111, 286), (178, 103, 288), (172, 98, 288),
        (166, 95, 289), (160, 94, 291), (154, 95, 297), (148, 98, 305), (142, 102, 314), (137, 107, 318),
    ),
    "LCX": (
        *_LEFT_MAIN, (188.5, 144, 264), (186, 149, 268), (182, 157, 271), (177.5, 164, 271), (172.5, 169, 270),
        (167, 173, 272), (162, 176, 271), (157, 178, 267), (152, 178, 261),
    ),
    "RCA": (
        (174, 112, 236), (172, 106, 235), (168, 106, 231), (163, 105, 231), (158, 102, 229), (152, 99, 224), (146, 97, 220),
        (140, 99, 219), (134, 102, 224), (130, 107, 232), (127.5, 115, 238), (126.5, 126, 241), (127, 138, 244),
        (129, 147, 249), (132, 156, 256),
    ),
}  # fmt: skip
_BRANCHES = ("brachiocephalic_trunk", "common_carotid_artery_left", "subclavian_artery_left")


def curve(points: Array, step_mm: float = 1.5) -> NDArray[np.float64]:
    """(N, 3) about every ``step_mm`` along a smooth line (Catmull-Rom) through ``points`` (K >= 2, 3)."""
    points = np.asarray(points, float)
    ends = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    out = []
    for a, b, c, d in zip(ends, ends[1:], ends[2:], ends[3:], strict=False):
        count = max(1, int(np.sqrt(((c - b) ** 2).sum()) / step_mm))
        t = (np.arange(count) / count)[:, None]
        out.append(0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3))
    return np.concatenate([*out, points[-1:]])


@lru_cache(maxsize=1)
def coronaries() -> dict[str, NDArray[np.float64]]:
    """ "LAD", "LCX" and "RCA" from the ostium on; the first two share the left main stem."""
    return {name: curve(np.array(points)) for name, points in _CORONARIES.items()}


@dataclass(frozen=True)
class ArterialWall:
    """``distance_mm`` (D, H, W): to the wall of aorta and branches, negative in the lumen, on a part of the widened atlas
    that starts at voxel ``first``. ``points``: segment -> (N, 3) points of the wall in mm."""

    distance_mm: NDArray[np.float32]
    first: NDArray[np.int64]
    points: dict[str, NDArray[np.float32]]

    def at(self, scene: Scene, box: Box) -> NDArray[np.float32]:
        """Of each voxel of the case."""
        where = scene.coordinates[(slice(None), *box)] - self.first.reshape(3, 1, 1, 1).astype(np.float32)
        return np.asarray(ndimage.map_coordinates(self.distance_mm, where, order=1, mode="nearest"), np.float32)


@lru_cache(maxsize=1)
def arterial_wall() -> ArterialWall:
    """About 0.5 s, once per process. Segments: "arch", "descending", "branches"."""
    atlas = load_atlas()
    _, labels = widen(atlas.hu, atlas.labels)
    spacing = np.array(atlas.volume.spacing_mm)
    aorta, branches = np.isin(labels, atlas.ids("aorta")), np.isin(labels, atlas.ids(*_BRANCHES))
    vessel = aorta | branches
    found = np.argwhere(vessel)
    first, last = np.maximum(found.min(0) - 6, 0), found.max(0) + 7
    box = tuple(slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
    inside = vessel[box]
    outer = ndimage.distance_transform_edt(~inside, sampling=spacing)
    inner = ndimage.distance_transform_edt(inside, sampling=spacing)
    # The label's steps are half a voxel high: smoothed, the wall lies between its voxels.
    signed = ndimage.gaussian_filter(outer - inner, 0.8).astype(np.float32)
    wall = np.argwhere(np.abs(signed) < 0.8) + first
    where = wall * spacing
    of_aorta = ndimage.binary_dilation(aorta[box], iterations=1)[tuple((wall - first).T)]
    top = float(np.argwhere(aorta)[:, 0].max() * spacing[0])
    middle = float(np.argwhere(aorta)[:, 1].mean() * spacing[1])
    arch = of_aorta & (where[:, 0] > top - 18)
    descending = of_aorta & (where[:, 0] < top - 24) & (where[:, 0] > 60) & ((where[:, 1] > middle + 6) | (where[:, 0] < 140))
    above = ~of_aorta & (where[:, 0] > top - 6) & (where[:, 0] < top + 28)
    names = {"arch": arch, "descending": descending, "branches": above}
    return ArterialWall(signed, first, {name: where[part].astype(np.float32) for name, part in names.items()})


def places(scene: Scene, atlas_mm: Array) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """(N, 3) voxel positions of atlas points, and (N,) whether the case really shows the point there."""
    where = scene.voxels_of(atlas_mm)
    spacing = np.array(scene.tissue.spacing_mm)
    inside = np.asarray(((where > -0.5) & (where < np.array(scene.shape) - 0.5)).all(1))
    near = np.where(inside[:, None], where, 0)
    shown = np.stack([ndimage.map_coordinates(axis, near.T, order=1, mode="nearest") for axis in scene.coordinates], 1)
    miss = np.sqrt(((shown * spacing - atlas_mm) ** 2).sum(1))
    return where, inside & (miss < 4.0)


def strand(
    scene: Scene, where: Array, shown: Array, radius_mm: float, hollow_mm: float = 0.0
) -> tuple[Box, NDArray[np.float32]] | None:
    """Box and coverage (0 ... 1) of a round wire through voxel positions (N, 3), or of a tube if its lumen has a radius.

    Thinner than a voxel it covers its share of it. None if no piece has both its ends ``shown``.
    """
    pieces = [place for place in range(len(where) - 1) if shown[place] and shown[place + 1]]
    if not pieces:
        return None
    spacing, shape = np.array(scene.spacing_mm), np.array(scene.shape)
    edge = edge_mm(float(spacing.mean()))
    reach = (radius_mm + edge / 2) / spacing + 1
    used = where[sorted({*pieces, *(place + 1 for place in pieces)})]
    first = np.maximum(np.floor(used.min(0) - reach), 0).astype(int)
    last = np.minimum(np.ceil(used.max(0) + reach) + 1, shape).astype(int)
    far = np.full(last - first, 1e3, np.float32)
    for place in pieces:
        start, end = where[place], where[place + 1]
        low = np.maximum(np.floor(np.minimum(start, end) - reach), first).astype(int)
        high = np.minimum(np.ceil(np.maximum(start, end) + reach) + 1, last).astype(int)
        axes = [(np.arange(a, b) - s) * step for a, b, s, step in zip(low, high, start, spacing, strict=True)]
        offset = np.meshgrid(*axes, indexing="ij", sparse=True)
        way = (end - start) * spacing
        along = offset[0] * way[0] + offset[1] * way[1] + offset[2] * way[2]
        along = np.clip(along / (float((way**2).sum()) + 1e-9), 0, 1)
        gap = np.sqrt(sum((o - along * w) ** 2 for o, w in zip(offset, way, strict=True)))
        part = far[tuple(slice(a, b) for a, b in zip(low - first, high - first, strict=True))]
        np.minimum(part, gap, out=part)
    whole = np.clip((radius_mm - far) / edge + 0.5, 0, min(1.0, 2 * radius_mm / edge))
    if hollow_mm > 0:
        whole -= 0.8 * np.clip((hollow_mm - far) / edge + 0.5, 0, min(1.0, 2 * hollow_mm / edge))
    box = (slice(first[0], last[0]), slice(first[1], last[1]), slice(first[2], last[2]))
    return box, np.maximum(whole, 0).astype(np.float32)


def brighten(scene: Scene, box: Box, amount: NDArray[np.float32], hu: float) -> None:
    """Blend towards ``hu`` by ``amount`` (0 ... 1); what is denser stays."""
    part = scene.hu[box]
    part += amount * np.maximum(hu - part, 0)
