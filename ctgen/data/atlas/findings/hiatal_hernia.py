"""Hiatal hernia: stomach, or its fat, above the diaphragm, behind the heart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ctgen.data.atlas.deform import smooth_field
from ctgen.data.atlas.findings.mediastinum import ABDOMEN, BONES, FAT_HU, bed, blend, covered, outside_mm, vessels
from ctgen.data.atlas.findings.scene import Box, Drawing, Facts, Others, Scene
from ctgen.data.atlas.findings.shapes import axial_mm, box_around, offsets
from ctgen.data.atlas.landmarks import load_landmarks

NAME = "hiatal_hernia"
_SIZE_MM = {"small": (30.0, 40.0), "moderate": (44.0, 58.0), "large": (64.0, 88.0)}
_HIATUS_MM = 122.0
"""Height of the atlas at which the oesophagus goes through the diaphragm."""
_AIR_HU = -970.0
_WALL_MM = 4.0
_MANTLE_MM = 4.0
"""Fat that comes along with the stomach."""


def draw(rng: np.random.Generator, others: Others, drawing: Drawing) -> Facts:
    size = str(rng.choice(["small", "moderate", "large"], p=[0.55, 0.3, 0.15]))
    width = max(float(rng.uniform(*_SIZE_MM[size])), drawing.smallest_mm)
    contents = str(rng.choice(["air-fluid", "fluid", "fat"], p=[0.55, 0.25, 0.2]))
    return {
        "name": NAME,
        "size": size,
        "kind": "paraesophageal" if size == "large" else "sliding",
        "contents": contents,
        "width_mm": round(width, 1),
        "shape": [round(float(rng.uniform(*span)), 2) for span in ((0.8, 1.1), (0.7, 0.9), (0.95, 1.1))],
        "left_mm": round(float(rng.uniform(-0.12, 0.3)) * width, 1),
        "level": round(float(rng.uniform(-0.25, 0.25)), 2),
        "phase": round(float(rng.uniform(0, 6.28)), 2),
        "hu": round(float(rng.uniform(8, 28)), 1),
    }


def paint(scene: Scene, facts: Facts) -> Facts | None:
    """Returns the facts with ``size_mm``, the greatest width in an axial slice, or None if it is out of the field of view."""
    line = load_landmarks().oesophagus_mm
    radius = facts["width_mm"] / 2
    half = radius * np.array(facts["shape"])
    middle = scene.voxel_of(_on(line, _HIATUS_MM + 0.8 * half[0]))
    middle = middle + np.array([0.0, 0.1 * radius, facts["left_mm"]]) / np.array(scene.spacing_mm)
    hiatus = scene.voxel_of(_on(line, _HIATUS_MM - 6))
    box = box_around(scene, middle, 1.45 * radius + _MANTLE_MM + 6)
    if box is None:
        return None
    voxel = float(np.mean(scene.spacing_mm))
    away = offsets(scene, box, middle)
    far = np.sqrt((away**2).sum(0)) + 1e-3
    wave = sum(np.sin(2.3 * away[axis] / far + facts["phase"] + axis) for axis in range(3))
    round_ = np.sqrt(((away / half.reshape(3, 1, 1, 1)) ** 2).sum(0)) / (1 + 0.035 * wave)
    outline = far * (1 - 1 / np.maximum(round_, 1e-3))
    neck = _along(away, (hiatus - middle) * np.array(scene.spacing_mm)) - min(0.42 * radius, 15.0)
    outline = _joined(outline, neck, 6.0)
    # It lies before the aorta, and beside it at most.
    aorta = scene.in_box(box, "aorta") & (np.abs(away[0]) < 0.7 * radius) & (away[1] > 0)
    if aorta.any():
        outline = _joined(-outline, float(away[1][aorta].mean()) - away[1], 5.0) * -1
    solid = vessels(scene, box) | scene.in_box(box, *BONES, *ABDOMEN, "heart", "atrial_app", "trachea")
    kept = outside_mm(scene, solid)
    mass = np.maximum(outline, 1.2 - kept)
    free = scene.free(box)
    amount = covered(mass, voxel) * free
    inside = amount > 0.5
    if inside.sum() < 2:
        return None
    mantle = covered(outline - _MANTLE_MM, voxel) * free * (kept > -2)
    bed(scene, box, mantle)
    blend(scene, box, amount, _fabric(scene, box, facts, mass, away, half, voxel))
    scene.take(box, np.maximum(amount, mantle).astype(np.float32))
    mask = np.zeros(scene.shape, bool)
    mask[box] = inside
    scene.masks[NAME] = mask
    width = axial_mm(mask, scene)
    size = "small" if width < 42 else "moderate" if width <= 60 else "large"
    return {**facts, "size": size, "size_mm": width}


def _fabric(
    scene: Scene, box: Box, facts: Facts, mass: NDArray[np.float32], away: NDArray[np.float32], half: np.ndarray, voxel: float
) -> NDArray[np.float32]:
    """HU of wall and contents. Fluid lies at the back, air in front: the patient is supine."""
    wall_hu = 38.0 + 45.0 * min(scene.contrast, 1.0)
    texture = smooth_field(scene.rng(NAME), scene.shape, scene.spacing_mm, 5.0, box)
    if facts["contents"] == "fat":
        # Omentum with its vessels around the oesophagus.
        strands = np.clip(texture - 1.1, 0, 1) * 110
        tube = covered(np.sqrt((away[1] - 0.35 * half[1]) ** 2 + away[2] ** 2) - 9.0, voxel)
        return np.asarray(FAT_HU + strands + tube * (wall_hu - FAT_HU), np.float32)
    folds = _WALL_MM + 1.6 * np.sin(away[0] / 4.0 + away[2] / 5.0 + facts["phase"])
    lumen = covered(mass + folds, voxel)
    food = facts["hu"] + 14.0 * texture
    if facts["contents"] == "air-fluid":
        air = covered(away[1] - facts["level"] * half[1], scene.spacing_mm[1])
        filled = food + air * (_AIR_HU - food)
    else:
        filled = food + np.clip(texture - 2.0, 0, 1) * -400.0
    return np.asarray(wall_hu + lumen * (filled - wall_hu), np.float32)


def _on(line: np.ndarray, height_mm: float) -> np.ndarray:
    """The point of the oesophagus at a height of the atlas."""
    return np.array([height_mm, *(np.interp(height_mm, line[:, 0], line[:, axis]) for axis in (1, 2))])


def _along(away: NDArray[np.float32], way: np.ndarray) -> NDArray[np.float32]:
    """Distance from the straight line between the middle and ``way``."""
    part = np.clip((away[0] * way[0] + away[1] * way[1] + away[2] * way[2]) / float((way**2).sum() + 1e-6), 0, 1)
    return np.asarray(np.sqrt(sum((away[axis] - part * way[axis]) ** 2 for axis in range(3))), np.float32)


def _joined(first: np.ndarray, second: np.ndarray, round_mm: float) -> NDArray[np.float32]:
    """The union of two signed distances with a rounded seam."""
    blend_ = np.clip(0.5 + (second - first) / (2 * round_mm), 0, 1)
    return np.asarray(second * (1 - blend_) + first * blend_ - round_mm * blend_ * (1 - blend_), np.float32)


def rows(facts: Facts) -> list[Facts]:
    return [{"name": NAME, **{key: facts[key] for key in ("size", "size_mm", "kind", "contents")}}]
