"""Bronchiectasis: bronchi that stay wide towards the pleura, with walls, each beside its thinner artery (the signet ring)."""

from __future__ import annotations

import numpy as np

from ctgen.data.atlas.airways import load_bronchi
from ctgen.data.atlas.findings.scene import SIZE_OF, Drawing, Facts, Others, Scene
from ctgen.data.atlas.findings.tubes import Tubes
from ctgen.data.atlas.tissue import LOBES

NAME = "bronchiectasis"
_LUMEN_MM = {"mild": 2.2, "moderate": 3.1, "severe": 4.3}
"""Radius; a healthy bronchus there has about 1.5."""
_WALL_MM = {"mild": 1.1, "moderate": 1.4, "severe": 1.7}


def draw(rng: np.random.Generator, others: Others, drawing: Drawing) -> Facts:
    """One or two lobes, lower and middle most often; not one that a consolidation would fill."""
    severity = str(rng.choice(["mild", "moderate", "severe"], p=[0.4, 0.4, 0.2]))
    kind = str(rng.choice(["cylindrical", "varicose", "cystic"], p=[0.6, 0.25, 0.15]))
    count = int(rng.choice([1, 2], p=[0.55, 0.45]))
    weights = np.array([{"lower": 0.28, "middle": 0.2, "upper": 0.12}[lobe.split("_")[0]] for lobe in LOBES])
    weights *= np.array([lobe != others["consolidation"]["lobe"] for lobe in LOBES])
    picked = rng.choice(len(LOBES), size=count, replace=False, p=weights / weights.sum())
    lobes = [LOBES[int(place)] for place in sorted(picked)]
    return {"name": NAME, "severity": severity, "kind": kind, "lobes": lobes, "shape_seed": int(rng.integers(2**31))}


def paint(scene: Scene, facts: Facts) -> Facts | None:
    """The lobes in which it shows."""
    rng = np.random.default_rng(facts["shape_seed"])
    bronchi, tubes = load_bronchi(), Tubes(scene)
    base, wall = _LUMEN_MM[facts["severity"]], _WALL_MM[facts["severity"]]
    own = rng.uniform(0.75, 1.25, len(bronchi.start))
    ill = rng.uniform(size=len(bronchi.start)) < 0.85
    turn = rng.uniform(0, 6.28, len(bronchi.start))
    radius = np.zeros(len(bronchi.start))
    lobes = []
    for lobe in facts["lobes"]:
        shown = False
        for piece in range(len(bronchi.start)):
            generation = int(bronchi.generation[piece])
            if bronchi.lobe[piece] != lobe or not 1 <= generation <= 5:
                continue
            parent = int(bronchi.parent[piece])
            # Once a bronchus is healthy, so are those beyond it.
            if generation > 2 and (not ill[piece] or radius[parent] == 0):
                continue
            radius[piece] = base * (1 + 0.12 * (2 - min(generation, 4))) * own[piece]
            end = radius[piece]
            if facts["kind"] != "cylindrical" and generation >= 3:
                end *= 1.35 if facts["kind"] == "varicose" else 1.7
            start = max(0.85 * radius[piece], 0.8 * radius[parent]) if radius[parent] else radius[piece]
            shown |= tubes.add(piece, (start, end), wall, (lobe,))
            if generation >= 2:
                artery = max(0.75 * bronchi.radius_mm[piece], 1.4)
                tubes.beside(piece, end + wall + 0.7 * artery, artery, turn[piece], (lobe,))
        if shown:
            lobes.append(lobe)
    mask = tubes.paint()
    if not lobes or not mask.any():
        return None
    scene.masks[NAME] = mask
    return {**facts, "lobes": lobes}


def rows(facts: Facts) -> list[Facts]:
    share = {"size": SIZE_OF[facts["severity"]], "severity": facts["severity"], "kind": facts["kind"]}
    return [
        {"name": NAME, "side": "left" if lobe.endswith("left") else "right", "lobe": lobe, **share} for lobe in facts["lobes"]
    ]
