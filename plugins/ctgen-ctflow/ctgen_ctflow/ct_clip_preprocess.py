"""A CT volume as CT-CLIP's image tower reads it: 240 x 480 x 480 voxels of 1.5 x 0.75 x 0.75 mm, HU / 1000, air around it.

Two rules that differ in details and therefore in scores:

- ``ct-clip``: the authors' inference code. New sizes are truncated, interpolation is in float64, padding is air (-1), an odd
  crop starts at the floor of half the excess, and the in-plane spacing is the first of the two (rows) for both axes.
- ``vlm3d-2025``: the challenge's evaluator. New sizes are rounded, float32, padding is -1 HU (water), an odd crop starts one
  voxel later, and the two in-plane spacings are swapped.

Neither reorients: they read files as CT-RATE's lie, which is ctgen's canonical orientation with the in-plane axes exchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ctgen.volume import Volume
from ctgen.volume.orient import to_canonical

Rule = Literal["ct-clip", "vlm3d-2025"]
SIZE = (240, 480, 480)
"""Voxels along z, x, y."""
SPACING_MM = (1.5, 0.75, 0.75)
HU_RANGE = (-1000.0, 1000.0)
AIR, ALMOST_WATER = -1.0, -0.001
"""Padding of the two rules, in units of 1000 HU."""


def prepare(
    volume: Volume, *, size: Sequence[int] = SIZE, rule: Rule = "ct-clip", target_mm: Sequence[float] = SPACING_MM
) -> Tensor:
    """(1, z, x, y) float32 in [-1, 1] of any volume in HU; brought to canonical orientation first, which the rules require."""
    canonical, _ = to_canonical(volume)
    spacing = [_decimal(mm) for mm in canonical.spacing_mm]
    return preprocess(canonical.hu, spacing, size=size, rule=rule, target_mm=target_mm)


def preprocess(
    hu_DHW: NDArray[np.generic],
    spacing_mm: Sequence[float],
    *,
    size: Sequence[int] = SIZE,
    rule: Rule = "ct-clip",
    target_mm: Sequence[float] = SPACING_MM,
) -> Tensor:
    """(D, H, W) HU, canonical, with its spacing in the same order -> (1, z, x, y) float32 of ``size``, HU / 1000 in [-1, 1].

    ``target_mm`` (z, x, y): the voxels of the result; another network than CT-CLIP's may read larger ones.

    z = D towards superior, x = W towards the patient's left, y = H towards posterior. Deterministic, on the CPU.
    """
    if hu_DHW.ndim != 3 or 0 in hu_DHW.shape or len(spacing_mm) != 3 or min(spacing_mm) <= 0:
        raise ValueError(f"expected (D, H, W) with three spacings above 0, not {hu_DHW.shape} with {tuple(spacing_mm)}")
    depth_mm, row_mm, column_mm = (float(value) for value in spacing_mm)
    voxels = torch.from_numpy(np.ascontiguousarray(np.clip(hu_DHW, *HU_RANGE).transpose(0, 2, 1)))
    if rule == "ct-clip":
        spacing = (depth_mm, row_mm, row_mm)
        grid = [int(count * (mm / target)) for count, mm, target in zip(voxels.shape, spacing, target_mm, strict=True)]
        voxels = voxels.double()
    else:
        spacing = (depth_mm, row_mm, column_mm)
        grid = [round(count * mm / target) for count, mm, target in zip(voxels.shape, spacing, target_mm, strict=True)]
        voxels = voxels.float()
    if 0 in grid:
        raise ValueError(f"{hu_DHW.shape} voxels of {tuple(spacing_mm)} mm are less than one voxel of {tuple(target_mm)} mm")
    if grid == list(voxels.shape):
        resampled = voxels  # each new voxel would be the old one
    else:
        resampled = F.interpolate(voxels[None, None], size=grid, mode="trilinear", align_corners=False)[0, 0]
    return _fitted((resampled / 1000).float(), size, rule)[None]


def _decimal(mm: float) -> float:
    """NIfTI holds spacings in float32: 0.9 comes back as 0.89999998, and a truncated size may then be one voxel less."""
    single = np.float32(mm)
    return float(str(single)) if float(single) == mm else mm


def _fitted(voxels: Tensor, size: Sequence[int], rule: Rule) -> Tensor:
    """Cropped and padded about the centre; of an odd number of padded voxels the extra one comes last."""
    out = torch.full(tuple(size), AIR if rule == "ct-clip" else ALMOST_WATER)
    source, target = [], []
    for have, want in zip(voxels.shape, size, strict=True):
        excess = max(have - want, 0)
        start = excess // 2 if rule == "ct-clip" else (excess + 1) // 2
        before = max(want - have, 0) // 2
        kept = min(have, want)
        source.append(slice(start, start + kept))
        target.append(slice(before, before + kept))
    out[tuple(target)] = voxels[tuple(source)]
    return out
