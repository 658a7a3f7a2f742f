"""The smallest denoising network that uses everything a Condition offers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ctgen.builtin.configs import TinyConvConfig
from ctgen.builtin.weights import load_weights
from ctgen.interfaces import Condition, LatentSpec, Predicts, TextSpec

_FREQUENCIES = 8


class TinyConv(nn.Module):
    """Residual 3D convolutions over [noisy, last context slice, has-context, coordinates]; time, text, position and spacing
    shift and scale each layer."""

    predicts: Predicts = "velocity"

    def __init__(self, config: TinyConvConfig, *, latent: LatentSpec, text: TextSpec) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.entry = nn.Conv3d(2 * latent.channels + 4, width, 3, padding=1)
        self.numbers = nn.Linear(2 * _FREQUENCIES + 5, 4 * width)
        self.words = nn.Linear(text.width, 4 * width)
        self.no_words = nn.Parameter(torch.zeros(4 * width))
        self.layers = nn.ModuleList(Layer(width) for _ in range(config.layers))
        self.exit = nn.Conv3d(width, latent.channels, 3, padding=1)
        nn.init.zeros_(self.exit.weight)
        self.weights = load_weights(self, config.weights, "tiny-conv")

    def forward(self, noisy: Tensor, time: Tensor, condition: Condition) -> Tensor:
        """(B, c, d, h, w), (B,) in [0, 1] -> velocity (B, c, d, h, w)."""
        context = condition.context
        before = torch.zeros_like(noisy) if context is None else context[:, :, -1:].expand_as(noisy)
        known = torch.full_like(noisy[:, :1], 0.0 if context is None else 1.0)
        hidden = self.entry(torch.cat([noisy, before, known, _coordinates(noisy)], dim=1))
        code = self._code(time.to(noisy.dtype), condition)
        for layer in self.layers:
            hidden = layer(hidden, code)
        return self.exit(nn.functional.silu(hidden))  # type: ignore[no-any-return]

    def _code(self, time: Tensor, condition: Condition) -> Tensor:
        """(B, 4 width) from everything that is not an image."""
        angles = time[:, None] * torch.pi * 2.0 ** torch.arange(_FREQUENCIES, device=time.device, dtype=time.dtype)
        place = time.new_zeros(len(time), 5)
        if condition.position is not None:
            position = condition.position.to(time)
            place[:, 0] = position[:, 0] / position[:, 1].clamp_min(1.0)
            place[:, 1] = position[:, 1] / 100.0
        if condition.spacing is not None:
            place[:, 2:] = condition.spacing.to(time).clamp_min(1e-3).log()
        text = condition.text
        kept = text.mask.to(time)[:, :, None]
        words = self.words((text.tokens.to(time) * kept).sum(1) / kept.sum(1).clamp_min(1.0))
        if condition.drop is not None:
            words = torch.where(condition.drop[:, None], self.no_words.to(words.dtype), words)
        return nn.functional.silu(self.numbers(torch.cat([angles.sin(), angles.cos(), place], dim=1)) + words)


class Layer(nn.Module):
    """x + conv(silu(norm(x) * scale + shift)), scale and shift from the code."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(4, width, affine=False)
        self.modulation = nn.Linear(4 * width, 2 * width)
        self.conv = nn.Conv3d(width, width, 3, padding=1)

    def forward(self, hidden: Tensor, code: Tensor) -> Tensor:
        scale, shift = self.modulation(code)[:, :, None, None, None].chunk(2, dim=1)
        return hidden + self.conv(nn.functional.silu(self.norm(hidden) * (1 + scale) + shift))  # type: ignore[no-any-return]


def _coordinates(noisy: Tensor) -> Tensor:
    """(B, 3, d, h, w): where in the block a cell is, from -1 to 1; a convolution cannot know otherwise."""
    axes = [torch.linspace(-1, 1, size, device=noisy.device, dtype=noisy.dtype) for size in noisy.shape[2:]]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")).expand(len(noisy), -1, -1, -1, -1)
