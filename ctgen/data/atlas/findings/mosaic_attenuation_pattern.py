"""Mosaic attenuation: groups of secondary lobules darker than the lung around them, with sharp, geographic borders."""

from __future__ import annotations

import numpy as np

from ctgen.data.atlas.airways import load_lobules
from ctgen.data.atlas.findings.scene import SIZE_OF, Drawing, Facts, Others, Scene, box_of, ramp
from ctgen.data.atlas.findings.shapes import edge_mm, lobules, open_lung

NAME = "mosaic_attenuation_pattern"
_DARK = {"mild": 0.22, "moderate": 0.36, "severe": 0.5}
"""Part of the lobules."""
_DARKER_HU = {"mild": 50.0, "moderate": 65.0, "severe": 80.0}
_BRIGHTER_HU = {"mild": 60.0, "moderate": 85.0, "severe": 110.0}


def draw(rng: np.random.Generator, others: Others, drawing: Drawing) -> Facts:
    severity = str(rng.choice(["mild", "moderate", "severe"], p=[0.4, 0.4, 0.2]))
    zone = str(rng.choice(["lower", "diffuse"], p=[0.4, 0.6]))
    return {"name": NAME, "severity": severity, "zone": zone, "side": "bilateral"}


def paint(scene: Scene, facts: Facts) -> Facts | None:
    """The mask is of the dark lobules; the others become brighter. ``percent`` of the lungs is dark."""
    box = box_of(scene.of_lungs)
    if box is None:
        return None
    dark, edge = _pattern(scene, facts)
    first, second, septum = lobules(scene, box)
    lung = open_lung(scene, box) * (first >= 0)
    # Half way between two lobules at the septum: the voxel that holds it is half of each.
    near = 0.5 * (1 - ramp(septum, 0.0, 0.7 * edge_mm(float(np.mean(scene.spacing_mm)))))
    amount = dark[first] * (1 - near) + dark[second] * near
    weight = edge[first]
    part = scene.hu[box]
    aerated = ramp(-part, 450.0, 700.0) * lung * weight
    change = (1 - amount) * _BRIGHTER_HU[facts["severity"]] - amount * _DARKER_HU[facts["severity"]]
    floor = np.minimum(part, -985.0)
    np.copyto(part, np.maximum(part + (change * aerated).astype(np.float32), floor))
    mask = np.zeros(scene.shape, bool)
    mask[box] = (amount * aerated > 0.6) & (weight > 0.6)
    if not mask.any():
        return None
    scene.masks[NAME] = mask
    return {**facts, "percent": round(100 * float(mask.sum()) / float(scene.of_lungs.sum()), 1)}


def _pattern(scene: Scene, facts: Facts) -> tuple[np.ndarray, np.ndarray]:
    """Of each lobule: dark (0 or 1), and how far it takes part (0 ... 1). Neighbours tend to be alike."""
    rng = scene.rng(NAME)
    points = load_lobules().points
    centres = rng.uniform(points.min(0), points.max(0), (260, 3)).astype(np.float32)
    height = rng.standard_normal(len(centres)).astype(np.float32)
    own = rng.standard_normal(len(points)).astype(np.float32)
    from scipy.spatial import cKDTree

    _, near = cKDTree(centres).query(points, k=1)
    value = 0.85 * height[near] + 0.5 * own
    dark = (value > np.quantile(value, 1 - _DARK[facts["severity"]])).astype(np.float32)
    take = np.ones(len(points), np.float32)
    if facts["zone"] == "lower":
        low, high = scene.guides.lungs_mm["right"][:, 0]
        take = (1 - 0.85 * ramp((points[:, 0] - low) / (high - low), 0.4, 0.75)).astype(np.float32)
    return dark, take


def rows(facts: Facts) -> list[Facts]:
    keep = {key: facts[key] for key in ("side", "severity", "zone", "percent")}
    return [{"name": NAME, "size": SIZE_OF[facts["severity"]], **keep}]
