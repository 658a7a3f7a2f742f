"""Enlarged lymph nodes at named stations of the mediastinum, the hila and the axillae."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ctgen.data.atlas.findings.mediastinum import BONES, bed, blend, covered, outside_mm, vessels
from ctgen.data.atlas.findings.scene import Drawing, Facts, Others, Scene
from ctgen.data.atlas.findings.shapes import box_around, offsets
from ctgen.data.atlas.landmarks import STATIONS, load_landmarks

NAME = "lymphadenopathy"
_SHARE = {
    "paratracheal right": 0.22,
    "paratracheal left": 0.1,
    "subcarinal": 0.2,
    "hilar right": 0.13,
    "hilar left": 0.1,
    "prevascular": 0.12,
    "axillary right": 0.065,
    "axillary left": 0.065,
}
_MANTLE_MM = 3.0
"""Fat around a node that bulges into the lung."""
ENLARGED_MM = 10
"""Short axis from which a node counts as enlarged."""
_TAKEN_MM = 1.0
"""Fat that stays between a node and a vessel."""


def draw(rng: np.random.Generator, others: Others, drawing: Drawing) -> Facts:
    """One to five nodes, no more than two at a station, the largest first."""
    count = int(rng.choice([1, 2, 3, 4, 5], p=[0.32, 0.28, 0.2, 0.12, 0.08]))
    low, high = (11.0, 17.0) if rng.uniform() < 0.65 else (15.0, 26.0)
    least = 1.25 * drawing.smallest_mm
    share = np.array([_SHARE[name] for name in STATIONS])
    slots = rng.permutation(np.repeat(np.arange(len(STATIONS)), 2))
    chances = rng.uniform(size=len(slots)) ** (1 / share[slots])
    nodes: list[Facts] = []
    for rank, place in enumerate(np.argsort(-chances, kind="stable")):
        station = STATIONS[int(slots[place])]
        node: Facts = {
            "station": station,
            "slot": sum(other["station"] == station for other in nodes),
            "short_mm": round(max(float(rng.uniform(low, high)), least), 1),
            "longer": [round(float(rng.uniform(1.15, 1.6)), 2), round(float(rng.uniform(1.0, 1.35)), 2)],
            "turn": round(float(rng.uniform(0, 3.14)), 2),
            "hu": round(float(rng.uniform(32, 52)), 1),
        }
        if rank < count:
            nodes.append(node)
    nodes.sort(key=lambda node: -node["short_mm"])
    return {"name": NAME, "nodes": nodes}


def paint(scene: Scene, facts: Facts) -> Facts | None:
    """The nodes that show and are enlarged, each with ``size_mm``, its short axis as measured in an axial slice; or None."""
    mask = np.zeros(scene.shape, bool)
    seen = []
    for node in facts["nodes"]:
        short = _paint_one(scene, node, mask)
        if short is not None:
            seen.append({**node, "size_mm": short})
    if not seen:
        return None
    scene.masks[NAME] = mask
    seen.sort(key=lambda node: -node["size_mm"])
    return {**facts, "nodes": seen}


def _paint_one(scene: Scene, node: Facts, mask: NDArray[np.bool_]) -> int | None:
    """The short axis in mm; None, and nothing painted, if there is no room for an enlarged node."""
    centre = scene.voxel_of(load_landmarks().stations_mm[node["station"]][node["slot"]])
    half = node["short_mm"] / 2
    box = box_around(scene, centre, half * max(node["longer"]) + 3)
    if box is None:
        return None
    voxel = float(np.mean(scene.spacing_mm))
    away = offsets(scene, box, centre)
    turned = np.cos(node["turn"]) * away[1] + np.sin(node["turn"]) * away[2]
    across = np.cos(node["turn"]) * away[2] - np.sin(node["turn"]) * away[1]
    far = np.sqrt((away**2).sum(0)) + 1e-3
    shape = np.sqrt(
        (turned / (half * node["longer"][0])) ** 2 + (across / half) ** 2 + (away[0] / (half * node["longer"][1])) ** 2
    )
    shape = shape / (1 + 0.05 * np.sin(2.6 * turned / far + 3.1 * away[0] / far + 2 * node["turn"]))
    outline = far * (1 - 1 / np.maximum(shape, 1e-3))
    solid = vessels(scene, box) | scene.in_box(box, *BONES, "heart", "atrial_app", "trachea", "esophagus", "thyroid")
    kept = outside_mm(scene, solid, smooth_mm=0.8)
    amount = covered(np.maximum(outline, _TAKEN_MM - kept), voxel) * scene.free(box)
    # A node is no node twice: of two that meet, the second keeps to its side.
    inside = amount > 0.5
    short = _short_mm(inside, scene)
    if short is None or round(short) < ENLARGED_MM:
        return None
    around = covered(outline - _MANTLE_MM, voxel) * scene.free(box)
    if not node["station"].startswith("axillary"):
        bed(scene, box, around)
    blend(scene, box, amount, node["hu"] + 38.0 * min(scene.contrast, 1.0))
    scene.take(box, amount)
    mask[box] |= inside
    return round(short)


def _short_mm(inside: NDArray[np.bool_], scene: Scene) -> float | None:
    """The smaller axis of the ellipse with the moments of the largest axial section; None if there is none."""
    areas = inside.sum((1, 2))
    if not areas.any():
        return None
    points = np.argwhere(inside[int(areas.argmax())]) * np.array(scene.spacing_mm[1:])
    points = points - points.mean(0)
    own = np.array(scene.spacing_mm[1:]) ** 2 / 12
    a, b = (points[:, 0] ** 2).mean() + own[0], (points[:, 1] ** 2).mean() + own[1]
    c = (points[:, 0] * points[:, 1]).mean()
    least = (a + b) / 2 - np.sqrt(((a - b) / 2) ** 2 + c**2)
    return float(4 * np.sqrt(max(least, 0.0)))


def rows(facts: Facts) -> list[Facts]:
    out = []
    for node in facts["nodes"]:
        size = "small" if node["size_mm"] < 15 else "moderate" if node["size_mm"] <= 20 else "large"
        row = {"name": NAME, "station": node["station"], "size": size, "size_mm": node["size_mm"]}
        side = node["station"].split()[-1]
        out.append(row | ({"side": side} if side in ("right", "left") else {}))
    return out
