"""Layers of the spatio-temporal diffusion transformer, named as in CTFlow's released checkpoint.

S tokens of a slice group, T slice groups, C width, E text width. LayerNorms have no parameters, eps 1e-6.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ctgen_ctflow.fast_linear import linear

NORM_EPS = 1e-6
TIME_SINUSOIDS = 256
SHORT = 256


def sinusoids(values: Tensor, size: int = TIME_SINUSOIDS, max_period: float = 10000.0) -> Tensor:
    """(B,) -> (B, size) float32: cosines first, then sines."""
    half = size // 2
    rates = torch.exp(-math.log(max_period) * torch.arange(half, dtype=torch.float32, device=values.device) / half)
    angles = values.float()[:, None] * rates
    return torch.cat((angles.cos(), angles.sin()), dim=-1)


def axis_positions(count: int, size: int, device: torch.device) -> Tensor:
    """(count, size) of positions 0 .. count - 1: sines first, then cosines; float64 where the device has it."""
    dtype = torch.float32 if device.type == "mps" else torch.float64
    rates = 10000.0 ** -(torch.arange(size // 2, dtype=dtype, device=device) / (size // 2))
    angles = torch.arange(count, dtype=dtype, device=device)[:, None] * rates
    return torch.cat((angles.sin(), angles.cos()), dim=-1)


def plane_positions(height: int, width: int, size: int, device: torch.device) -> Tensor:
    """(height * width, size), rows first; the first half of the channels encodes the column, the second the row."""
    columns = axis_positions(width, size // 2, device)[None].expand(height, -1, -1)
    rows = axis_positions(height, size // 2, device)[:, None].expand(-1, width, -1)
    return torch.cat((columns, rows), dim=-1).reshape(height * width, size)


def modulate(x_BNC: Tensor, shift_B1C: Tensor, scale_B1C: Tensor) -> Tensor:
    """LayerNorm, then scale and shift."""
    return torch.addcmul(shift_B1C, F.layer_norm(x_BNC, x_BNC.shape[-1:], eps=NORM_EPS), scale_B1C + 1)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax(q k / sqrt(d)) v with softmax in float32; (B, heads, N, d)."""
    # Torch's fused CPU kernel in bfloat16 is twice as slow (forward and backward) as two products on short sequences.
    if mask is None and q.dtype == torch.bfloat16 and q.device.type == "cpu" and k.shape[2] <= SHORT:
        batch, heads, count, size = q.shape
        q, k, v = (x.reshape(batch * heads, -1, size) for x in (q, k, v))
        scores = torch.baddbmm(q.new_empty(1, 1, 1), q, k.transpose(1, 2), beta=0, alpha=size**-0.5)
        # On the CPU this softmax computes in float32 and rounds its result.
        return torch.bmm(scores.softmax(-1), v).view(batch, heads, count, size)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


