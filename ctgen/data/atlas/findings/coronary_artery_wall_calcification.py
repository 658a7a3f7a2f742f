"""Calcium along the coronary arteries: short dense beads in the grooves of the heart."""

from __future__ import annotations

import numpy as np

from ctgen.data.atlas.findings.scene import SIZE_OF, Drawing, Facts, Others, Scene
from ctgen.data.atlas.findings.vessels import brighten, coronaries, places, strand

NAME = "coronary_artery_wall_calcification"
VESSELS = ("LAD", "LCX", "RCA")
_COUNT = {"mild": (1, 3), "moderate": (2, 5), "marked": (5, 9)}
"""Plaques of a vessel."""
_LONG_MM = {"mild": (2.5, 5.0), "moderate": (4.0, 10.0), "marked": (6.0, 20.0)}
_RADIUS_MM = {"mild": (1.2, 1.6), "moderate": (1.3, 1.9), "marked": (1.5, 2.2)}
_HU = (600.0, 1000.0)
_PROXIMAL = {"LAD": 0.8, "LCX": 0.75, "RCA": 0.95}
"""How far along the course plaques are found."""


def draw(rng: np.random.Generator, others: Others, drawing: Drawing) -> Facts:
    """One to three vessels, the left anterior descending most often."""
    severity = str(rng.choice(["mild", "moderate", "marked"], p=[0.45, 0.35, 0.2]))
    count = {"mild": int(rng.choice([1, 2], p=[0.65, 0.35])), "moderate": int(rng.choice([2, 3])), "marked": 3}[severity]
    picked = rng.choice(3, size=count, replace=False, p=[0.6, 0.18, 0.22])
    vessels = [VESSELS[int(place)] for place in sorted(picked)]
    return {"name": NAME, "severity": severity, "vessels": vessels, "shape_seed": int(rng.integers(2**31))}


def paint(scene: Scene, facts: Facts) -> Facts | None:
    """Returns the vessels in the field of view with the number of their plaques, as ``parts``."""
    mask = np.zeros(scene.shape, bool)
    severity, parts = facts["severity"], []
    for vessel in facts["vessels"]:
        rng = np.random.default_rng((facts["shape_seed"], VESSELS.index(vessel)))
        course = coronaries()[vessel]
        where, shown = places(scene, course)
        steps = np.sqrt((((where[1:] - where[:-1]) * np.array(scene.spacing_mm)) ** 2).sum(1))
        way = np.concatenate([[0.0], np.cumsum(steps)])
        painted = 0
        for _ in range(int(rng.integers(*_COUNT[severity]))):
            # Most plaques are near the origin; the first millimetres lie in the aorta's wall.
            start = 4 + (_PROXIMAL[vessel] * way[-1] - 4) * rng.beta(1.3, 1.9)
            long, radius, hu = rng.uniform(*_LONG_MM[severity]), rng.uniform(*_RADIUS_MM[severity]), rng.uniform(*_HU)
            aside = rng.uniform(-0.7, 0.7, 3) / np.array(scene.spacing_mm)
            at = np.linspace(start, min(start + long, way[-1]), max(2, int(long / 2) + 1))
            piece = np.stack([np.interp(at, way, axis) for axis in where.T], 1) + aside
            found = strand(scene, piece, shown[np.minimum(np.searchsorted(way, at), len(way) - 1)], radius)
            if found is None:
                continue
            box, cover = found
            inside = cover > 0.12
            if inside.any():
                brighten(scene, box, cover, hu)
                mask[box] |= inside
                painted += 1
        if painted:
            parts.append({"vessel": vessel, "number": painted})
    if not parts:
        return None
    scene.masks[NAME] = mask
    return {**facts, "vessels": [part["vessel"] for part in parts], "parts": parts}


def rows(facts: Facts) -> list[Facts]:
    share = {"size": SIZE_OF[facts["severity"]], "severity": facts["severity"]}
    return [{"name": NAME, **share, **part} for part in facts["parts"]]
