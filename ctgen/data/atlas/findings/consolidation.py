"""Consolidation: airless lung of one lobe with a soft, irregular edge and open bronchi in it."""

from __future__ import annotations

import numpy as np

from ctgen.data.atlas.deform import smooth_field
from ctgen.data.atlas.draws import stream
from ctgen.data.atlas.findings import pleural_effusion
from ctgen.data.atlas.findings.scene import Drawing, Facts, Others, Scene, box_of, ramp
from ctgen.data.atlas.tissue import LOBES

NAME = "consolidation"


def draw(rng: np.random.Generator, others: Others, drawing: Drawing) -> Facts:
    """Keeps clear of the lower lobes that an effusion would press on."""
    wet = others[pleural_effusion.NAME]["side"]
    lobes = [lobe for lobe in LOBES if not (lobe.startswith("lower") and (wet == "bilateral" or lobe.endswith(wet)))]
    lobe = str(rng.choice(lobes))
    points = drawing.guides.lobe_points[lobe]
    extent = str(rng.choice(["focal", "segmental", "extensive"], p=[0.35, 0.4, 0.25]))
    radius = float(rng.uniform(*{"focal": (15, 21), "segmental": (24, 34), "extensive": (40, 55)}[extent]))
    # Subpleural more often than central.
    near = points[points[:, 3] < 20] if rng.uniform() < 0.7 else points
    near = near if len(near) else points
    anchor = near[int(rng.integers(len(near))), :3]
    return {
        "name": NAME,
        "lobe": lobe,
        "side": "left" if lobe.endswith("left") else "right",
        "extent": extent,
        "radius_mm": round(radius, 1),
        "bronchogram": bool(rng.uniform() < (0.25 if extent == "focal" else 0.75)),
        "hu": round(float(rng.uniform(20, 45)), 1),
        "anchor_mm": [round(float(value), 1) for value in anchor],
    }


def paint(scene: Scene, facts: Facts) -> Facts | None:
    """Returns the facts with the measured ``size_mm`` (largest axial width), or None if it is out of the field of view."""
    lobe = scene.of(f"lung_{facts['lobe']}")
    box = box_of(lobe, 2)
    if box is None:
        return None
    rng = stream(scene.seed, scene.index, NAME)
    rng = np.random.default_rng(rng.integers(2**62))
    offset = scene.atlas_mm(box) - np.array(facts["anchor_mm"], np.float32).reshape(3, 1, 1, 1)
    far = np.sqrt((offset**2).sum(0)) / facts["radius_mm"]
    rough = 0.22 * smooth_field(rng, scene.shape, scene.spacing_mm, 16.0, box)
    rough += 0.12 * smooth_field(rng, scene.shape, scene.spacing_mm, 6.0, box)
    inside = lobe[box] * scene.free(box)
    core = (ramp(1.15 - far + rough, 0.0, 0.45) * inside).astype(np.float32)
    halo = (0.35 * ramp(1.45 - far + rough, 0.0, 0.5) * inside).astype(np.float32)
    curve_a = smooth_field(rng, scene.shape, scene.spacing_mm, 17.0, box)
    curve_b = smooth_field(rng, scene.shape, scene.spacing_mm, 17.0, box)
    if facts["bronchogram"]:
        # Two fields vanish together along curves: branching tubes of air without a tree to grow.
        tubes = np.exp(-(curve_a**2 + curve_b**2) / 0.045) * ramp(0.95 - far, 0.0, 0.3)
        core = (core * (1 - 0.75 * tubes)).astype(np.float32)
    scene.fill(box, halo, -350.0, seal=False)
    scene.fill(box, core, facts["hu"] + 30.0 * scene.contrast)
    mask = np.zeros(scene.shape, bool)
    mask[box] = core > 0.5
    if not mask.any():
        return None
    scene.masks[NAME] = mask
    rows, columns = mask.any(2).sum(1).max() * scene.spacing_mm[1], mask.any(1).sum(1).max() * scene.spacing_mm[2]
    return {**facts, "size_mm": round(float(max(rows, columns)))}


def rows(facts: Facts) -> list[Facts]:
    keep = {key: facts[key] for key in ("side", "lobe", "size_mm", "extent", "bronchogram")}
    return [{"name": NAME, **keep, "size": {"focal": "small", "segmental": "moderate", "extensive": "large"}[facts["extent"]]}]
