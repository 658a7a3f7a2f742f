"""Medical material: ports and central lines, pacemakers, sternal wires, coronary stents."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctgen.data.atlas.atlas import load_atlas
from ctgen.data.atlas.findings.scene import Drawing, Facts, Others, Scene
from ctgen.data.atlas.findings.shapes import box_around, edge_mm, offsets
from ctgen.data.atlas.findings.vessels import brighten, coronaries, curve, places, strand
from ctgen.data.atlas.tissue import widen

Array = NDArray[Any]
NAME = "medical_material"
KINDS = ("port", "central_line", "pacemaker", "sternal_wires", "coronary_stent")
_SHARE = (0.3, 0.12, 0.22, 0.2, 0.16)
_METAL_HU, _STEEL_HU, _PLASTIC_HU = 3300.0, 7000.0, 1300.0
"""The scanner ends at 3071 HU. Wires are thinner than voxels: of solid steel a part still reaches 2000 HU."""
_SIZE = {"pacemaker": "large", "port": "moderate", "sternal_wires": "moderate"}

# Points in mm of the widened atlas.
_VENA_CAVA = ((252, 135, 206), (240, 140, 204), (225, 145, 205), (210, 146, 206), (195, 143, 210), (184, 141, 212))
_RIGHT_VEIN = ((287, 129, 193), (275, 129, 200), (262, 133, 204), *_VENA_CAVA)
_LEFT_VEIN = ((294, 133, 252), (284, 131, 246), (273, 123, 232), (264, 121, 220), (256, 124, 211), *_VENA_CAVA[1:])
_NECK = ((330, 133, 188), (310, 131, 189))
_UNDER_CLAVICLE = {"right": ((292, 112, 168), (293, 122, 182)), "left": ((292, 112, 284), (297, 124, 268))}
_POCKET = {"right": (268.0, 100.0, 158.0), "left": (268.0, 100.0, 296.0)}
_VENTRICLE = ((174, 137, 211), (162, 131, 213), (151, 122, 222), (143, 114, 242), (138, 108, 266), (135, 105, 290))
_ATRIUM = ((174, 136, 211), (163, 129, 212), (157, 119, 212), (160, 111, 215), (167, 109, 219))


def draw(rng: np.random.Generator, others: Others, drawing: Drawing) -> Facts:
    """One or two things; ports mostly on the right, pacemakers on the left."""
    count = int(rng.choice([1, 2], p=[0.72, 0.28]))
    picked = rng.choice(len(KINDS), size=count, replace=False, p=_SHARE)
    port, pacer = str(rng.choice(["right", "left"], p=[0.8, 0.2])), str(rng.choice(["left", "right"], p=[0.87, 0.13]))
    tip, leads = float(rng.uniform(190, 222)), int(rng.choice([1, 2], p=[0.4, 0.6]))
    vessel = str(rng.choice(["LAD", "LCX", "RCA"], p=[0.5, 0.2, 0.3]))
    wires, begin, long = int(rng.integers(5, 8)), float(rng.uniform(8, 22)), float(rng.uniform(14, 30))
    if pacer == port:
        port = "left" if pacer == "right" else "right"
    facts: dict[str, Facts] = {
        "port": {"side": port, "tip_mm": round(tip, 1)},
        "central_line": {"side": "right", "tip_mm": round(tip, 1)},
        "pacemaker": {"side": pacer, "leads": leads},
        "sternal_wires": {"wires": wires},
        "coronary_stent": {"vessel": vessel, "begin_mm": round(begin, 1), "size_mm": round(long)},
    }
    names = [KINDS[int(place)] for place in sorted(picked)]
    if names == ["port", "central_line"]:
        names = ["port"]
    items = [{"kind": name, **facts[name]} for name in names]
    return {"name": NAME, "items": items, "shape_seed": int(rng.integers(2**31))}


def paint(scene: Scene, facts: Facts) -> Facts | None:
    """Returns the items in the field of view."""
    mask = np.zeros(scene.shape, bool)
    seen = []
    for item in facts["items"]:
        rng = np.random.default_rng((facts["shape_seed"], KINDS.index(item["kind"])))
        shown = _PAINTERS[item["kind"]](scene, item, mask, rng)
        if shown is not None:
            seen.append(shown)
    if not seen:
        return None
    scene.masks[NAME] = mask
    return {**facts, "items": seen}


def rows(facts: Facts) -> list[Facts]:
    keep = ("kind", "side", "leads", "wires", "vessel", "size_mm")
    return [
        {"name": NAME, "size": _SIZE.get(item["kind"], "small"), **{key: item[key] for key in keep if key in item}}
        for item in facts["items"]
    ]


def _port(scene: Scene, item: Facts, mask: Array, rng: np.random.Generator) -> Facts | None:
    """A titanium chamber under the skin, and its catheter by the subclavian vein into the superior vena cava."""
    side = item["side"]
    place = _under_skin(scene, np.array(_POCKET[side]), 12.0)
    shown = False
    route = [*_UNDER_CLAVICLE[side], *(_RIGHT_VEIN if side == "right" else _LEFT_VEIN)]
    points, there = places(scene, _until(curve(np.array(route, float), 3.0), item["tip_mm"]))
    if place is not None:
        centre, normal = place
        offset_box = box_around(scene, centre, 20.0)
        if offset_box is not None:
            shown = True
            offset = offsets(scene, offset_box, centre)
            high = normal[0] * offset[0] + normal[1] * offset[1] + normal[2] * offset[2]
            radius = np.sqrt(np.maximum((offset**2).sum(0) - high**2, 0))
            edge = edge_mm(float(np.mean(scene.spacing_mm)))
            body = np.clip((12.0 - radius) / edge + 0.5, 0, 1) * np.clip((5.0 - np.abs(high)) / edge + 0.5, 0, 1)
            # ``high`` grows towards the skin: there a silicone membrane closes the chamber.
            hollow = np.clip((7.0 - radius) / edge + 0.5, 0, 1) * np.clip((high + 2.5) / edge + 0.5, 0, 1) * body
            part = scene.hu[offset_box]
            part += (body * np.maximum(_METAL_HU - part, 0)).astype(np.float32)
            part += (0.85 * hollow * np.minimum(250.0 - part, 0)).astype(np.float32)
            mask[offset_box] |= body > 0.4
            link = curve(np.stack([centre, points[0]]) if there[0] else np.stack([centre, centre]), 1.0)
            if there[0]:
                points, there = np.concatenate([link[:-1], points]), np.concatenate([np.ones(len(link) - 1, bool), there])
    shown |= _wire(scene, mask, points, there, 1.3, _PLASTIC_HU)
    return item if shown else None


def _central_line(scene: Scene, item: Facts, mask: Array, rng: np.random.Generator) -> Facts | None:
    """From the right internal jugular vein."""
    route = _until(curve(np.array([*_NECK, *_RIGHT_VEIN], float), 3.0), item["tip_mm"])
    return item if _wire(scene, mask, *places(scene, route), 1.2, _PLASTIC_HU) else None


def _pacemaker(scene: Scene, item: Facts, mask: Array, rng: np.random.Generator) -> Facts | None:
    """A flat can before the pectoral muscle; leads to the right ventricle's apex and the right atrium."""
    side = item["side"]
    place = _under_skin(scene, np.array(_POCKET[side]), 14.0)
    shown = False
    centre = None
    if place is not None:
        centre, normal = place
        box = box_around(scene, centre, 32.0)
        if box is not None:
            shown = True
            offset = offsets(scene, box, centre)
            high = normal[0] * offset[0] + normal[1] * offset[1] + normal[2] * offset[2]
            up = np.array([1.0, 0.0, 0.0]) - normal[0] * normal
            up /= np.sqrt((up**2).sum())
            along = up[0] * offset[0] + up[1] * offset[1] + up[2] * offset[2]
            across = np.sqrt(np.maximum((offset**2).sum(0) - high**2 - along**2, 0))
            edge = edge_mm(float(np.mean(scene.spacing_mm)))
            outline = ((np.abs(along) / 21.0) ** 3 + (across / 24.0) ** 3) ** (1 / 3)
            body = np.clip((1 - outline) * 22.0 / edge + 0.5, 0, 1) * np.clip((4.0 - np.abs(high)) / edge + 0.5, 0, 1)
            brighten(scene, box, body.astype(np.float32), _METAL_HU)
            mask[box] |= body > 0.4
    vein = [*_UNDER_CLAVICLE[side], *(_RIGHT_VEIN if side == "right" else _LEFT_VEIN)]
    ends = [_VENTRICLE, _ATRIUM][: item["leads"]]
    for number, end in enumerate(ends):
        # Two leads do not lie in one place.
        route = np.array([*vein, *end], float) + np.array([0.0, 1.2, -1.2]) * (1 if number else -1)
        points, there = places(scene, curve(route, 3.0))
        if centre is not None and there[0]:
            link = curve(np.stack([centre, points[0]]), 1.0)[:-1]
            points, there = np.concatenate([link, points]), np.concatenate([np.ones(len(link), bool), there])
        shown |= _wire(scene, mask, points, there, 0.8, _STEEL_HU * 0.8)
        shown |= _wire(scene, mask, points[-5:], there[-5:], 1.2, _STEEL_HU * 0.8)
    return item if shown else None


