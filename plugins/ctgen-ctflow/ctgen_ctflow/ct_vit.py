"""CT-CLIP's image tower (CTViT): patches, a transformer within slices, one along them, and a vector quantiser.

Shapes: B volumes, T groups of slices, G x G patches per slice, C channels. Facts of the reference that a re-implementation from
the paper would miss, all shown by the parity fixture: keys and values are of the un-normalised input; the convolution that
gives tokens their position along the slices (PEG) reads ((B G G), T) as if it were (B, T, G, G); the quantiser picks its code
by cosine but returns the row as it is stored.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ctgen_ctflow.ct_clip_sizes import ImageSizes

ATTENTION_SCALE = 8.0
"""Of the cosine between queries and keys, before their learned scales; a constant of the reference."""
CELL = 4
"""Side of the cells of a stem that starts with stride 4."""
TOKENS_AT_ONCE = 4096
"""Tokens compared with the codebook at a time: bounds memory (8192 codes: 128 MiB)."""


class CtVit(nn.Module):
    """(B, 1, D, H, W) in [-1, 1] -> tokens (B, T, G, G, C), each a row of the codebook. D: a multiple of ``patch_slices``.

    Sizes may ask for more than CT-CLIP has: windows, a convolutional stem, tokens without the quantiser.
    """

    def __init__(self, sizes: ImageSizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.stem = Stem(sizes) if sizes.windows or sizes.stem else None
        self.patch_embedding = PatchEmbedding(sizes)
        self.position_bias = PositionBias(sizes.width, sizes.heads)
        self.spatial = Transformer(sizes, sizes.spatial_layers)
        self.temporal = Transformer(sizes, sizes.temporal_layers)
        self.finer = nn.ModuleList()
        if sizes.pool == "places":
            self.finer.extend(nn.Linear(coarse, fine) for fine, coarse in pairwise((*sizes.stem[1:], sizes.width)))
        if sizes.quantised:
            self.codebook = nn.Parameter(torch.randn(sizes.codes, sizes.width), requires_grad=False)

    def forward(self, volume: Tensor) -> Tensor:
        return self.quantise(self.continuous(volume))

    def quantise(self, tokens: Tensor) -> Tensor:
        """Each token's row of the codebook; the tokens themselves if there is none."""
        return F.embedding(self.codes(tokens), self.codebook) if self.sizes.quantised else tokens

    def embed(self, volume: Tensor) -> tuple[Tensor, list[Tensor]]:
        """One vector (B, ``sizes.pooled``) of what ``levels`` gives, and that, its tokens quantised."""
        *inner, tokens = self.levels(volume)
        tokens = self.quantise(tokens)
        if self.sizes.pool == "places":
            levels = [*self._heard(inner, tokens), tokens]
            return torch.cat([part for level in levels for part in _quarters(level)], dim=1), levels
        maxima = {"slices": [], "slices+max": [tokens], "levels+max": [tokens, *inner]}[self.sizes.pool]
        parts = [tokens.mean(dim=1).flatten(1), *(level.flatten(1, 3).amax(dim=1) for level in maxima)]
        return torch.cat(parts, dim=1), [*inner, tokens]

    def continuous(self, volume: Tensor) -> Tensor:
        """Tokens (B, T, G, G, C) before the quantiser."""
        return self.levels(volume)[-1]

    def levels(self, volume: Tensor) -> list[Tensor]:
        """What the stem's convolutions after its first make of the volume, (B, D / s, H / s, W / s, C) at strides s, and the
        tokens before the quantiser."""
        self._check(volume)
        inner = [] if self.stem is None else self.stem.levels(volume)
        x = self.patch_embedding(inner[-1] if inner else volume)
        batch, groups, grid, _, width = x.shape
        shape = (batch, groups, grid, grid)
        x = self.spatial(x.reshape(batch * groups, grid * grid, width), shape, self.position_bias(grid))
        x = x.reshape((*shape, width)).permute(0, 2, 3, 1, 4).reshape(batch * grid * grid, groups, width)
        tokens: Tensor = self.temporal(x, shape, None)
        tokens = tokens.reshape(batch, grid, grid, groups, width).permute(0, 3, 1, 2, 4)
        # windows alone are no level, and neither is the first convolution
        return [*(level.permute(0, 2, 3, 4, 1) for level in inner[1:]), tokens]

    def _heard(self, inner: list[Tensor], tokens: Tensor) -> list[Tensor]:
        """The stem's levels, each with what the next coarser one says of the same place: a speck of calcium alone does not show
        which vessel it is in."""
        coarse, heard = tokens, []
        for fine, says in zip(reversed(inner), reversed(self.finer), strict=True):
            said = says(coarse)
            for axis in (1, 2, 3):
                said = said.repeat_interleave(fine.shape[axis] // said.shape[axis], dim=axis)
            coarse = fine + said
            heard.append(coarse)
        return heard[::-1]

    def codes(self, tokens: Tensor) -> Tensor:
        """(..., C) -> (...) int64: the nearest row by cosine, in float32 whatever the network runs in."""
        with torch.autocast(tokens.device.type, enabled=False):
            rows = F.normalize(self.codebook.float(), dim=-1)
            flat = F.normalize(tokens.detach().float().reshape(-1, tokens.shape[-1]), dim=-1)
            found = [(part @ rows.T).argmax(dim=-1) for part in torch.split(flat, TOKENS_AT_ONCE)]
        return torch.cat(found).reshape(tokens.shape[:-1])

    def _check(self, volume: Tensor) -> None:
        """ValueError names the size that does not fit."""
        size = self.sizes
        if volume.ndim != 5 or volume.shape[1] != 1 or volume.shape[3:] != (size.pixels, size.pixels):
            raise ValueError(f"expected (B, 1, D, {size.pixels}, {size.pixels}), not {tuple(volume.shape)}")
        if not volume.shape[2] or volume.shape[2] % size.patch_slices:
            raise ValueError(f"{volume.shape[2]} slices are not a multiple of {size.patch_slices}")


def _quarters(level: Tensor) -> list[Tensor]:
    """(B, T, X, Y, C) -> the maximum over all, and maximum and mean of each quarter along T and X, (B, C) each."""
    parts = [part for half in level.chunk(2, dim=1) for part in half.chunk(2, dim=2)]
    maxima = [part.flatten(1, 3).amax(1) for part in parts]
    return [torch.stack(maxima).amax(0), *maxima, *(part.flatten(1, 3).float().mean(1).to(part.dtype) for part in parts)]


class Stem(nn.Module):
    """Windows and convolutions before the patches; an addition to CT-CLIP.

    A soft-tissue finding of 50 HU is a fortieth of the range that the published network sees in one linear step.
    """

    def __init__(self, sizes: ImageSizes) -> None:
        super().__init__()
        self.windows = sizes.windows
        self.cells: nn.Linear | None = None
        channels = (sizes.channels, *sizes.stem)
        if sizes.stem and sizes.stem_start == 4:
            self.cells = nn.Linear(sizes.channels * CELL**3, sizes.stem[0])
            channels = sizes.stem
        self.layers = nn.ModuleList(nn.Conv3d(wide, out, 3, stride=2, padding=1) for wide, out in pairwise(channels))
        # The first convolution is by far the largest: a norm of it costs more than it helps.
        self.norms = nn.ModuleList(nn.GroupNorm(1, out) for out in sizes.stem[1:])
        # of another name than the residuals after it, which older weights number from the second convolution on
        self.first_residuals = nn.Sequential(*(Residual(channels[1]) for _ in range(sizes.stem_first_residuals)))
        self.residuals = nn.ModuleList(
            nn.Sequential(*(Residual(out) for _ in range(sizes.stem_residuals))) for out in sizes.stem[1:]
        )

    def forward(self, volume: Tensor) -> Tensor:
        """(B, 1, D, H, W) in units of 1000 HU -> (B, C, D / s, H / s, W / s), s = ``sizes.stem_stride``."""
        return self.levels(volume)[-1]

    def levels(self, volume: Tensor) -> list[Tensor]:
        """The result of the first layer (of the windows, if there is no other) and of each one after it."""
        # What follows rounds its inputs anyway; half precision halves the memory of the largest tensors.
        if torch.is_autocast_enabled(volume.device.type):
            volume = volume.to(torch.get_autocast_dtype(volume.device.type))
        if self.cells is None:
            # Channels last: convolutions of few channels are then several times faster.
            x = self._windowed(volume[:, 0, ..., None]).permute(0, 4, 1, 2, 3)
        else:
            # A convolution of cells that do not overlap is a product of matrices.
            batch, _, deep, high, wide = volume.shape
            cells = volume.reshape(batch, deep // CELL, CELL, high // CELL, CELL, wide // CELL, CELL)
            cells = cells.permute(0, 1, 3, 5, 2, 4, 6).flatten(4)
            x = F.relu(self.cells(self._windowed(cells))).permute(0, 4, 1, 2, 3)
        first = len(self.layers) - len(self.norms)
        for layer in self.layers[:first]:
            x = self.first_residuals(F.relu(layer(x)))
        found = [x]
        for layer, norm, residuals in zip(self.layers[first:], self.norms, self.residuals, strict=True):
            found.append(residuals(F.relu(norm(layer(found[-1])))))
        return found

    def _windowed(self, voxels: Tensor) -> Tensor:
        """(..., K) -> (..., windows * K)."""
        if not self.windows:
            return voxels
        parts = [(voxels * (2000 / (high - low)) - (high + low) / (high - low)).clamp(-1, 1) for low, high in self.windows]
        return torch.cat(parts, dim=-1)


class Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, channels)
        self.convolution = nn.Conv3d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + F.relu(self.convolution(self.norm(x)))


class PatchEmbedding(nn.Module):
    def __init__(self, sizes: ImageSizes) -> None:
        super().__init__()
        step = sizes.stem_stride
        self.patch = (sizes.patch_slices // step, sizes.patch // step, sizes.patch // step)
        self.norm_in = nn.LayerNorm(sizes.patch_values)
        self.project = nn.Linear(sizes.patch_values, sizes.width)
        self.norm_out = nn.LayerNorm(sizes.width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, K, D, H, W) -> (B, T, G, G, C): voxels, or what the stem makes of them; each divides into patches."""
        batch, channels = x.shape[:2]
        counts = [size // step for size, step in zip(x.shape[2:], self.patch, strict=True)]
        split = [part for pair in zip(counts, self.patch, strict=True) for part in pair]
        x = x.reshape(batch, channels, *split).permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4)
        tokens: Tensor = self.norm_out(self.project(self.norm_in(x)))
        return tokens


class PositionBias(nn.Module):
    """A small network from the distance of two patches of a slice to what is added to their attention, per head."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(2, width), nn.Linear(width, width), nn.Linear(width, heads)])

    def forward(self, grid: int) -> Tensor:
        """(heads, G * G, G * G). Every pair at the same distance has the same bias: (2 G - 1)^2 are computed, not G^4."""
        device = next(self.parameters()).device
        steps = torch.arange(1 - grid, grid, device=device)
        distances = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), dim=-1).reshape(-1, 2)
        x = torch.sign(distances) * torch.log1p(distances.abs().float())
        for layer in self.layers[:-1]:
            x = F.leaky_relu(layer(x), 0.1)
        bias = self.layers[-1](x)
        place = torch.arange(grid * grid, device=device)
        down, right = (axis[:, None] - axis[None, :] + grid - 1 for axis in (place // grid, place % grid))
        picked: Tensor = bias[down * (2 * grid - 1) + right].permute(2, 0, 1).contiguous()
        return picked


class Transformer(nn.Module):
    def __init__(self, sizes: ImageSizes, layers: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(sizes) for _ in range(layers))
        self.norm_out = nn.LayerNorm(sizes.width)

    def forward(self, x: Tensor, shape: tuple[int, int, int, int], bias: Tensor | None) -> Tensor:
        """Sequences (N, L, C) of the tokens of ``shape`` (B, T, G, G)."""
        for block in self.blocks:
            x = block(x, shape, bias)
        normed: Tensor = self.norm_out(x)
        return normed


class Block(nn.Module):
    def __init__(self, sizes: ImageSizes) -> None:
        super().__init__()
        self.position = nn.Conv3d(sizes.width, sizes.width, 3, groups=sizes.width)
        self.attention = Attention(sizes)
        self.feed_forward = FeedForward(sizes.width, sizes.feed_forward)

    def forward(self, x: Tensor, shape: tuple[int, int, int, int], bias: Tensor | None) -> Tensor:
        x = x + self.neighbours(x, shape)
        x = x + self.attention(x, bias)
        return x + self.feed_forward(x)  # type: ignore[no-any-return]

    def neighbours(self, x: Tensor, shape: tuple[int, int, int, int]) -> Tensor:
        """The reference's PEG: a convolution of every channel on its own that sees slices up to its own.

        Sequences along the slices come as ((B G G), T, C) and are read as (B, T, G, G, C) without a permutation. That mixes
        tokens that are no neighbours, but the published weights were trained so.
        """
        cells = x.reshape((*shape, x.shape[-1])).permute(0, 4, 1, 2, 3)
        moved: Tensor = self.position(F.pad(cells, (1, 1, 1, 1, 2, 0)))
        return moved.permute(0, 2, 3, 4, 1).reshape(x.shape)


class Attention(nn.Module):
    """Attention by cosine, over keys and values of the input before its norm."""

    def __init__(self, sizes: ImageSizes) -> None:
        super().__init__()
        self.heads = sizes.heads
        inner = sizes.heads * sizes.head_width
        self.norm = nn.LayerNorm(sizes.width)
        self.query = nn.Linear(sizes.width, inner, bias=False)
        self.key_value = nn.Linear(sizes.width, 2 * inner, bias=False)
        self.query_scale = nn.Parameter(torch.ones(sizes.head_width))
        self.key_scale = nn.Parameter(torch.ones(sizes.head_width))
        self.out = nn.Linear(inner, sizes.width, bias=False)

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """(N, L, C); ``bias`` (heads, L, L) is added before the softmax."""
        split = (-1, self.heads, self.query_scale.shape[0])
        parts = (self.query(self.norm(x)), *self.key_value(x).chunk(2, dim=-1))
        query, key, value = (part.reshape(x.shape[0], *split).transpose(1, 2) for part in parts)
        query = F.normalize(query, dim=-1) * self.query_scale
        key = F.normalize(key, dim=-1) * self.key_scale
        mask = None if bias is None else bias.to(query.dtype)[None]
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=ATTENTION_SCALE)
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out


class FeedForward(nn.Module):
    """Gated by GELU: the second half of the wide layer is the gate."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 2 * inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        wide, gate = self.up(self.norm(x)).chunk(2, dim=-1)
        out: Tensor = self.down(F.gelu(gate) * wide)
        return out
