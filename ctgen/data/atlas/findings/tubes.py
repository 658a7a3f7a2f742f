"""Bronchi of a case: pieces of the grown tree as tubes with walls."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctgen.data.atlas.airways import load_bronchi
from ctgen.data.atlas.findings.scene import Box, Scene
from ctgen.data.atlas.findings.shapes import edge_mm, open_lung

Array = NDArray[Any]
WALL_HU, LUMEN_HU = 20.0, -975.0


class Tubes:
    """Collects tubes, then paints them at once: walls first, so that air runs on where two meet."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self._pieces: list[tuple[Box, NDArray[np.float32], NDArray[np.float32]]] = []
        bronchi = load_bronchi()
        self._start, self._end = scene.voxels_of(bronchi.start), scene.voxels_of(bronchi.end)

    def add(self, piece: int, radius_mm: tuple[float, float], wall_mm: float, lobes: tuple[str, ...] = ()) -> bool:
        """One piece of ``load_bronchi``, the lumen's radius at both ends, inside ``lobes``; False if it does not show."""
        return self._tube(self._start[piece], self._end[piece], radius_mm, wall_mm, lobes)

    def beside(self, piece: int, shift_mm: float, radius_mm: float, turn: float, lobes: tuple[str, ...] = ()) -> None:
        """The artery that runs along a bronchus, ``shift_mm`` from its middle: a solid tube."""
        spacing = np.array(self.scene.spacing_mm)
        way = (self._end[piece] - self._start[piece]) * spacing
        first = np.cross(way, [np.cos(turn), np.sin(turn), 0.3])
        shift = shift_mm * first / (np.sqrt((first**2).sum()) + 1e-9) / spacing
        self._tube(self._start[piece] + shift, self._end[piece] + shift, (0.0, 0.0), radius_mm, lobes)

    def _tube(self, start: Array, end: Array, radius_mm: tuple[float, float], wall: float, lobes: tuple[str, ...]) -> bool:
        scene, spacing = self.scene, np.array(self.scene.spacing_mm)
        reach = (max(radius_mm) + wall) / spacing + 1
        low = np.maximum(np.floor(np.minimum(start, end) - reach), 0).astype(int)
        high = np.minimum(np.ceil(np.maximum(start, end) + reach) + 1, scene.shape).astype(int)
        if (low >= high).any():
            return False
        box = (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))
        axes = [(np.arange(a, b) - s) * step for a, b, s, step in zip(low, high, start, spacing, strict=True)]
        offset = np.meshgrid(*axes, indexing="ij")
        way = (end - start) * spacing
        length2 = float((way**2).sum()) + 1e-9
        part = np.clip((offset[0] * way[0] + offset[1] * way[1] + offset[2] * way[2]) / length2, 0, 1)
        far = np.sqrt(sum((o - part * w) ** 2 for o, w in zip(offset, way, strict=True)))
        edge = edge_mm(float(spacing.mean()))
        radius = radius_mm[0] + (radius_mm[1] - radius_mm[0]) * part
        inside = np.clip((radius - far) / edge + 0.5, 0, np.minimum(1.0, 2 * radius / edge))
        # A tube thinner than a voxel covers its share of it.
        whole = np.clip((radius + wall - far) / edge + 0.5, 0, np.minimum(1.0, 2 * (radius + wall) / edge))
        lung = open_lung(scene, box, *lobes)
        self._pieces.append(
            (box, (np.maximum(whole - inside, 0) * lung).astype(np.float32), (inside * lung).astype(np.float32))
        )
        return bool((whole * lung).any())

    def paint(self, wall_hu: float = WALL_HU) -> NDArray[np.bool_]:
        """Into ``scene.hu``; returns the mask of walls and lumens."""
        mask = np.zeros(self.scene.shape, bool)
        for box, wall, _ in self._pieces:
            part = self.scene.hu[box]
            part += wall * np.maximum(wall_hu - part, 0)
            mask[box] |= wall > 0.15
        for box, _, lumen in self._pieces:
            part = self.scene.hu[box]
            part += lumen * np.minimum(LUMEN_HU - part, 0)
            mask[box] |= lumen > 0.5
        return mask
