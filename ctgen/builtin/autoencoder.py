"""A codec that needs no weights: the lowest cosine coefficients of square pixel blocks, slice by slice."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ctgen.builtin.configs import TinyAeConfig
from ctgen.builtin.weights import load_weights
from ctgen.interfaces import LatentSpec, Posterior, WeightsInfo


class TinyAe(nn.Module):
    """HU <-> latent; two linear layers that start as a discrete cosine transform and its inverse.

    With cell * cell channels the round trip is exact inside the window. The posterior has no variance.
    """

    gain: Tensor

    def __init__(self, config: TinyAeConfig) -> None:
        super().__init__()
        self.config = config
        self.latent: LatentSpec = config.latent_spec()
        self.hu_range = config.window_hu
        low, high = config.window_hu
        self.marker_hu = (low, high + 0.2 * (high - low))
        basis, order = _cosine_basis(config.cell, config.channels)
        kernel = basis.reshape(config.channels, 1, config.cell, config.cell)
        # Orthonormal rows; divided by the cell so that the first coefficient is the cell's mean.
        self.analysis = nn.Parameter(kernel / config.cell)
        self.synthesis = nn.Parameter(kernel * config.cell)
        # Images have falling spectra; this brings the channels to one order of magnitude.
        self.register_buffer("gain", (1.0 + order).reshape(1, -1, 1, 1, 1), persistent=False)
        self.weights: WeightsInfo = WeightsInfo("NONE", "discrete cosine transform")
        if config.weights is not None:
            self.weights = load_weights(self, config.weights, "tiny-ae")

    def encode(self, volume: Tensor) -> Posterior:
        """(B, 1, D, H, W) HU -> mean (B, c, D, h, w), no variance."""
        low, high = self.config.window_hu
        unit = (volume.float().clamp(low, self.marker_hu[1]) - low) / (high - low) * 2.0 - 1.0
        slices = unit.transpose(1, 2).flatten(0, 1)
        cells = nn.functional.conv2d(slices, self.analysis, stride=self.config.cell)
        return Posterior(cells.reshape(volume.shape[0], volume.shape[2], *cells.shape[1:]).transpose(1, 2).contiguous())

    def finalise(self, posterior: Posterior, *, generator: torch.Generator | None) -> Tensor:
        """Scale the mean per channel; there is nothing to draw."""
        return posterior.mean * self.gain

    def decode(self, latent: Tensor) -> Tensor:
        """(B, c, d, h, w) -> (B, 1, D, H, W) HU, not clipped."""
        cells = (latent / self.gain).transpose(1, 2).flatten(0, 1)
        slices = nn.functional.conv_transpose2d(cells, self.synthesis, stride=self.config.cell)
        unit: Tensor = slices.reshape(latent.shape[0], latent.shape[2], *slices.shape[1:]).transpose(1, 2)
        low, high = self.config.window_hu
        return (unit + 1.0) / 2.0 * (high - low) + low

    def forward(self, volume: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Posterior]:
        """(reconstruction HU like ``volume``, posterior)."""
        posterior = self.encode(volume)
        return self.decode(self.finalise(posterior, generator=generator)), posterior


def _cosine_basis(cell: int, channels: int) -> tuple[Tensor, Tensor]:
    """The ``channels`` lowest orthonormal 2D DCT-II rows (channels, cell * cell), and the frequency u + v of each."""
    position = torch.arange(cell, dtype=torch.float64)
    rows = torch.cos(math.pi * (position + 0.5) * position[:, None] / cell) * math.sqrt(2.0 / cell)
    rows[0] /= math.sqrt(2.0)
    pairs = sorted(((u, v) for u in range(cell) for v in range(cell)), key=lambda pair: (sum(pair), pair))[:channels]
    basis = torch.stack([torch.outer(rows[u], rows[v]).flatten() for u, v in pairs])
    return basis.float(), torch.tensor([float(u + v) for u, v in pairs])
