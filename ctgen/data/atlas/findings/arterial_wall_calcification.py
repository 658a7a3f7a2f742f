"""Calcified plaques in the wall of the aorta and of the arteries that leave its arch."""

from __future__ import annotations

import numpy as np

from ctgen.data.atlas.findings.scene import SIZE_OF, Drawing, Facts, Others, Scene, ramp
from ctgen.data.atlas.findings.shapes import box_around, coverage, offsets
from ctgen.data.atlas.findings.vessels import arterial_wall, brighten, places

NAME = "arterial_wall_calcification"
SEGMENTS = ("arch", "descending", "branches")
_COUNT = {"mild": (1, 4), "moderate": (4, 7), "marked": (9, 14)}
"""Plaques of a segment; branches have half of them."""
_LONG_MM = {"mild": (3.5, 6.0), "moderate": (4.0, 8.5), "marked": (5.0, 13.0)}
"""Half the length of a plaque."""
_THICK_MM = {"mild": (2.4, 3.3), "moderate": (2.6, 3.6), "marked": (2.8, 4.5)}
_HU = (650.0, 1000.0)
"""Of calcium that fills its voxel; plaques are thinner than that."""


def draw(rng: np.random.Generator, others: Others, drawing: Drawing) -> Facts:
    """The arch most often; branches with other segments, or alone in few."""
    severity = str(rng.choice(["mild", "moderate", "marked"], p=[0.45, 0.35, 0.2]))
    count = {"mild": int(rng.choice([1, 2], p=[0.55, 0.45])), "moderate": int(rng.choice([2, 3])), "marked": 3}[severity]
    picked = rng.choice(3, size=count, replace=False, p=[0.5, 0.35, 0.15])
    segments = [SEGMENTS[int(place)] for place in sorted(picked)]
    return {"name": NAME, "severity": severity, "segments": segments, "shape_seed": int(rng.integers(2**31))}


def paint(scene: Scene, facts: Facts) -> Facts | None:
    """Returns the segments in the field of view with the number of their plaques, as ``parts``."""
    wall, severity = arterial_wall(), facts["severity"]
    spacing = float(np.mean(scene.spacing_mm))
    mask = np.zeros(scene.shape, bool)
    parts = []
    for segment in facts["segments"]:
        rng = np.random.default_rng((facts["shape_seed"], SEGMENTS.index(segment)))
        number = int(rng.integers(*_COUNT[severity]))
        points = wall.points[segment]
        anchors = points[rng.integers(len(points), size=max(1, number // 2) if segment == "branches" else number)]
        where, shown = places(scene, anchors)
        painted = 0
        for centre, there in zip(where, shown, strict=True):
            long, thick, hu = rng.uniform(*_LONG_MM[severity]), rng.uniform(*_THICK_MM[severity]), rng.uniform(*_HU)
            wide, way, phase = long * rng.uniform(0.45, 0.9), rng.normal(size=3), rng.uniform(0, 6.28)
            if segment == "branches":
                long, wide, thick = 0.6 * long, 0.6 * wide, 0.8 * thick
            box = box_around(scene, centre, long + 4) if there else None
            if box is None:
                continue
            way /= np.sqrt((way**2).sum())
            offset = offsets(scene, box, centre)
            along = offset[0] * way[0] + offset[1] * way[1] + offset[2] * way[2]
            across2 = np.maximum((offset**2).sum(0) - along**2, 0)
            # Outlines of plaques are ragged, and so is their depth.
            ragged = 1 + 0.25 * np.sin(along / 2.3 + phase) + 0.15 * np.sin(offset[0] / 1.9 + 2 * phase)
            far = np.sqrt((along / long) ** 2 + across2 / wide**2) / ragged
            depth = thick * (1 - 0.4 * np.minimum(far, 1)) * ragged
            cover = coverage(wall.at(scene, box) + 0.3 * thick, depth, spacing) * ramp(1 - far, 0.0, 0.3)
            inside = cover > 0.1
            if inside.any():
                brighten(scene, box, cover.astype(np.float32), hu)
                mask[box] |= inside
                painted += 1
        if painted:
            parts.append({"segment": segment, "number": painted})
    if not parts:
        return None
    scene.masks[NAME] = mask
    return {**facts, "segments": [part["segment"] for part in parts], "parts": parts}


def rows(facts: Facts) -> list[Facts]:
    share = {"size": SIZE_OF[facts["severity"]], "severity": facts["severity"]}
    return [{"name": NAME, **share, **part} for part in facts["parts"]]
