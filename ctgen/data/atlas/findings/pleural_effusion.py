"""Pleural effusion: fluid in the dependent pleural space or loculated, lung pressed away from it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ctgen.data.atlas.draws import bounded_normal
from ctgen.data.atlas.findings.loculated import draw_lens, lens
from ctgen.data.atlas.findings.scene import Drawing, Facts, Others, Scene, box_of, ramp
from ctgen.data.atlas.tissue import Guides

Array = NDArray[Any]
NAME = "pleural_effusion"

_DEPTH_MM = {"small": (12.0, 20.0), "moderate": (24.0, 36.0), "large": (48.0, 68.0)}
_FRONT = {"small": 0.55, "moderate": 0.38, "large": 0.12}
"""How far forward the fluid reaches: fraction of the lung's depth from its front."""
_TOP = {"small": 0.5, "moderate": 0.7, "large": 1.15}
"""How high it reaches: fraction of the lung's height."""
LOCULATED = 0.15
"""Fraction of effusions."""


def draw(rng: np.random.Generator, others: Others, drawing: Drawing) -> Facts:
    side = str(rng.choice(["left", "right", "bilateral"], p=[0.37, 0.38, 0.25]))
    parts: list[Facts] = []
    for each in ("right", "left"):
        size = str(rng.choice(["small", "moderate", "large"], p=[0.45, 0.35, 0.2]))
        if side == "bilateral" and size == "large":
            size = "moderate"
        depth = float(rng.uniform(*_DEPTH_MM[size]))
        if side in (each, "bilateral"):
            parts.append({"side": each, "size": size, "depth_mm": round(depth, 1)})
    facts: Facts = {
        "name": NAME,
        "kind": "free",
        "side": side,
        "parts": parts,
        "hu": round(bounded_normal(rng, 9, 4, 0, 18), 1),
        "collapse": any(part["size"] != "small" for part in parts),
    }
    if rng.uniform() < LOCULATED:
        part = parts[int(rng.integers(len(parts)))]
        part.update(draw_lens(rng, part["depth_mm"]))
        # What makes adhesions is thicker than water, and such fluid collapses little lung.
        facts.update(kind="loculated", side=part["side"], parts=[part], hu=round(facts["hu"] + 6, 1), collapse=False)
    return facts


def thickness(points_mm: Array, facts: Facts, side: str, guides: Guides) -> Array:
    """mm of free fluid on the pleura at atlas points (3, ...): most at the back and the base, thinning forwards and upwards."""
    for part in facts["parts"]:
        if part["side"] == side:
            low, high = guides.lungs_mm[side]
            back = (points_mm[1] - low[1]) / (high[1] - low[1])
            up = (points_mm[0] - low[0]) / (high[0] - low[0])
            rise = np.clip(1 - up / _TOP[part["size"]], 0, 1)
            return np.asarray(part["depth_mm"] * ramp(back, _FRONT[part["size"]], 0.97) * rise**0.55)
    return np.zeros(points_mm.shape[1:])


def wet_mm(points_mm: Array, wall_mm: Array, facts: Facts, side: str, guides: Guides) -> Array:
    """How far from the lung's surface fluid reaches at atlas points (3, N), which are ``wall_mm`` (N,) from it."""
    if facts["kind"] == "free" or facts["side"] != side:
        return thickness(points_mm, facts, side, guides)
    found = lens(points_mm, facts["parts"][0], guides, wall_mm)
    # In the fissure: as far as the point itself lies, if it lies in the lens or close to it.
    return found.layer if found.direction is None else np.where(found.depth < found.layer + 10.0, wall_mm, 0.0)


