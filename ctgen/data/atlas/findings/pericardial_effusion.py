"""Pericardial effusion: a layer of fluid around the heart, first behind and below it, then all around."""

from __future__ import annotations

import numpy as np

from ctgen.data.atlas.findings.mediastinum import ABDOMEN, BONES, bed, blend, covered, outside_mm, thorax, vessels
from ctgen.data.atlas.findings.scene import Drawing, Facts, Others, Scene, box_of, ramp
from ctgen.data.atlas.findings.shapes import offsets

NAME = "pericardial_effusion"
_THICK_MM = {"small": (5.0, 9.5), "moderate": (11.0, 18.0), "large": (20.0, 30.0)}
_FRONT = {"small": 0.0, "moderate": 0.4, "large": 0.6}
"""Thickness in front of the heart, as a fraction of that behind it."""
_FAT_MM = 1.5
"""Fat that stays between the heart and the fluid."""
_TOP_MM = (180.0, 216.0)
_BASE_MM = (106.0, 120.0)
"""Heights of the atlas between which the pericardium begins and ends."""


def draw(rng: np.random.Generator, others: Others, drawing: Drawing) -> Facts:
    size = str(rng.choice(["small", "moderate", "large"], p=[0.5, 0.33, 0.17]))
    thick = float(rng.uniform(*_THICK_MM[size]))
    return {
        "name": NAME,
        "size": size,
        # A thinner layer than this would be no voxel's greater part.
        "thickness_mm": round(max(thick, 0.8 * drawing.smallest_mm), 1),
        "front": round(_FRONT[size] * float(rng.uniform(0.7, 1.2)), 2),
        "hu": round(float(rng.uniform(2, 22)), 1),
    }


def paint(scene: Scene, facts: Facts) -> Facts | None:
    """Returns the facts with ``size_mm``, the layer's greatest thickness, or None if no fluid is in the field of view."""
    most = facts["thickness_mm"]
    margin = int(np.ceil((most + 4) / min(scene.spacing_mm)))
    heart_box = box_of(scene.of("heart", "atrial_app"), margin)
    if heart_box is None:
        return None
    box = heart_box
    heart = scene.in_box(box, "heart", "atrial_app")
    voxel = float(np.mean(scene.spacing_mm))
    bare = outside_mm(scene, heart)
    # The sac is smoother than the heart: it spans the grooves.
    sac = outside_mm(scene, heart, smooth_mm=3.0, close_mm=9.0)
    away = offsets(scene, box, scene.voxel_of(scene.guides.heart_centre))
    length = np.sqrt((away**2).sum(0)) + 1e-3
    down, back, left = -away[0] / length, away[1] / length, away[2] / length
    share = ramp(0.85 * back + 0.3 * down + 0.3 * left, -0.55, 0.75)
    height = scene.atlas_mm(box)[0]
    ends = ramp(_TOP_MM[1] - height, 0.0, _TOP_MM[1] - _TOP_MM[0]) * ramp(height, *_BASE_MM)
    layer = most * (facts["front"] + (1 - facts["front"]) * share) * ends
    kept = outside_mm(scene, vessels(scene, box) & ~heart | scene.in_box(box, *BONES, *ABDOMEN, "esophagus", "trachea"))
    space = covered(sac - layer, voxel) * ramp(thorax(scene, box), 0.35, 0.6) * ramp(layer, 0.5, 2.5) * scene.free(box)
    amount = space * covered(_FAT_MM - bare, voxel) * covered(0.7 - kept, voxel)
    inside = amount > 0.5
    if not inside.any():
        return None
    bed(scene, box, space)
    blend(scene, box, amount, facts["hu"])
    scene.take(box, amount)
    mask = np.zeros(scene.shape, bool)
    mask[box] = inside
    scene.masks[NAME] = mask
    return {**facts, "size_mm": max(1, round(float(np.quantile(sac[inside], 0.995)) + voxel / 2))}


def rows(facts: Facts) -> list[Facts]:
    return [{"name": NAME, "size": facts["size"], "size_mm": facts["size_mm"], "spread": _spread(facts)}]


def _spread(facts: Facts) -> str:
    return "around" if facts["size"] != "small" else "behind"
