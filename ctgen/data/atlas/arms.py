"""Arms beside the body: most patients hold them above the head, where the scan does not reach."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ctgen.data.atlas.added_labels import BODY
from ctgen.data.atlas.findings.scene import Scene
from ctgen.data.atlas.patient import Patient

_RADIUS_MM = 44.0
_LAYERS_HU = ((-100.0, 0.0), (52.0, 8.0), (850.0, 33.0), (80.0, 38.0))
"""Fat, muscle, cortex and marrow of the humerus, and how deep under the skin each begins, in mm."""


def lay_arms(scene: Scene, patient: Patient) -> None:
    """Draw both arms where the field of view has room for them; changes ``scene.hu`` and ``scene.labels`` outside the body."""
    names = {name: label for label, name in scene.tissue.names.items()}
    step_d, step_h, step_w = scene.spacing_mm
    body = scene.labels > 0
    if not body.any():
        return
    air = ~body
    y = np.arange(scene.shape[1])[:, None] * step_h
    x = np.arange(scene.shape[2])[None, :] * step_w
    radius = _RADIUS_MM * patient.fat**0.25
    middle = float(np.argwhere(body.any((0, 2))).mean()) * step_h
    columns = np.asarray(body.any(1))
    levels = np.flatnonzero(np.asarray(columns.any(1)))
    # The wider the fat, the deeper all lies that is under it.
    deeper = [depth * (patient.fat**0.5 if layer else 1.0) for layer, (_, depth) in enumerate(_LAYERS_HU)]
    for side, edges in (("right", columns.argmax(1)), ("left", columns.shape[1] - 1 - columns[:, ::-1].argmax(1))):
        out = 1 if side == "left" else -1
        line = ndimage.gaussian_filter1d(edges[levels] * step_w, 30.0 / step_d, mode="nearest") + out * (radius + 3.0)
        for level, centre in zip(levels, line, strict=True):
            inner = radius - np.sqrt(((y - middle) / 1.1) ** 2 + (x - centre) ** 2)
            free = air[level] & (inner > -step_w)
            if not free.any():
                continue
            hu = scene.hu[level]
            for (value, _), depth in zip(_LAYERS_HU, deeper, strict=True):
                cover = np.clip((inner - depth) / step_w + 0.5, 0, 1)
                np.copyto(hu, (hu + cover * (value - hu)).astype(np.float32), where=free)
            scene.labels[level][free & (inner > 0)] = BODY
            scene.labels[level][free & (inner > deeper[2])] = names[f"humerus_{side}"]


def wider(area_mm2: NDArray[np.float64], patient: Patient) -> NDArray[np.float64]:
    """The section that rays cross, with the arms."""
    return area_mm2 * 1.15 if patient.arms == "down" else area_mm2
