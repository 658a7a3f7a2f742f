"""Convolutions over latent cells after the transformer. Not part of CTFlow's design; off unless `detail` is set.

The transformer's last layer makes each patch (2 x 2 x 2 cells, 16 x 16 pixels of 2 slices) on its own. Here neighbouring
patches, and the block and the slices below it, are brought to agree.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SEEN_BELOW = 3
"""Context slices that are laid under the block, so that its first slices have real neighbours."""


class Detail(nn.Module):
    """Adds a correction, zero at first, to the transformer's output (B, c, d, h, w).

    3 x 3 x 3 convolutions of ``width`` channels over (noisy, output, mark of the block), each modulated by the time embedding.
    """

    def __init__(self, channels: int, width: int, layers: int, time_width: int) -> None:
        super().__init__()
        self.first = nn.Conv3d(2 * channels + 1, width, 3, padding=1)
        self.layers = nn.ModuleList(nn.Conv3d(width, width, 3, padding=1) for _ in range(layers))
        self.modulation = nn.Linear(time_width, layers * 2 * width)
        self.last = nn.Conv3d(width, channels, 3, padding=1)

    def start_closed(self) -> None:
        """Unmodulated and without effect, as training finds it."""
        for parameter in (*self.modulation.parameters(), *self.last.parameters()):
            nn.init.zeros_(parameter)

    def forward(self, noisy_and_context: Tensor, out: Tensor, t_BC: Tensor) -> Tensor:
        noisy, context = noisy_and_context.chunk(2, dim=1)
        below = min(SEEN_BELOW, context.shape[2])
        values = torch.cat((context[:, :, -below:], noisy), dim=2)
        mark = values.new_ones(values.shape[0], 1, *values.shape[2:])
        mark[:, :, :below] = 0
        x = torch.cat((values, F.pad(out.to(values.dtype), (0, 0, 0, 0, below, 0)), mark), dim=1)
        x = self.first(x.to(self.first.weight.dtype))
        modulation = self.modulation(F.silu(t_BC)).view(x.shape[0], len(self.layers), 2, -1, 1, 1, 1)
        for index, layer in enumerate(self.layers):
            scale, shift = modulation[:, index].unbind(1)
            x = x + layer(F.silu(x * (1 + scale) + shift))
        corrected: Tensor = out + self.last(F.silu(x[:, :, below:])).to(out.dtype)
        return corrected
