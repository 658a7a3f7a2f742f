"""Parts of the 3-D U-Net."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GROUPS = 8


class ResidualBlock(nn.Module):
    """Two 3 x 3 x 3 convolutions; the code (B, E) scales and shifts between them. Without effect at first."""

    def __init__(self, size: int, width: int, code: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, size)
        self.conv1 = nn.Conv3d(size, width, 3, padding=1)
        self.norm2 = nn.GroupNorm(GROUPS, width, affine=False)
        self.modulation = nn.Linear(code, 2 * width)
        self.conv2 = nn.Conv3d(width, width, 3, padding=1)
        self.beside = nn.Conv3d(size, width, 1) if size != width else nn.Identity()
        nn.init.zeros_(self.conv2.weight)
        assert self.conv2.bias is not None
        nn.init.zeros_(self.conv2.bias)

    def forward(self, hidden: Tensor, code: Tensor) -> Tensor:
        inner = self.conv1(F.silu(self.norm1(hidden)))
        scale, shift = self.modulation(code)[:, :, None, None, None].chunk(2, dim=1)
        inner = self.conv2(F.silu(self.norm2(inner) * (1 + scale) + shift))
        out: Tensor = self.beside(hidden) + inner
        return out


class Attention(nn.Module):
    """Among all cells, and from them to report tokens if ``words``, their width, is not 0. Without effect at first."""

    def __init__(self, width: int, heads: int, words: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(GROUPS, width)
        self.qkv = nn.Linear(width, 3 * width)
        self.words = nn.Linear(words, 2 * width) if words else None
        # what a dropped report's cells read, and one more key beside every other report's tokens
        self.nothing = nn.Parameter(torch.randn(1, 1, 2 * width) * 0.02) if words else None
        self.out = nn.Linear(width, width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, hidden: Tensor, tokens: Tensor | None, mask: Tensor | None) -> Tensor:
        """(B, C, d, h, w), report tokens (B, L, words), which of them may be read (B, L)."""
        x = self.norm(hidden).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        allowed: Tensor | None = None
        if self.words is not None and self.nothing is not None and tokens is not None and mask is not None:
            said = torch.cat((self.nothing.to(x.dtype).expand(len(x), -1, -1), self.words(tokens)), dim=1)
            words_k, words_v = said.chunk(2, dim=-1)
            k, v = torch.cat((k, words_k), dim=1), torch.cat((v, words_v), dim=1)
            always = mask.new_ones(len(x), x.shape[1] + 1)
            allowed = torch.cat((always, mask), dim=1)[:, None, None, :]
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (q, k, v))
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed).transpose(1, 2).flatten(2)
        out: Tensor = hidden + self.out(seen).transpose(1, 2).reshape(hidden.shape)
        return out


def sinusoids(values: Tensor, size: int, max_period: float = 10000.0) -> Tensor:
    """(B,) -> (B, size) float32: cosines first, then sines; ``size`` is even."""
    half = size // 2
    rates = torch.exp(-math.log(max_period) * torch.arange(half, dtype=torch.float32, device=values.device) / half)
    angles = values.float()[:, None] * rates
    return torch.cat((angles.cos(), angles.sin()), dim=-1)


def coordinates(noisy: Tensor) -> Tensor:
    """(B, 3, d, h, w): where in the volume a cell is, from -1 to 1 along each axis."""
    axes = [torch.linspace(-1, 1, size, device=noisy.device, dtype=noisy.dtype) for size in noisy.shape[2:]]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")).expand(len(noisy), -1, -1, -1, -1)
