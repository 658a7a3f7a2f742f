"""Weights of a block's latent cells by what masks say is there, for `latent-flow`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ctgen.data.labels import LABELS
from ctgen.interfaces import TokenGrid, TrainingSource
from ctgen.train.places import LOOKED_AT, holding, no_masks


def check_masks(source: TrainingSource) -> None:
    """DataError if none of the first cases has masks; without reading one."""
    looked = min(len(source.ids), LOOKED_AT)
    if not any("masks" in source.record(index) for index in range(looked)):
        raise no_masks("finding_share", looked)


def finding_weights(
    bits: Tensor, start: int, shape: Sequence[int], stride: Sequence[int], *, share: float, cap: float
) -> tuple[Tensor, Tensor]:
    """``bits`` (D, H, W), a bit per label as of ``TrainingSource.masks`` -> two of (d, h, w) = ``shape``, for the block of a
    latent of ``stride`` whose first slice is ``start``: weights of mean 1, and bool, whether a cell holds a finding.

    A finding that fills the fraction f of the block's cells has its cells weigh share / f times as much as others, but no less
    than them and at most ``cap`` times; where findings meet, the larger weight counts. Slices after the volume hold none.
    """
    holds = block_findings(bits, start, shape, stride)
    count = holds[..., 0].numel()
    fractions = holds.flatten(0, 2).float().sum(0) / count
    each = (share / fractions.clamp_min(1 / count)).clamp(1, cap)
    weights = (holds * each).amax(-1).clamp_min(1)
    return weights / weights.mean(), holds.any(-1)


def block_findings(bits: Tensor, start: int, shape: Sequence[int], stride: Sequence[int]) -> Tensor:
    """(d, h, w, 18) bool: which labels each cell holds, for a block of ``shape`` cells of ``stride`` voxels (D, H, W), whose
    first slice of cells is ``start``. Cells after the volume, and a last one that it does not fill, hold none."""
    depth, height, width = shape
    slices, rows, columns = stride
    part = bits[start * slices : (start + depth) * slices, : height * rows, : width * columns]
    holds = torch.zeros(depth, height, width, len(LABELS), dtype=torch.bool)
    deep = part.shape[0] // slices
    if deep:
        everywhere = slice(0, deep * slices), slice(None), slice(None)
        (holds[:deep],) = holding(part.numpy(), [TokenGrid(everywhere, (slices, rows, columns))])
    return holds
