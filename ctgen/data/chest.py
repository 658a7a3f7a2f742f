"""Is there a chest in this scan? Head, neck and abdomen scans are in every archive (CT-RATE has about 789)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ctgen.volume.body import centre_mm, filled, tissue_mask
from ctgen.volume.resample import PADDING_FLOOR_HU, resample
from ctgen.volume.volume import Volume

COARSE_MM = 4.0
AIR_HU = -500
LUNG_HU = (-970.0, -500.0)
"""Smoothed HU of lung; gas in the bowel and air around the patient are below."""
OUTSIDE_AIR_HU = -945.0
BONE_HU = 250


@dataclass(frozen=True)
class Anatomy:
    """``lung_fraction``: see there; ``centre_mm``: LPS (x, y, z) of the middle of the body, None if there is none."""

    lung_fraction: float
    centre_mm: tuple[float, float, float] | None


def anatomy(volume: Volume) -> Anatomy:
    """Where the body of a canonical volume is, and how much of it is lung; looked for in voxels of 4 mm or the volume's own."""
    coarse = resample(volume, [max(COARSE_MM, own) for own in volume.spacing_mm], floor_hu=PADDING_FLOOR_HU)
    tissue = tissue_mask(coarse)
    if not tissue.any():
        return Anatomy(0.0, None)
    body = filled(tissue)
    body |= _opened_by_the_edge(coarse.hu, body)
    lung = body & (coarse.hu > LUNG_HU[0]) & (coarse.hu < LUNG_HU[1])
    return Anatomy(float(_without_thin(lung).sum() / body.sum()), centre_mm(tissue, coarse.affine))


def lung_fraction(volume: Volume) -> float:
    """Lung as a share of the body (0..1) of a canonical volume: 0.2 is a usual chest, an abdomen has under 0.02.

    Lung is air inside the body that is not as empty as gas in the bowel. A lung that the field of view cuts open counts too.
    """
    return anatomy(volume).lung_fraction


def bone_offset_mm(volume: Volume) -> float | None:
    """How far bone lies behind (+) the middle of a canonical body; contrast pulls it forward. None without bone."""
    coarse = resample(volume, [max(COARSE_MM, own) for own in volume.spacing_mm], floor_hu=PADDING_FLOOR_HU)
    tissue = tissue_mask(coarse)
    bone = tissue & (coarse.hu > BONE_HU)
    if not bone.any():
        return None
    rows = np.arange(coarse.shape[1])
    centres = [float((mask.sum(axis=(0, 2)) * rows).sum() / mask.sum()) for mask in (bone, filled(tissue))]
    return (centres[0] - centres[1]) * coarse.spacing_mm[1]


def _opened_by_the_edge(hu: NDArray[np.float32], body: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Air that is not enclosed only because the image ends there: by its HU it is lung, and tissue surrounds the rest of it."""
    from scipy import ndimage

    found = np.zeros_like(body)
    for index, plane in enumerate((hu < AIR_HU) & ~body):
        labels, count = ndimage.label(plane)
        for label in range(1, count + 1):
            piece = labels == label
            if piece.sum() * COARSE_MM**2 < 500.0 or np.median(hu[index][piece]) < OUTSIDE_AIR_HU:
                continue
            ring = ndimage.binary_dilation(piece) & ~piece
            if (ring & body[index]).sum() >= 0.8 * ring.sum():
                found[index] |= piece
    return found


def _without_thin(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    # The border of any gas has lung's HU by partial volume: one voxel thick, gone after an opening.
    from scipy import ndimage

    opened: NDArray[np.bool_] = ndimage.binary_opening(mask, np.ones((1, 3, 3), bool))
    return opened
