"""Interlobular septal thickening: a net of polygons of 10 to 20 mm near the pleura, most at the base."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ctgen.data.atlas.airways import load_lobules
from ctgen.data.atlas.findings.scene import SIZE_OF, Drawing, Facts, Others, Scene, box_of, ramp
from ctgen.data.atlas.findings.shapes import coverage, densify, edge_mm, height, lobules, open_lung, wall_mm

NAME = "interlobular_septal_thickening"
_THICK_MM = {"mild": 1.0, "moderate": 1.3, "severe": 1.7}
_DEPTH_MM = {"mild": 13.0, "moderate": 17.0, "severe": 24.0}
"""How deep below the pleura it fades."""
_SHARE = {"mild": 0.55, "moderate": 0.7, "severe": 0.85}
"""Of the septa that are thick."""
HU = -80.0


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
    amount = coverage(septum, _THICK_MM[severity] * (0.55 + 0.45 * where), voxel) * thick * where
    blur = [0.7 / step if step < 2 else 0.0 for step in scene.spacing_mm]
    amount = ndimage.gaussian_filter(amount.astype(np.float32), blur, truncate=2.0) * lung if any(blur) else amount * lung
    amount *= ramp(-scene.hu[box], 250.0, 550.0)
    if facts["haze"]:
        densify(scene, box, where * lung, 45.0)
    scene.fill(box, amount.astype(np.float32), HU, seal=False)
    mask = np.zeros(scene.shape, bool)
    mask[box] = amount > 0.4 * min(1.0, _THICK_MM[severity] / edge_mm(voxel))
    if not mask.any():
        return None
    scene.masks[NAME] = mask
    return facts


def rows(facts: Facts) -> list[Facts]:
    keep = {key: facts[key] for key in ("side", "severity", "zone")}
    return [{"name": NAME, "size": SIZE_OF[facts["severity"]], **keep}]
