"""Where findings are: masks against the tokens of a volume's or a block's parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

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
LEAST_SHARE = 1e-5
"""Of parts that hold a finding: rarer ones, and those that were not met, weigh as if it were this."""


class PlaceHead(nn.Module):
    """Logits of the labels that are in each part, for the tokens of one level.

    ``straight``: a scale and an offset per label, channel k says label k. Nothing mixes channels, so that the maximum over a
    volume's tokens, which some encoders pool, says whether it is anywhere. Else a linear layer.
    """

    share: Tensor
    """(18,) of all parts that hold the label; set by ``measure``."""

    def __init__(self, channels: int, *, straight: bool) -> None:
        super().__init__()
        count = len(LABELS)
        if straight and channels < count:
            raise ConfigError(f"objective.mask_weight needs tokens of at least {count} channels, they have {channels}")
        self.scale = nn.Parameter(torch.full((count,), 2.0)) if straight else None
        self.linear = None if straight else nn.Linear(channels, count, bias=False)
        self.offset = nn.Parameter(torch.zeros(count))
        self.whole = nn.Parameter(torch.tensor([[1.0], [-1.0]]).repeat(1, count))
        """Scale and offset of the likeliest part's logit, to say whether the volume holds the label at all."""
        self.register_buffer("share", torch.full((count,), 0.5))

    def measure(self, share: Tensor) -> None:
        """From now on labels weigh by ``share``, and the offset is what a head that sees nothing would learn."""
        self.share.copy_(share.clamp(LEAST_SHARE, 0.5))
        with torch.no_grad():
            self.offset.copy_((self._weight() * self.share / (1 - self.share)).log())

    @property
    def measured(self) -> bool:
        return bool((self.share != 0.5).any())

    def forward(self, tokens: Tensor, holds: Tensor, known: Tensor) -> Tensor:
        """Cross-entropy of tokens (B, d, h, w, C) against ``holds`` (B, d, h, w, 18), for what is ``known`` (B, 18).

        A part that holds a finding counts sqrt(absent / present) times as much as one that does not; and each label's sum is
        divided by what its parts weigh together, so that a speck of calcium and a cup of fluid are worth the same. Added is the
        cross-entropy of the whole volume, by its likeliest part: what most resembles a finding where there is none would else
        hardly count among thousands of parts that never hold one.
        """
        said = self._logits(tokens.float())
        weight = self._weight()
        errors = F.binary_cross_entropy_with_logits(said, holds.float(), pos_weight=weight, reduction="none")
        likeliest = said.flatten(1, 3).amax(1) * self.whole[0] + self.whole[1]
        whole = F.binary_cross_entropy_with_logits(likeliest, holds.flatten(1, 3).any(1).float(), reduction="none")
        known = known.float()
        return ((errors.mean((1, 2, 3)) / (weight * self.share) + whole) * known).sum() / known.sum().clamp_min(1)

    def _logits(self, tokens: Tensor) -> Tensor:
        if self.linear is not None:
            return self.linear(tokens) + self.offset  # type: ignore[no-any-return]
        assert self.scale is not None
        return tokens[..., : len(LABELS)] * self.scale + self.offset

    def _weight(self) -> Tensor:
        return ((1 - self.share) / self.share).sqrt()


class PlaceHeads(nn.Module):
    """A PlaceHead for each level of a network; their mean is the loss. ``straight``: the last one, or all (see PlaceHead)."""

    def __init__(self, channels: Sequence[int], *, straight: Literal["last", "all"] = "last") -> None:
        super().__init__()
        last = len(channels) - 1
        self.levels = nn.ModuleList(
            PlaceHead(count, straight=straight == "all" or place == last) for place, count in enumerate(channels)
        )

    def measure(self, source: TrainingSource, grids: Sequence[TokenGrid]) -> None:
        """Estimates the shares from the first cases with masks, unless that was done before; DataError if there are none."""
        heads = [head for head in self.levels if isinstance(head, PlaceHead)]
        if not any(head.measured for head in heads):
            for head, share in zip(heads, shares_of_parts(source, grids, option="mask_weight"), strict=True):
                head.measure(share)

    def forward(self, tokens: Sequence[Tensor], holds: Sequence[Tensor], known: Tensor) -> list[Tensor]:
        """The cross-entropy of each level, see PlaceHead."""
        return [head(*level, known) for head, *level in zip(self.levels, tokens, holds, strict=True)]


def shares_of_parts(source: TrainingSource, grids: Sequence[TokenGrid], *, option: str) -> list[Tensor]:
    """(18,) for each grid: the share of parts that hold a label, from the first cases with masks. DataError, naming the
    objective's ``option`` that needs them, if there are none."""
    shares, looked = [torch.zeros(len(LABELS)) for _ in grids], 0
    for index in range(min(len(source.ids), LOOKED_AT)):
        found = source.masks(index)
        if found is not None:
            for share, held in zip(shares, holding(np.asarray(found[0]), grids), strict=True):
                share += held.float().flatten(0, 2).mean(0)
            looked += 1
    if not looked:
        raise no_masks(option, min(len(source.ids), LOOKED_AT))
    return [share / looked for share in shares]


def no_masks(option: str, looked: int) -> DataError:
    """What to say of an objective's ``option`` that needs masks, if none of the first ``looked`` cases has any."""
    return DataError(
        f"objective.{option} is set, but none of the first {looked} cases has masks",
        hint=f"the data set must give them, such as data: {{use: atlas-thorax, masks: true}}; or set {option}: 0",
    )


def holding(bits: NDArray[np.int32], grids: Sequence[TokenGrid]) -> list[Tensor]:
    """(D, H, W) with bit k = label k -> (d, h, w, 18) bool for each grid: which labels are in each cell."""
    held = []
    for grid in grids:
        cells = bits[grid.window]
        # one axis after another, slices first: whole planes at a time, several times faster than all at once
        for axis, step in enumerate(grid.cell):
            shape = cells.shape
            split = cells.reshape(*shape[:axis], shape[axis] // step, step, *shape[axis + 1 :])
            cells = np.bitwise_or.reduce(split, axis=axis + 1)
        held.append(torch.from_numpy((cells[..., None] >> np.arange(len(LABELS), dtype=np.int32)) & 1).bool())
    return held