class Mlp(nn.Module):
    def __init__(self, size: int, hidden: int, out: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(size, hidden)
        self.fc2 = nn.Linear(hidden, out)

    def forward(self, x: Tensor) -> Tensor:
        return linear(self.fc2, linear(self.fc1, x, gelu=True))


class PatchEmbedding(nn.Module):
    """A strided Conv3d in the checkpoint; computed as one matrix product over flattened patches."""

    def __init__(self, channels: int, width: int, patch: tuple[int, int, int]) -> None:
        super().__init__()
        self.patch = patch
        self.proj = nn.Conv3d(channels, width, patch, stride=patch)

    def forward(self, x_BCdhw: Tensor) -> Tensor:
        """-> (B, T, S, C) tokens."""
        batch, channels, *cells = x_BCdhw.shape
        (p, q, r), (t, h, w) = self.patch, (size // step for size, step in zip(cells, self.patch, strict=True))
        patches = x_BCdhw.view(batch, channels, t, p, h, q, w, r).permute(0, 2, 4, 6, 1, 3, 5, 7)
        return F.linear(patches.reshape(batch, t, h * w, channels * p * q * r), self.proj.weight.flatten(1), self.proj.bias)


class TimeEmbedding(nn.Module):
    """Sinusoids of ``inputs`` numbers -> width -> width. A negative number means unknown and contributes nothing."""

    def __init__(self, width: int, inputs: int = 1) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(TIME_SINUSOIDS * inputs, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, values_BK: Tensor) -> Tensor:
        batch, inputs = values_BK.shape
        waves = sinusoids(values_BK.reshape(-1)) * (values_BK.reshape(-1, 1) >= 0)
        dtype = next(self.mlp.parameters()).dtype
        embedding: Tensor = self.mlp(waves.view(batch, inputs * TIME_SINUSOIDS).to(dtype))
        return embedding


class SelfAttention(nn.Module):
    """Multi-head attention over N. ``swap_heads`` False: the released model's layout, (heads, N) read as (N, heads)."""

    def __init__(self, width: int, heads: int, swap_heads: bool) -> None:
        super().__init__()
        self.heads, self.swap_heads = heads, swap_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x_BNC: Tensor) -> Tensor:
        batch, count, width = x_BNC.shape
        qkv = linear(self.qkv, x_BNC).view(batch, count, 3, self.heads, width // self.heads)
        mixed = attend(*qkv.permute(2, 0, 3, 1, 4).unbind(0))
        if self.swap_heads:
            mixed = mixed.transpose(1, 2)
        return linear(self.proj, mixed.reshape(batch, count, width))


class CrossAttention(nn.Module):
    """Attention from tokens to text. With one key per sample softmax is 1, and the result is proj(v(y)) for every token."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_linear = nn.Linear(width, width)
        self.kv_linear = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x_BNC: Tensor, y_BLC: Tensor, mask_BL: Tensor | None) -> Tensor:
        """(B, N, C), or (B, 1, C) if there is one key and no mask."""
        batch, count, width = x_BNC.shape
        if y_BLC.shape[1] == 1 and mask_BL is None:
            bias: Tensor = self.proj(F.linear(y_BLC, self.kv_linear.weight[width:], self.kv_linear.bias[width:]))
            return bias
        q = linear(self.q_linear, x_BNC).view(batch, count, self.heads, -1).transpose(1, 2)
        k, v = self.kv_linear(y_BLC).view(batch, y_BLC.shape[1], 2, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        mask = None if mask_BL is None else mask_BL[:, None, None, :].expand(-1, -1, count, -1)
        return linear(self.proj, attend(q, k, v, mask).transpose(1, 2).reshape(batch, count, width))


class Block(nn.Module):
    """Spatial attention, temporal attention (not modulated, shares the gate), text, MLP; modulation from one shared t-block.

    ``temporal_norm``: temporal attention reads normalised tokens; the paper's reads them as they are.
    """

    def __init__(self, width: int, heads: int, mlp_hidden: int, swap_heads: bool, temporal_norm: bool = False) -> None:
        super().__init__()
        self.temporal_norm = temporal_norm
        self.scale_shift_table = nn.Parameter(torch.randn(6, width) / math.sqrt(width))
        self.attn = SelfAttention(width, heads, swap_heads)
        self.cross_attn = CrossAttention(width, heads)
        self.mlp = Mlp(width, mlp_hidden, width)
        self.attn_temp = SelfAttention(width, heads, swap_heads)

    def forward(
        self, x_BTSC: Tensor, t_B6C: Tensor, y_BLC: Tensor | None, mask_BL: Tensor | None, positions_TC: Tensor | None
    ) -> Tensor:
        batch, groups, cells, width = x_BTSC.shape
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = (self.scale_shift_table + t_B6C).chunk(6, dim=1)
        x = x_BTSC.reshape(batch, groups * cells, width)
        space = modulate(x, shift_a, scale_a).view(batch * groups, cells, width)
        x = torch.addcmul(x, gate_a, self.attn(space).view(batch, groups * cells, width))
        time = x.view(batch, groups, cells, width)
        if self.temporal_norm:
            time = F.layer_norm(time, (width,), eps=NORM_EPS)
        if positions_TC is not None:
            time = time + positions_TC[:, None, :]
        # Contiguous even for a batch of one, where reshape is a view: linear layers on views add their bias in an extra pass.
        time = self.attn_temp(time.transpose(1, 2).contiguous().view(batch * cells, groups, width))
        time = time.view(batch, cells, groups, width).transpose(1, 2)
        x = torch.addcmul(x.view(batch, groups, cells, width), gate_a[:, None], time).view(batch, groups * cells, width)
        if y_BLC is not None:
            x = x + self.cross_attn(x, y_BLC, mask_BL)
        x = torch.addcmul(x, gate_m, self.mlp(modulate(x, shift_m, scale_m)))
        return x.view(batch, groups, cells, width)


class FinalLayer(nn.Module):
    """Modulated by the time embedding itself (not the t-block); -> patch values, channel last."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.scale_shift_table = nn.Parameter(torch.randn(2, width) / math.sqrt(width))
        self.linear = nn.Linear(width, out)

    def forward(self, x_BNC: Tensor, t_BC: Tensor) -> Tensor:
        shift, scale = (self.scale_shift_table + t_BC[:, None]).chunk(2, dim=1)
        out: Tensor = self.linear(modulate(x_BNC, shift, scale))
        return out
