"""Interlobular septal thickening: a net of polygons of 10 to 20 mm near the pleura, most at the base."""

from __future__ import annotations

import numpy as np

from ctgen.data.atlas.airways import load_lobules
from ctgen.data.atlas.findings.scene import SIZE_OF, Drawing, Facts, Others, Scene, box_of, ramp
from ctgen.data.atlas.findings.shapes import coverage, densify, height, lobules, open_lung, wall_mm

NAME = "interlobular_septal_thickening"
_THICK_MM = {"mild": 1.0, "moderate": 1.4, "severe": 1.9}
_DEPTH_MM = {"mild": 14.0, "moderate": 20.0, "severe": 30.0}
"""How deep below the pleura it fades."""
_SHARE = {"mild": 0.6, "moderate": 0.75, "severe": 0.9}
"""Of the septa that are thick."""
HU = 0.0


def draw(rng: np.random.Generator, others: Others, drawing: Drawing) -> Facts:
    severity = str(rng.choice(["mild", "moderate", "severe"], p=[0.4, 0.4, 0.2]))
    zone = str(rng.choice(["basal", "diffuse"], p=[0.65, 0.35]))
    return {"name": NAME, "severity": severity, "zone": zone, "side": "bilateral", "haze": bool(rng.uniform() < 0.4)}


def paint(scene: Scene, facts: Facts) -> Facts | None:
    """Sheets thinner than a voxel cover their share of it; the mask holds the voxels that they cover most."""
    box = box_of(scene.of_lungs)
    if box is None:
        return None
    severity = facts["severity"]
    first, second, septum = lobules(scene, box)
    wall = wall_mm(scene, box)
    where = 1 - ramp(wall, 0.5 * _DEPTH_MM[severity], 1.2 * _DEPTH_MM[severity])
    if facts["zone"] == "basal":
        where = where * (1 - ramp(height(scene, box), 0.3, 0.62))
    own = scene.rng(NAME).uniform(size=len(load_lobules().points)).astype(np.float32)
    # A septum belongs to both its lobules: the sum of their numbers decides.
    thick = (np.mod(own[first] + own[second], 1.0) < _SHARE[severity]) & (first >= 0)
    voxel = float(np.mean(scene.spacing_mm))
    lung = open_lung(scene, box)
    amount = coverage(septum, _THICK_MM[severity] * (0.55 + 0.45 * where), voxel) * thick * where * lung
    amount *= ramp(-scene.hu[box], 250.0, 550.0)
    if facts["haze"]:
        densify(scene, box, where * lung, 45.0)
    scene.fill(box, amount.astype(np.float32), HU, seal=False)
    mask = np.zeros(scene.shape, bool)
    mask[box] = amount > 0.45 * min(1.0, _THICK_MM[severity] / voxel)
    if not mask.any():
        return None
    scene.masks[NAME] = mask
    return facts


def rows(facts: Facts) -> list[Facts]:
    keep = {key: facts[key] for key in ("side", "severity", "zone")}
    return [{"name": NAME, "size": SIZE_OF[facts["severity"]], **keep}]
