"""Which findings a backbone's hidden tokens hold: a second loss of `latent-flow`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ctgen.errors import ConfigError
from ctgen.interfaces import TokenBackbone, TokenGrid, TrainingSource
from ctgen.train.finding_weights import block_findings
from ctgen.train.places import PlaceHead, shares_of_parts


class FindingHead(nn.Module):
    """A linear layer from tokens to labels, and its cross-entropy against masks; see PlaceHead for how labels are weighed."""

    def __init__(self, backbone: Any, latent_stride: Sequence[int]) -> None:
        super().__init__()
        if not isinstance(backbone, TokenBackbone):
            raise ConfigError(
                f"objective.finding_head needs a backbone that tells its hidden tokens; {type(backbone).__name__} does not",
                hint="set objective.finding_head: 0, or give yours hidden_width, token_cells and forward_hidden",
            )
        self.cells = backbone.token_cells
        self.stride = tuple(step * cells for step, cells in zip(latent_stride, self.cells, strict=True))
        """Voxels (D, H, W) that a token stands for."""
        self.head = PlaceHead(backbone.hidden_width, straight=False)

    def measure(self, source: TrainingSource) -> None:
        """Estimate, unless that was done before, how often tokens hold each label; DataError if no case has masks."""
        if self.head.measured:
            return
        # whole tokens of the volume: what is left over at its end is a token that a block fills up
        shape = source.volume(0).shape
        window = [slice(0, size - size % step) for size, step in zip(shape, self.stride, strict=True)]
        grid = TokenGrid((window[0], window[1], window[2]), (self.stride[0], self.stride[1], self.stride[2]))
        (share,) = shares_of_parts(source, [grid], option="finding_head")
        self.head.measure(share)

    def holds(self, bits: Tensor, start: int, cells: Sequence[int]) -> Tensor:
        """(d, h, w, 18) bool: which labels each token of a block of latent ``cells`` holds, that begins at slice ``start``."""
        shape = [size // step for size, step in zip(cells, self.cells, strict=True)]
        # a block may begin within a token of the grid that begins at 0: its tokens are counted from its own first slice
        return block_findings(bits[start * self.stride[0] // self.cells[0] :], 0, shape, self.stride)

    def forward(self, tokens: Tensor, holds: Tensor, known: Tensor) -> Tensor:
        """Tokens (B, d, h, w, C), ``holds`` (B, d, h, w, 18), ``known`` (B, 18) -> cross-entropy."""
        # hidden tokens may be of any size, and grow in training
        found: Tensor = self.head(F.layer_norm(tokens.float(), tokens.shape[-1:]), holds, known)
        return found
