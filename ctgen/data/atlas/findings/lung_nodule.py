"""Lung nodules: solid, ground-glass, part-solid or calcified; round to spiculated; one or two."""

from __future__ import annotations

import numpy as np

from ctgen.data.atlas.draws import stream
from ctgen.data.atlas.findings import pleural_effusion
from ctgen.data.atlas.findings.scene import Drawing, Facts, Others, Scene
from ctgen.data.atlas.tissue import LOBES

NAME = "lung_nodule"
_SHARE = {"solid": 0.55, "ground-glass": 0.15, "part-solid": 0.12, "calcified": 0.18}
_GLASS_HU = (-660.0, -500.0)
_CALCIUM_HU = (280.0, 700.0)


def draw(rng: np.random.Generator, others: Others, drawing: Drawing) -> Facts:
    """Nodules keep clear of the lobe that a consolidation would take and of the fluid that an effusion would bring."""
    guides, smallest_mm = drawing.guides, drawing.smallest_mm
    count = int(rng.choice([1, 2], p=[0.75, 0.25]))
    taken = {others["consolidation"]["lobe"]}
    nodules: list[Facts] = []
    # Kinds have a stream of their own: whichever are allowed, size, place and shape stay.
    kinds = stream(drawing.seed, drawing.index, "nodule_kind")
    for _ in range(count):
        lobe = str(rng.choice([name for name in LOBES if name not in taken]))
        taken.add(lobe)
        size = float(np.exp(rng.uniform(np.log(max(5.0, smallest_mm)), np.log(max(28.0, 2 * smallest_mm)))))
        margin = str(rng.choice(["smooth", "lobulated", "spiculated"], p=[0.5, 0.3, 0.2]))
        if size < 9:
            margin = "smooth"
        points = guides.lobe_points[lobe]
        side = "left" if lobe.endswith("left") else "right"
        wet = pleural_effusion.wet_mm(points[:, :3].T, points[:, 3], others[pleural_effusion.NAME], side, guides)
        fitting = points[(points[:, 3] > size / 2 + 4 + 1.5 * wet)]
        # A lobe that is mostly under water still has its driest point.
        if not len(fitting):
            fitting = points[np.argsort(points[:, 3] - 1.5 * wet)[-20:]]
        anchor = fitting[int(rng.integers(len(fitting))), :3]
        nodules.append(
            {
                "lobe": lobe,
                "side": side,
                "size_mm": round(size),
                "margin": margin,
                "hu": round(float(rng.uniform(20, 60)), 1),
                "anchor_mm": [round(float(value), 1) for value in anchor],
                "shape_seed": int(rng.integers(2**31)),
            }
        )
    for nodule in nodules:
        nodule.update(_draw_kind(kinds, drawing, nodule))
    nodules.sort(key=lambda nodule: -nodule["size_mm"])
    return {"name": NAME, "nodules": nodules}


def _draw_kind(rng: np.random.Generator, drawing: Drawing, nodule: Facts) -> Facts:
    chance, glass, calcium, core = rng.uniform(), rng.uniform(*_GLASS_HU), rng.uniform(*_CALCIUM_HU), rng.uniform(0.4, 0.62)
    # A core of less than two voxels would not show; a large calcified nodule is no granuloma.
    fitting = {"part-solid": nodule["size_mm"] >= 10, "calcified": nodule["size_mm"] <= max(14, 1.5 * drawing.smallest_mm)}
    allowed = drawing.config.nodule_kinds
    kinds = [kind for kind in allowed if fitting.get(kind, True)] or ["solid"]
    steps = np.cumsum([_SHARE[kind] for kind in kinds])
    kind = kinds[int(np.searchsorted(steps / steps[-1], chance))]
    margin = "smooth" if kind == "calcified" else nodule["margin"]
    extra: Facts = {"ground-glass": {"glass_hu": round(float(glass))}, "calcified": {"calcium_hu": round(float(calcium))}}
    extra["part-solid"] = {"glass_hu": round(float(glass)), "core": round(float(core), 2)}
    return {"kind": kind, "margin": margin, **extra.get(kind, {})}