def press(scene: Scene, facts: Facts) -> bool:
    """Fill the pleural space and move the lung: changes ``scene.coordinates``, and ``scene.fluid`` and ``scene.collapsed``,
    which stay None if no fluid is in the field of view.
    """
    guides, tissue = scene.guides, scene.tissue
    wall_cell = np.array(tissue.spacing_mm) * 2
    slope = _slope(guides, wall_cell)
    fluid = np.zeros(scene.shape, np.float32)
    collapsed = np.zeros(scene.shape, np.float32)
    voxel = float(np.mean(scene.spacing_mm))
    for part in facts["parts"]:
        box = box_of(scene.of(f"lobe_{part['side']}"))
        if box is None:
            continue
        lung = scene.of(f"lobe_{part['side']}")[box]
        points = scene.atlas_mm(box)[:, lung]
        where = points / wall_cell[:, None]
        depth = ndimage.map_coordinates(guides.wall_mm, where, order=1, mode="nearest")
        if facts["kind"] == "loculated":
            depth, layer, direction = lens(points, part, guides, depth)
        else:
            layer, direction = thickness(points, facts, part["side"], guides), None
        amount = np.clip((layer - depth) / voxel + 0.5, 0, 1)
        beyond = np.maximum(depth - layer, 0)
        # Lung at distance d from the wall shows what was at d - shift: pressed most at the fluid, not at all far away.
        shift = np.where(layer > 0, np.minimum(layer, depth) * np.exp(-beyond / np.maximum(1.8 * layer, 6.0)), 0)
        if direction is None:
            direction = np.stack([ndimage.map_coordinates(axis, where, order=1, mode="nearest") for axis in slope])
        moved = scene.coordinates[(slice(None), *box)]
        moved[:, lung] -= (direction * shift * (1 - amount) / np.array(tissue.spacing_mm)[:, None]).astype(np.float32)
        fluid[box][lung] = amount
        light = part["size"] == "small" or not facts["collapse"]
        reach = 5.0 if light else 9.0 + 0.15 * part["depth_mm"]
        strength = 0.35 if light else 0.95
        rim = strength * np.exp(-((beyond / reach) ** 2)) * ramp(layer, 2.0, 14.0) * (1 - amount)
        collapsed[box][lung] = rim
    if not (fluid > 0.5).any():
        return False
    scene.fluid, scene.collapsed = fluid, collapsed
    scene.masks[NAME] = fluid > 0.5
    if facts["collapse"] and (collapsed > 0.5).any():
        scene.masks["atelectasis"] = collapsed > 0.5
    return False


def _measured(scene: Scene, facts: Facts) -> Facts:
    """The facts with ``size_mm`` per side (the widest ball that fits into the fluid) and without a side that holds none."""
    parts = []
    for part in facts["parts"]:
        mask = scene.masks[NAME] & scene.of(f"lobe_{part['side']}")
        box = box_of(mask)
        if box is not None:
            widest = float(ndimage.distance_transform_edt(np.pad(mask[box], 1), sampling=scene.spacing_mm).max())
            parts.append({**part, "size_mm": max(1, round(2 * widest - float(np.mean(scene.spacing_mm))))})
    side = facts["side"] if len(parts) == len(facts["parts"]) else parts[0]["side"]
    collapse = facts["collapse"] and scene.collapsed is not None and bool((scene.collapsed > 0.5).any())
    return {**facts, "side": side, "parts": parts, "collapse": collapse}


def paint(scene: Scene, facts: Facts) -> Facts | None:
    """Fluid and collapsed lung into ``scene.hu``; returns the facts as measured, or None if ``press`` found no place."""
    fluid, collapsed = scene.fluid, scene.collapsed
    if fluid is None or collapsed is None or (box := box_of((fluid > 0) | (collapsed > 0.02), 2)) is None:
        return None
    scene.fill(box, collapsed[box], 45.0 + 45.0 * min(scene.contrast, 1.0), seal=False)
    part, amount = scene.hu[box], fluid[box]
    part += amount * (facts["hu"] - part)
    scene.fill(box, amount, facts["hu"])
    return _measured(scene, facts)


def rows(facts: Facts) -> list[Facts]:
    """Of the fluid, and of the lung that it collapses."""
    out = []
    for part in facts["parts"]:
        row = {"name": NAME, "side": part["side"], "size": part["size"], "size_mm": part["size_mm"], "kind": facts["kind"]}
        out.append({**row, "place": part["place"]} if "place" in part else row)
        if facts["collapse"] and part["size"] != "small":
            size = "moderate" if part["size"] == "large" else "small"
            out.append({"name": "atelectasis", "side": part["side"], "size": size, "kind": "passive"})
    return out


_slopes: dict[int, Array] = {}


def _slope(guides: Guides, cell: Array) -> Array:
    """Gradient of the distance from the lung's surface; shorter than 1 in the lung's middle, where it has no direction."""
    if id(guides) not in _slopes:
        smooth = ndimage.gaussian_filter(guides.wall_mm, 8.0 / cell)
        _slopes.clear()
        _slopes[id(guides)] = np.stack(np.gradient(smooth, *cell)).astype(np.float32)
    return _slopes[id(guides)]
