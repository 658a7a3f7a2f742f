"""Lung opacity: ground glass, through which vessels stay visible; in patches, in one segment, or all over."""

from __future__ import annotations

import numpy as np

from ctgen.data.atlas.deform import smooth_field
from ctgen.data.atlas.findings.scene import SIZE_OF, Drawing, Facts, Others, Scene, box_of, ramp
from ctgen.data.atlas.findings.shapes import axial_mm, densify, open_lung, wall_mm
from ctgen.data.atlas.tissue import LOBES

NAME = "lung_opacity"
_ADDED_HU = {"mild": 170.0, "moderate": 250.0, "severe": 340.0}


def draw(rng: np.random.Generator, others: Others, drawing: Drawing) -> Facts:
    """Patches and segments keep clear of the lobe that a consolidation would take."""
    pattern = str(rng.choice(["patchy", "segmental", "diffuse"], p=[0.5, 0.3, 0.2]))
    severity = str(rng.choice(["mild", "moderate", "severe"], p=[0.35, 0.4, 0.25]))
    lobes = [lobe for lobe in LOBES if lobe != others["consolidation"]["lobe"]]
    count = int(rng.integers(1, 4)) if pattern == "patchy" else 1
    patches = []
    for place in rng.permutation(len(lobes))[:count]:
        lobe = lobes[int(place)]
        points = drawing.guides.lobe_points[lobe]
        near = points[points[:, 3] < 18] if rng.uniform() < 0.7 else points
        anchor = near[int(rng.integers(len(near))), :3]
        radius = float(rng.uniform(30, 42) if pattern == "segmental" else rng.uniform(13, 25))
        patches.append(
            {
                "lobe": lobe,
                "side": "left" if lobe.endswith("left") else "right",
                "radius_mm": round(radius, 1),
                "anchor_mm": [round(float(value), 1) for value in anchor],
            }
        )
    zone = str(rng.choice(["lower", "upper", "whole"], p=[0.4, 0.2, 0.4]))
    return {"name": NAME, "pattern": pattern, "severity": severity, "zone": zone, "patches": patches}


def paint(scene: Scene, facts: Facts) -> Facts | None:
    """Patches that show, with ``size_mm`` (largest axial width); a diffuse one with ``percent`` of the lungs."""
    mask = np.zeros(scene.shape, bool)
    added = _ADDED_HU[facts["severity"]]
    seen = []
    if facts["pattern"] == "diffuse":
        _everywhere(scene, facts, added, mask)
    else:
        for number, patch in enumerate(facts["patches"]):
            if (size := _patch(scene, patch, added, number, mask)) is not None:
                seen.append({**patch, "size_mm": size})
    if not mask.any():
        return None
    scene.masks[NAME] = mask
    share = round(100 * float(mask.sum()) / float(scene.of_lungs.sum()), 1)
    return {**facts, "patches": seen, "percent": share}


def _patch(scene: Scene, patch: Facts, added: float, number: int, mask: np.ndarray) -> int | None:
    box = box_of(scene.of(f"lung_{patch['lobe']}"))
    if box is None:
        return None
    offset = scene.atlas_mm(box) - np.array(patch["anchor_mm"], np.float32).reshape(3, 1, 1, 1)
    far = np.sqrt((offset**2).sum(0)) / patch["radius_mm"]
    rng = scene.rng(NAME, 1 + number)
    rough = 0.3 * smooth_field(rng, scene.shape, scene.spacing_mm, 15.0, box)
    rough += 0.12 * smooth_field(rng, scene.shape, scene.spacing_mm, 6.0, box)
    # However rough its border, a patch throws no islands far away.
    rough *= ramp(1.5 - far, 0.0, 0.4)
    amount = ramp(1.1 - far + rough, 0.0, 0.5) * open_lung(scene, box, patch["lobe"])
    # Denser here, thinner there, as ground glass is.
    amount *= np.clip(0.85 + 0.2 * smooth_field(rng, scene.shape, scene.spacing_mm, 9.0, box), 0.45, 1.2)
    densify(scene, box, amount, added)
    inside = amount > 0.4
    mask[box] |= inside
    return axial_mm(inside, scene) if inside.any() else None


def _everywhere(scene: Scene, facts: Facts, added: float, mask: np.ndarray) -> None:
    box = box_of(scene.of_lungs)
    if box is None:
        return
    rng = scene.rng(NAME)
    up = (scene.atlas_mm(box)[0] - scene.guides.lungs_mm["left"][0][0]) / np.ptp(scene.guides.lungs_mm["left"][:, 0])
    weight = {"lower": 1 - 0.75 * ramp(up, 0.2, 0.7), "upper": 1 - 0.75 * ramp(1 - up, 0.3, 0.8), "whole": np.ones_like(up)}
    field = smooth_field(rng, scene.shape, scene.spacing_mm, 24.0, box)
    field += 0.5 * smooth_field(rng, scene.shape, scene.spacing_mm, 9.0, box)
    # The subpleural millimetres are spared a little.
    edge = 0.6 + 0.4 * ramp(wall_mm(scene, box), 1.0, 6.0)
    amount = ramp(weight[facts["zone"]] - 0.55 + 0.28 * field, 0.0, 0.45) * edge * open_lung(scene, box)
    densify(scene, box, amount, added)
    mask[box] = amount > 0.4


def rows(facts: Facts) -> list[Facts]:
    share = {"severity": facts["severity"], "pattern": facts["pattern"]}
    if facts["pattern"] == "diffuse":
        row = {"name": NAME, "side": "bilateral", "size": SIZE_OF[facts["severity"]], "zone": facts["zone"]}
        return [{**row, **share, "percent": facts["percent"]}]
    out = []
    for patch in facts["patches"]:
        size = "small" if patch["size_mm"] < 30 else "moderate" if patch["size_mm"] < 60 else "large"
        out.append({"name": NAME, **{key: patch[key] for key in ("side", "lobe", "size_mm")}, "size": size, **share})
    return out