def _sternal_wires(scene: Scene, item: Facts, mask: Array, rng: np.random.Generator) -> Facts | None:
    """Loops around the sternum with a twist in front."""
    atlas = load_atlas()
    _, labels = widen(atlas.hu, atlas.labels)
    spacing = np.array(atlas.volume.spacing_mm)
    found = np.argwhere(np.isin(labels, atlas.ids("sternum"))) * spacing
    count = 0
    for height in np.linspace(188, 282, item["wires"]) + rng.uniform(-3, 3, item["wires"]):
        here = found[np.abs(found[:, 0] - height) < 3.0]
        front, back = here[:, 1].min() - 1.0, here[:, 1].max() + 2.5
        left, right = np.quantile(here[:, 2], [0.04, 0.96])
        middle, half = (left + right) / 2, min((right - left) / 2 + 1.5, 17.0)
        turn = np.linspace(0, 2 * np.pi, 40)
        tilt = rng.uniform(-4, 4)
        # Nearly a rectangle: wires run flat along the bone.
        y = (front + back) / 2 - (back - front) / 2 * np.sign(np.cos(turn)) * np.abs(np.cos(turn)) ** 0.6
        x = middle + half * np.sign(np.sin(turn)) * np.abs(np.sin(turn)) ** 0.6
        ring = np.stack([height + tilt * (x - middle) / half, y, x], 1)
        lean = rng.uniform(-3, 3)
        twist = np.array(
            [[height, front, middle], [height + 1, front - 2.5, middle + lean], [height + 3, front - 3.5, middle + 2 * lean]]
        )
        shown = _wire(scene, mask, *places(scene, ring), 0.5, _STEEL_HU)
        shown |= _wire(scene, mask, *places(scene, twist), 0.9, _STEEL_HU)
        count += shown
    return {**item, "wires": count} if count else None


