"""How a report enters the diffusion transformer."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ctgen.whitening import Whitening
from ctgen_ctflow.stdit_layers import Mlp


class TextEmbedding(nn.Module):
    """Text -> width, with a fixed vector that stands for "no text"; the vector is a buffer in the released file."""

    y_embedding: Tensor

    def __init__(self, text_width: int, width: int, *, whitened: bool = False) -> None:
        super().__init__()
        self.y_proj = Mlp(text_width, width, width)
        self.whitening = Whitening(text_width) if whitened else None
        # Drawn with a seed of its own: the null text must be the same in every run.
        null = torch.randn(1, text_width, generator=torch.Generator().manual_seed(0))
        # as long as the vectors are that it stands beside
        self.register_buffer("y_embedding", null if whitened else F.normalize(null, dim=-1))

    def forward(self, text_BLE: Tensor, drop_B: Tensor | None) -> Tensor:
        if self.whitening is not None:
            text_BLE = self.whitening(text_BLE)
        if drop_B is not None:
            text_BLE = torch.where(drop_B[:, None, None], self.y_embedding.to(text_BLE.dtype), text_BLE)
        y: Tensor = self.y_proj(text_BLE.to(self.y_proj.fc1.weight.dtype))
        return y
