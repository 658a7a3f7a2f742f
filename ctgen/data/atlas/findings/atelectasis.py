"""Atelectasis of its own: plates of airless lung near the base, or a wedge on the pleura; effusions bring another."""

from __future__ import annotations

import numpy as np

from ctgen.data.atlas.findings import pleural_effusion
from ctgen.data.atlas.findings.scene import Box, Drawing, Facts, Others, Scene
from ctgen.data.atlas.findings.shapes import Plate, longest_mm, open_lung, plate, wall_mm

NAME = "atelectasis"
_LOBES = ("lower_lobe_left", "lower_lobe_right", "middle_lobe_right", "upper_lobe_left")


def draw(rng: np.random.Generator, others: Others, drawing: Drawing) -> Facts:
    """One to three bands, each in another lobe; dry lobes that no consolidation would take, and in them near the base."""
    kind = str(rng.choice(["linear", "subsegmental"], p=[0.65, 0.35]))
    count = int(rng.choice([1, 2, 3], p=[0.5, 0.35, 0.15]))
    wet = others[pleural_effusion.NAME]["side"]
    taken = others["consolidation"]["lobe"]
    order = rng.permutation(len(_LOBES))
    bands: list[Facts] = []
    for place in order:
        lobe = _LOBES[int(place)]
        side = "left" if lobe.endswith("left") else "right"
        points = drawing.guides.lobe_points[lobe]
        height = points[:, 0]
        low = points[(height < np.quantile(height, 0.45)) & (points[:, 3] > 6) & (points[:, 3] < 22)]
        anchor = low[int(rng.integers(len(low))), :3]
        flat = [1.0, float(rng.uniform(-0.5, 0.5)), float(rng.uniform(-0.6, 0.6))]
        band = {
            "lobe": lobe,
            "side": side,
            "anchor_mm": [round(float(value), 1) for value in anchor],
            "normal": [round(value, 3) for value in flat],
            "along": [0.0, round(float(rng.uniform(-1, 1)), 3), round(float(rng.uniform(0.3, 1)), 3)],
            "half_length_mm": round(float(rng.uniform(14, 28)), 1),
            "half_width_mm": round(float(rng.uniform(9, 17)), 1),
            "thickness_mm": round(float(rng.uniform(2.2, 3.8) if kind == "linear" else rng.uniform(8, 13)), 1),
            "bend_mm": round(float(rng.uniform(-5, 5)), 1),
            "phase": round(float(rng.uniform(0, 6.28)), 2),
        }
        if len(bands) < count and lobe != taken and not (lobe.startswith("lower") and wet in (side, "bilateral")):
            bands.append(band)
    return {"name": NAME, "kind": kind, "bands": bands, "hu": round(float(rng.uniform(0, 35)), 1)}


def paint(scene: Scene, facts: Facts) -> Facts | None:
    """The bands that show, with ``size_mm``, the longest side of a band's box; the mask also holds an effusion's collapse."""
    mask = np.zeros(scene.shape, bool)
    seen = []
    for band in facts["bands"]:
        inside = _band(scene, band, facts)
        if inside is not None:
            mask |= inside
            seen.append({**band, "size_mm": longest_mm(inside, scene)})
    if not seen:
        return None
    scene.masks[NAME] = mask | scene.masks.get(NAME, False)
    return {**facts, "bands": seen}


def _band(scene: Scene, band: Facts, facts: Facts) -> np.ndarray | None:
    centre = scene.voxel_of(np.array(band["anchor_mm"]))
    shape = Plate(
        tuple(band["normal"]), tuple(band["along"]), band["half_length_mm"], band["half_width_mm"], band["thickness_mm"],
        band["bend_mm"], 0.5, band["phase"],
    )  # fmt: skip
    found = plate(scene, centre, shape, taper=_wedge if facts["kind"] == "subsegmental" else None)
    if found is None:
        return None
    box, amount = found
    amount = amount * open_lung(scene, box, band["lobe"])
    scene.fill(box, amount, facts["hu"] + 40.0 * min(scene.contrast, 1.0), seal=False)
    inside = amount > min(0.5, 0.4 * float(amount.max()) + 1e-6)
    if amount.max() < 0.15 or not inside.any():
        return None
    mask = np.zeros(scene.shape, bool)
    mask[box] = inside
    return mask


def _wedge(scene: Scene, box: Box) -> np.ndarray:
    """As thick as drawn at the pleura, a third of it 20 mm below."""
    return np.asarray(np.clip(1.25 * np.exp(-wall_mm(scene, box) / 14.0), 0.2, 1.0))


def rows(facts: Facts) -> list[Facts]:
    out = []
    for band in facts["bands"]:
        size = "small" if facts["kind"] == "linear" else "moderate"
        out.append(
            {"name": NAME, **{key: band[key] for key in ("side", "lobe", "size_mm")}, "size": size, "kind": facts["kind"]}
        )
    return out