def _coronary_stent(scene: Scene, item: Facts, mask: Array, rng: np.random.Generator) -> Facts | None:
    where, there = places(scene, coronaries()[item["vessel"]])
    steps = np.sqrt((((where[1:] - where[:-1]) * np.array(scene.spacing_mm)) ** 2).sum(1))
    way = np.concatenate([[0.0], np.cumsum(steps)])
    at = np.linspace(item["begin_mm"], item["begin_mm"] + item["size_mm"], 12)
    piece = np.stack([np.interp(at, way, axis) for axis in where.T], 1)
    shown = there[np.minimum(np.searchsorted(way, at), len(way) - 1)]
    return item if _wire(scene, mask, piece, shown, 1.9, 2300.0, 1.0) else None


_PAINTERS = {
    "port": _port,
    "central_line": _central_line,
    "pacemaker": _pacemaker,
    "sternal_wires": _sternal_wires,
    "coronary_stent": _coronary_stent,
}


def _wire(scene: Scene, mask: Array, points: Array, there: Array, radius: float, hu: float, hollow: float = 0.0) -> bool:
    found = strand(scene, points, there, radius, hollow)
    if found is None:
        return False
    box, cover = found
    inside = cover > 0.1
    if inside.any():
        brighten(scene, box, cover, hu)
        mask[box] |= inside
    return bool(inside.any())


def _until(route: Array, lowest_mm: float) -> Array:
    """The part of a descending route above a height."""
    return route[: max(2, int((route[:, 0] >= lowest_mm).sum()))]


def _under_skin(scene: Scene, atlas_mm: Array, depth_mm: float) -> tuple[Array, Array] | None:
    """The voxel position ``depth_mm`` behind the skin in front of an atlas point, and the skin's normal, outwards, in mm."""
    where, there = places(scene, atlas_mm[None])
    if not there[0]:
        return None
    step = np.array(scene.spacing_mm)
    reach = np.maximum(np.rint(12.0 / step), 1).astype(int)
    z, _, x = np.rint(where[0]).astype(int)
    rows = []
    for shift in ((0, 0), (-reach[0], 0), (reach[0], 0), (0, -reach[2]), (0, reach[2])):
        depth, width = z + shift[0], x + shift[1]
        if not (0 <= depth < scene.shape[0] and 0 <= width < scene.shape[2]):
            return None
        body = np.flatnonzero((scene.labels[depth, :, width] > 0) & (scene.hu[depth, :, width] > -400))
        # A body that starts with the first row is cut off by the field of view.
        if not len(body) or body[0] == 0:
            return None
        rows.append(float(body[0]) * step[1])
    slopes = (rows[2] - rows[1]) / (2 * reach[0] * step[0]), (rows[4] - rows[3]) / (2 * reach[2] * step[2])
    normal = np.array([np.clip(slopes[0], -1, 1), -1.0, np.clip(slopes[1], -1, 1)])
    normal /= np.sqrt((normal**2).sum())
    skin = np.array([z * step[0], sum(rows) / len(rows) if max(rows) - min(rows) < 20 else rows[0], x * step[2]])
    return np.asarray((skin - depth_mm * normal) / step), normal
