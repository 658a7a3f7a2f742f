"""Where findings are, for the objective `contrastive`: masks against the tokens of a volume's parts."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ctgen.data.labels import LABELS
from ctgen.errors import ConfigError, DataError
from ctgen.interfaces import TokenGrid, TrainingSource

LOOKED_AT = 256
"""Cases from which the share of a finding's parts is estimated, once."""
MOST_WEIGHT = 20.0


class PlaceHead(nn.Module):
    """A scale and an offset per label: channel k of a token says whether label k is in its part of the volume.

    Nothing mixes channels, so that the maximum over a volume's tokens, which some encoders pool, says whether it is anywhere.
    """

    share: Tensor
    """(18,) of all parts that hold the label; set by ``measure``."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((len(LABELS),), 2.0))
        self.offset = nn.Parameter(torch.full((len(LABELS),), -3.0))
        self.register_buffer("share", torch.full((len(LABELS),), 0.5))

    def measure(self, source: TrainingSource, grid: TokenGrid) -> None:
        """Estimates ``share`` from the first cases with masks; DataError if there are none."""
        held, looked = torch.zeros(len(LABELS)), 0
        for index in range(min(len(source.ids), LOOKED_AT)):
            found = source.masks(index)
            if found is not None:
                held += holding(np.asarray(found[0]), grid).float().flatten(0, 2).mean(0)
                looked += 1
        if not looked:
            raise DataError(
                f"objective.mask_weight is set, but none of the first {min(len(source.ids), LOOKED_AT)} cases has masks",
                hint="the data set must give them, such as data: {use: atlas-thorax, masks: true}; or set mask_weight: 0",
            )
        self.share.copy_(held / looked)

    def forward(self, tokens: Tensor, holds: Tensor, known: Tensor) -> Tensor:
        """Cross-entropy of tokens (B, d, h, w, C) against ``holds`` (B, d, h, w, 18), for what is ``known`` (B, 18).

        A part that holds a finding counts more the rarer it is: by sqrt(absent / present), at most 20.
        """
        count = len(LABELS)
        if tokens.shape[-1] < count:
            raise ConfigError(f"objective.mask_weight needs tokens of at least {count} channels, they have {tokens.shape[-1]}")
        said = tokens[..., :count].float() * self.scale + self.offset
        weight = ((1 - self.share) / self.share.clamp_min(1e-6)).sqrt().clamp(1.0, MOST_WEIGHT)
        errors = F.binary_cross_entropy_with_logits(said, holds.float(), pos_weight=weight, reduction="none")
        known = known.float()
        return (errors.mean((1, 2, 3)) * known).sum() / known.sum().clamp_min(1)


def holding(bits: NDArray[np.int32], grid: TokenGrid) -> Tensor:
    """(D, H, W) with bit k = label k -> (d, h, w, 18) bool: which labels are in each cell of ``grid``."""
    inside = np.ascontiguousarray(bits[grid.window])
    split = [part for size, step in zip(inside.shape, grid.cell, strict=True) for part in (size // step, step)]
    cells = np.bitwise_or.reduce(inside.reshape(split), axis=(1, 3, 5))
    return torch.from_numpy((cells[..., None] >> np.arange(len(LABELS), dtype=np.int32)) & 1).bool()
