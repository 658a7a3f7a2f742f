"""Peribronchial thickening: cuffs around the central bronchi of normal width, on both sides."""

from __future__ import annotations

import numpy as np

from ctgen.data.atlas.airways import load_bronchi
from ctgen.data.atlas.findings.scene import SIZE_OF, Drawing, Facts, Others, Scene
from ctgen.data.atlas.findings.tubes import Tubes

NAME = "peribronchial_thickening"
_WALL_MM = {"mild": 1.7, "moderate": 2.3, "severe": 3.0}
_REACH = {"mild": 3, "moderate": 4, "severe": 4}
"""The last generation that it takes."""


def draw(rng: np.random.Generator, others: Others, drawing: Drawing) -> Facts:
    severity = str(rng.choice(["mild", "moderate", "severe"], p=[0.45, 0.4, 0.15]))
    zone = str(rng.choice(["central", "lower"], p=[0.6, 0.4]))
    return {"name": NAME, "severity": severity, "zone": zone, "side": "bilateral", "shape_seed": int(rng.integers(2**31))}


def paint(scene: Scene, facts: Facts) -> Facts | None:
    """``side`` as far as it shows."""
    rng = np.random.default_rng(facts["shape_seed"])
    bronchi, tubes = load_bronchi(), Tubes(scene)
    wall, last = _WALL_MM[facts["severity"]], _REACH[facts["severity"]]
    own = rng.uniform(0.8, 1.25, len(bronchi.start))
    left_out = rng.uniform(size=len(bronchi.start)) < 0.15
    sides = set()
    for piece in range(len(bronchi.start)):
        generation, lobe = int(bronchi.generation[piece]), bronchi.lobe[piece]
        if not 1 <= generation <= last or (facts["zone"] == "lower" and lobe.startswith("upper")):
            continue
        if generation == last and left_out[piece]:
            continue
        radius = 0.72 * float(bronchi.radius_mm[piece])
        thick = wall * own[piece] * (1 - 0.12 * (generation - 1))
        if tubes.add(piece, (radius, 0.85 * radius), thick, (lobe,)):
            sides.add("left" if lobe.endswith("left") else "right")
    mask = tubes.paint(-20.0)
    if not sides or not mask.any():
        return None
    scene.masks[NAME] = mask
    return {**facts, "side": "bilateral" if len(sides) == 2 else sides.pop()}


def rows(facts: Facts) -> list[Facts]:
    keep = {key: facts[key] for key in ("side", "severity", "zone")}
    return [{"name": NAME, "size": SIZE_OF[facts["severity"]], **keep}]
