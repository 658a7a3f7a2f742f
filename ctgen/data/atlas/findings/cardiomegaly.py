"""Cardiomegaly: the heart grows smoothly and pushes the lungs aside; the deformation does the work."""

from __future__ import annotations

import numpy as np

from ctgen.data.atlas.findings.scene import SIZE_OF, Drawing, Facts, Others, Scene

NAME = "cardiomegaly"
LIMIT = 0.5
"""Cardiothoracic ratio above which a heart counts as enlarged."""


def draw(rng: np.random.Generator, others: Others, drawing: Drawing) -> Facts:
    severity = str(rng.choice(["mild", "moderate", "marked"], p=[0.45, 0.35, 0.2]))
    low, high = {"mild": (1.28, 1.36), "moderate": (1.38, 1.5), "marked": (1.54, 1.7)}[severity]
    return {"name": NAME, "severity": severity, "scale": round(float(rng.uniform(low, high)), 3)}


def paint(scene: Scene, facts: Facts) -> Facts | None:
    """The deformation has done it; None if the ratio is not over ``LIMIT`` or is not in the field of view."""
    ratio = cardiothoracic_ratio(scene)
    if ratio is None or ratio <= LIMIT:
        return None
    scene.masks[NAME] = scene.of("heart", "atrial_app")
    return facts


def rows(facts: Facts) -> list[Facts]:
    return [{"name": NAME, "size": SIZE_OF[facts["severity"]], "severity": facts["severity"]}]


def cardiothoracic_ratio(scene: Scene) -> float | None:
    """Widest heart over widest inner chest, in axial slices; None if either is out of the field of view."""
    heart, lungs = scene.of("heart", "atrial_app"), scene.of_lungs
    widths = []
    for mask in (heart, lungs):
        columns = np.asarray(mask.any(1))
        some = np.asarray(columns.any(1))
        if not some.any():
            return None
        first, last = columns.argmax(1), columns.shape[1] - 1 - columns[:, ::-1].argmax(1)
        widths.append(int((last - first + 1)[some].max()))
    return widths[0] / widths[1]


def corrected(scale: float, ratio: float | None, scene: Scene, *, enlarged: bool) -> float:
    """The heart's scale, moved if a chance of the chest's shape put the ratio on the wrong side of the limit.

    Left alone where the middle of the heart is out of the field of view: the ratio means nothing there.
    """
    centre = scene.voxel_of(scene.guides.heart_centre)
    if ratio is None or (centre < 0).any() or (centre > np.array(scene.shape) - 1).any():
        return scale
    if not enlarged and ratio > LIMIT - 0.015:
        return max(scale * (LIMIT - 0.035) / ratio, 0.75)
    if enlarged and ratio < LIMIT + 0.02:
        return min(scale * (LIMIT + 0.04) / ratio, 1.85)
    return scale
