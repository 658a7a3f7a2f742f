"""Fibrotic sequela: scars at the apices, or irregular bands elsewhere that reach the pleura."""

from __future__ import annotations

import numpy as np

from ctgen.data.atlas.deform import smooth_field
from ctgen.data.atlas.findings.scene import SIZE_OF, Drawing, Facts, Others, Scene, box_of, ramp
from ctgen.data.atlas.findings.shapes import Plate, height, longest_mm, open_lung, plate, wall_mm
from ctgen.data.atlas.tissue import LOBES

NAME = "pulmonary_fibrotic_sequela"
_CAP_MM = {"mild": 2.2, "moderate": 3.5, "severe": 5.0}
_BANDS = {"mild": 3, "moderate": 5, "severe": 7}
HU = 10.0


def draw(rng: np.random.Generator, others: Others, drawing: Drawing) -> Facts:
    pattern = str(rng.choice(["apical", "band"], p=[0.6, 0.4]))
    severity = str(rng.choice(["mild", "moderate", "severe"], p=[0.5, 0.35, 0.15]))
    side = str(rng.choice(["bilateral", "right", "left"], p=[0.5, 0.3, 0.2]))
    sides = ("right", "left") if side == "bilateral" else (side,)
    bands = []
    if pattern == "apical":
        for each in sides:
            points = drawing.guides.lobe_points[f"upper_lobe_{each}"]
            low, high = drawing.guides.lungs_mm[each][:, 0]
            apex = points[points[:, 0] > low + 0.84 * (high - low)]
            for _ in range(_BANDS[severity]):
                bands.append(_draw_band(rng, f"upper_lobe_{each}", apex, (9, 16), (1.8, 3.0)))
    else:
        lobes = [lobe for lobe in LOBES if lobe != others["consolidation"]["lobe"]]
        for place in rng.permutation(len(lobes))[: {"mild": 1, "moderate": 2, "severe": 3}[severity]]:
            lobe = lobes[int(place)]
            points = drawing.guides.lobe_points[lobe]
            bands.append(_draw_band(rng, lobe, points[points[:, 3] < 14], (15, 27), (2.4, 3.8)))
    return {"name": NAME, "pattern": pattern, "severity": severity, "side": side, "bands": bands}


def _draw_band(
    rng: np.random.Generator, lobe: str, points: np.ndarray, length: tuple[float, float], thick: tuple[float, float]
) -> Facts:
    anchor = points[int(rng.integers(len(points))), :3]
    direction = rng.normal(size=6)
    return {
        "lobe": lobe,
        "side": "left" if lobe.endswith("left") else "right",
        "anchor_mm": [round(float(value), 1) for value in anchor],
        "normal": [round(float(value), 3) for value in direction[:3]],
        "along": [round(float(value), 3) for value in direction[3:]],
        "half_length_mm": round(float(rng.uniform(*length)), 1),
        "half_width_mm": round(float(rng.uniform(3.5, 8)), 1),
        "thickness_mm": round(float(rng.uniform(*thick)), 1),
        "phase": round(float(rng.uniform(0, 6.28)), 2),
    }


def paint(scene: Scene, facts: Facts) -> Facts | None:
    """``side`` and bands as far as they show, each band with ``size_mm``, the longest side of its box."""
    mask = np.zeros(scene.shape, bool)
    seen = []
    for band in facts["bands"]:
        inside = _band(scene, band)
        if inside is not None:
            mask |= inside
            seen.append({**band, "size_mm": longest_mm(inside, scene)})
    if not seen:
        return None
    sides = [side for side in ("right", "left") if any(band["side"] == side for band in seen)]
    if facts["pattern"] == "apical":
        for side in sides:
            _cap(scene, side, _CAP_MM[facts["severity"]], mask)
    scene.masks[NAME] = mask
    return {**facts, "side": "bilateral" if len(sides) == 2 else sides[0], "bands": seen}


def _band(scene: Scene, band: Facts) -> np.ndarray | None:
    shape = Plate(
        tuple(band["normal"]), tuple(band["along"]), band["half_length_mm"], band["half_width_mm"], band["thickness_mm"],
        2.5, 1.3, band["phase"],
    )  # fmt: skip
    found = plate(scene, scene.voxel_of(np.array(band["anchor_mm"])), shape)
    if found is None:
        return None
    box, amount = found
    amount = amount * open_lung(scene, box, band["lobe"])
    scene.fill(box, amount, HU, seal=False)
    inside = amount > min(0.5, 0.4 * float(amount.max()) + 1e-6)
    if amount.max() < 0.15 or not inside.any():
        return None
    mask = np.zeros(scene.shape, bool)
    mask[box] = inside
    return mask


def _cap(scene: Scene, side: str, thick_mm: float, mask: np.ndarray) -> None:
    """Thickened pleura over the apex, irregular towards the lung."""
    box = box_of(scene.of(f"upper_lobe_{side}"))
    if box is None:
        return
    # The field is drawn for the whole volume, so that both sides may share a generator's start.
    rng = scene.rng(NAME, 2 if side == "left" else 3)
    uneven = smooth_field(rng, scene.shape, scene.spacing_mm, 9.0, box)
    reach = thick_mm * ramp(height(scene, box, side), 0.84, 0.98) * np.clip(1 + 0.6 * uneven, 0.1, 1.8)
    voxel = float(np.mean(scene.spacing_mm))
    amount = np.clip((reach - wall_mm(scene, box)) / voxel + 0.3, 0, 1) * (reach > 0.3)
    amount = (amount * open_lung(scene, box, f"upper_lobe_{side}")).astype(np.float32)
    scene.fill(box, amount, HU)
    mask[box] |= amount > 0.5


def rows(facts: Facts) -> list[Facts]:
    share = {"size": SIZE_OF[facts["severity"]], "severity": facts["severity"], "pattern": facts["pattern"]}
    if facts["pattern"] == "apical":
        return [{"name": NAME, "side": facts["side"], "lobe": "upper_lobes" if facts["side"] == "bilateral" else
                 f"upper_lobe_{facts['side']}", **share}]  # fmt: skip
    return [{"name": NAME, **{key: band[key] for key in ("side", "lobe", "size_mm")}, **share} for band in facts["bands"]]
