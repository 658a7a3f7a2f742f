"""Emphysema: holes of air in the lung, most in the upper lobes; from moderate on the diaphragm is lower and flatter."""

from __future__ import annotations

import numpy as np
from scipy import special

from ctgen.data.atlas.deform import smooth_field
from ctgen.data.atlas.diaphragm import flatten, lowered_mm
from ctgen.data.atlas.draws import stream
from ctgen.data.atlas.findings.scene import SIZE_OF, Drawing, Facts, Others, Scene, box_of, ramp

NAME = "emphysema"
HOLE_HU = -985.0
_FRACTION = {"mild": 0.14, "moderate": 0.3, "severe": 0.5}
"""Of the apices' volume that is hole."""
_LOWER_MM = {"mild": (0.0, 0.0), "moderate": (5.0, 10.0), "severe": (10.0, 18.0)}
"""How far air that cannot leave the lungs lowers the domes of the diaphragm."""
_ENOUGH_MM3 = 2e5
"""Of the upper lungs: a volume that shows less shows no emphysema for certain, and may not show what it does either."""


def draw(rng: np.random.Generator, others: Others, drawing: Drawing) -> Facts:
    severity = str(rng.choice(["mild", "moderate", "severe"], p=[0.4, 0.35, 0.25]))
    pattern = str(rng.choice(["centrilobular", "paraseptal"], p=[0.7, 0.3]))
    lowered = round(float(rng.uniform(*_LOWER_MM[severity])), 1)
    return {
        "name": NAME,
        "severity": severity,
        "pattern": pattern,
        "side": "bilateral",
        "lobe": "upper lobes",
        "diaphragm_flattened_mm": lowered,
    }


def press(scene: Scene, facts: Facts) -> bool:
    """Lower the diaphragm, if the volume shows enough of the upper lungs for emphysema to be seen there."""
    above = scene.coordinates[0, ::2, ::2, ::2] * scene.tissue.spacing_mm[0] > _upper_mm(scene)
    upper = (above & scene.of_lungs[::2, ::2, ::2]).sum() * 8 * float(np.prod(scene.spacing_mm))
    if not facts["diaphragm_flattened_mm"] or upper < _ENOUGH_MM3:
        return False
    flatten(scene, facts["diaphragm_flattened_mm"])
    return True


def _upper_mm(scene: Scene) -> float:
    """Height of the atlas from which on the lungs are full of holes."""
    low, high = (scene.guides.lungs_mm["right"][0][0], scene.guides.lungs_mm["left"][1][0])
    return float(low + 0.65 * (high - low))


def paint(scene: Scene, facts: Facts) -> Facts | None:
    """Returns the facts with ``percent`` of the lungs that are hole and ``diaphragm_flattened_mm`` as far as the volume shows
    it (0 if it shows no dome), or None if no hole is in the field of view."""
    lungs = scene.of_lungs
    box = box_of(lungs)
    if box is None:
        return None
    rng = stream(scene.seed, scene.index, NAME)
    rng = np.random.default_rng(rng.integers(2**62))
    points = scene.atlas_mm(box)
    low = min(corner[0][0] for corner in scene.guides.lungs_mm.values())
    high = max(corner[1][0] for corner in scene.guides.lungs_mm.values())
    weight = ramp((points[0] - low) / (high - low), 0.35, 0.8)
    cell = 4.5 if facts["severity"] == "mild" else 5.5
    holes = smooth_field(rng, scene.shape, scene.spacing_mm, cell, box)
    bullae = smooth_field(rng, scene.shape, scene.spacing_mm, 13.0, box)
    if facts["pattern"] == "paraseptal":
        from scipy import ndimage

        where = points / (np.array(scene.tissue.spacing_mm, np.float32) * 2).reshape(3, 1, 1, 1)
        wall = ndimage.map_coordinates(scene.guides.wall_mm, where, order=1, mode="nearest")
        weight = weight * (0.15 + 1.25 * np.exp(-wall / 10.0))
    share = 0.4 if facts["severity"] == "severe" else 0.15
    field = np.sqrt(1 - share**2) * holes + share * bullae
    level = special.ndtri(np.clip(1 - _FRACTION[facts["severity"]] * weight, 1e-6, 1 - 1e-6))
    amount = ramp(field - level, -0.15, 0.2) * (lungs[box] * scene.free(box))
    part = scene.hu[box]
    amount = (amount * ramp(-part, 450.0, 700.0)).astype(np.float32)
    part += amount * np.minimum(HOLE_HU - part, 0)
    mask = np.zeros(scene.shape, bool)
    mask[box] = amount > 0.5
    if not mask.any():
        return None
    scene.masks[NAME] = mask
    percent = round(100 * float(mask.sum()) / float(lungs.sum()), 1)
    return {**facts, "percent": percent, "diaphragm_flattened_mm": lowered_mm(scene)}


def rows(facts: Facts) -> list[Facts]:
    keep = {key: facts[key] for key in ("severity", "pattern", "percent", "diaphragm_flattened_mm")}
    return [{"name": NAME, "side": "bilateral", "lobe": "upper_lobes", "size": SIZE_OF[facts["severity"]], **keep}]