def paint(scene: Scene, facts: Facts) -> Facts | None:
    """Returns the facts of the nodules in the field of view, or None."""
    seen = []
    mask = np.zeros(scene.shape, bool)
    for nodule in facts["nodules"]:
        if _paint_one(scene, nodule, mask):
            seen.append(nodule)
    scene.masks[NAME] = mask
    return {**facts, "nodules": seen} if seen else None


def rows(facts: Facts) -> list[Facts]:
    out = []
    for nodule in facts["nodules"]:
        size = "small" if nodule["size_mm"] < 10 else "moderate" if nodule["size_mm"] <= 20 else "large"
        row = {"name": NAME, **{key: nodule[key] for key in ("side", "lobe", "size_mm", "margin", "kind")}, "size": size}
        if nodule["kind"] == "part-solid":
            row["core_mm"] = max(1, round(nodule["core"] * nodule["size_mm"]))
        out.append(row)
    return out


def _paint_one(scene: Scene, nodule: Facts, mask: np.ndarray) -> bool:
    spacing = np.array(scene.spacing_mm)
    centre = scene.voxel_of(np.array(nodule["anchor_mm"]))
    radius = nodule["size_mm"] / 2
    reach = np.ceil((radius * 1.6) / spacing).astype(int) + 2
    low, high = np.floor(centre).astype(int) - reach, np.ceil(centre).astype(int) + reach + 1
    if (np.rint(centre) < 0).any() or (np.rint(centre) >= np.array(scene.shape)).any():
        return False
    box = tuple(slice(max(0, int(a)), min(n, int(b))) for a, b, n in zip(low, high, scene.shape, strict=True))
    axes = [(np.arange(part.start, part.stop) - c) * s for part, c, s in zip(box, centre, spacing, strict=True)]
    offset = np.stack(np.meshgrid(*axes, indexing="ij"))
    distance = np.sqrt((offset**2).sum(0)) + 1e-6
    outline = radius * _outline(offset / distance, nodule)
    # Partial volume: a voxel is covered in proportion along its mean width.
    cover = np.clip((outline - distance) / float(spacing.mean()) + 0.5, 0, 1).astype(np.float32)
    cover *= scene.free((box[0], box[1], box[2]))
    part = scene.hu[box]
    if nodule["kind"] in ("ground-glass", "part-solid"):
        part += cover * np.maximum(nodule["glass_hu"] - part, 0)
    if nodule["kind"] == "part-solid":
        core = np.clip((nodule["core"] * outline - distance) / float(spacing.mean()) + 0.5, 0, 1).astype(np.float32)
        part += core * scene.free((box[0], box[1], box[2])) * np.maximum(nodule["hu"] - part, 0)
    elif nodule["kind"] == "calcified":
        part += cover * np.maximum(nodule["calcium_hu"] - part, 0)
    elif nodule["kind"] == "solid":
        part += cover * np.maximum(nodule["hu"] + 25.0 * scene.contrast - part, 0)
    inside = cover > 0.5
    mask[box] |= inside
    return bool(inside.any())


def _outline(direction: np.ndarray, nodule: Facts) -> np.ndarray:
    """Radius over the largest radius, by direction (3, ...); at most 1 except for the tips of spicules."""
    rng = np.random.default_rng(nodule["shape_seed"])
    bumps = {"smooth": 0.05, "lobulated": 0.16, "spiculated": 0.1}[nodule["margin"]]
    axis = rng.normal(size=3)
    axis /= np.linalg.norm(axis)
    along = np.tensordot(axis, direction, 1)
    shape = 1 - rng.uniform(0.0, 0.2) * (1 - along**2)
    for _ in range(4):
        wave = np.tensordot(rng.normal(size=3) * 2.2, direction, 1) + rng.uniform(0, 6.3)
        shape = shape - bumps / 4 * (1 + np.sin(wave))
    if nodule["margin"] == "spiculated":
        for _ in range(14):
            tip = rng.normal(size=3)
            tip /= np.linalg.norm(tip)
            shape = shape + 0.5 * np.clip((np.tensordot(tip, direction, 1) - 0.94) / 0.06, 0, 1) ** 2
    return np.asarray(shape)
