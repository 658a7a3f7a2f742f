"""One pass of slices through a diffusers ``AutoencoderKL``, leaner than its own ``forward``.

In float32 every number is the one that diffusers computes, bit for bit; without gradients activations and sums are made in
place, which saves memory and the time that fresh memory takes.

In bfloat16 products and activations are bfloat16. Float32 stay: the sums inside convolutions, the statistics and gains of
group norms, the softmax, and the first and the last convolution of each half, so that the image, the posterior's moments and
the latent are never rounded to 8 bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ctgen_ctflow.flux_vae_pixels import Precision

Made = TypeVar("Made")
Kernels = tuple[Tensor, Tensor, Tensor, Tensor]
SHORT = 4096
"""Cells of the lowest resolution up to which two products beat torch's fused attention on CPUs in bfloat16."""


class Kept:
    """What is derived from parameters, made once and again when they change; not kept while gradients are wanted."""

    def __init__(self) -> None:
        self._made: dict[tuple[int, Any], tuple[tuple[Any, ...], Any]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return Kept, ()

    def clear(self) -> None:
        self._made.clear()

    def get(self, parameter: Tensor, make: Callable[[Tensor], Made]) -> Made:
        if torch.is_grad_enabled() or parameter.is_inference():
            return make(parameter)
        key, stamp = (id(parameter), make), (parameter.data_ptr(), parameter.device, parameter._version)
        if key not in self._made or self._made[key][0] != stamp:
            self._made[key] = stamp, make(parameter)
        made: Made = self._made[key][1]
        return made


def bfloat16(weight: Tensor) -> Tensor:
    return weight.to(torch.bfloat16)


def upsampling_kernels(weight: Tensor) -> Kernels:
    """A 3 x 3 convolution after doubling by repetition is four 2 x 2 convolutions before it, one per corner of each new 2 x 2.

    Equal but for rounding, with 4 products in place of 9. (o, i, 3, 3) -> kernels for (row, column) parity 00, 01, 10, 11.
    """

    def halves(kernel: Tensor, axis: int) -> tuple[Tensor, Tensor]:
        before, middle, after = kernel.unbind(axis)
        return torch.stack((before, middle + after), axis), torch.stack((before + middle, after), axis)

    upper, lower = halves(weight, 2)
    (a, b), (c, d) = halves(upper, 3), halves(lower, 3)
    return _channels_last(a), _channels_last(b), _channels_last(c), _channels_last(d)


def _channels_last(kernel: Tensor) -> Tensor:
    return kernel.to(torch.bfloat16).contiguous(memory_format=torch.channels_last)


class SlicePass:
    """Encodes and decodes slices (N, C, H, W) in channels-last memory with the weights of ``vae``."""

    def __init__(self, vae: Any, precision: Precision) -> None:
        self.vae, self.half = vae, precision == "bfloat16"
        self.kept = Kept()

    def encode(self, pixels: Tensor) -> Tensor:
        """-> (N, 2c, h, w) float32: mean, then log variance."""
        encoder = self.vae.encoder
        x = self._inner(self._edge(encoder.conv_in, pixels))
        for block in encoder.down_blocks:
            for resnet in block.resnets:
                x = self._residual(resnet, x)
            for downsampler in block.downsamplers or ():
                x = self._conv(downsampler.conv, F.pad(x, (0, 1, 0, 1)))
        x = self._middle(encoder.mid_block, x)
        return self._edge(encoder.conv_out, self._normed(encoder.conv_norm_out, x))

    def decode(self, raw: Tensor) -> Tensor:
        """(N, c, h, w) -> (N, C, H, W) float32 pixels."""
        decoder = self.vae.decoder
        x = self._middle(decoder.mid_block, self._inner(self._edge(decoder.conv_in, raw)))
        for block in decoder.up_blocks:
            for resnet in block.resnets:
                x = self._residual(resnet, x)
            for upsampler in block.upsamplers or ():
                x = self._upsample(upsampler.conv, x)
        return self._edge(decoder.conv_out, self._normed(decoder.conv_norm_out, x))

    def _inner(self, x: Tensor) -> Tensor:
        return x.to(torch.bfloat16) if self.half else x

    def _edge(self, conv: nn.Conv2d, x: Tensor) -> Tensor:
        return F.conv2d(x.float(), conv.weight, conv.bias, conv.stride, conv.padding)

    def _cast(self, parameter: Any) -> Any:
        return self.kept.get(parameter, bfloat16) if self.half and parameter is not None else parameter

    def _conv(self, conv: nn.Conv2d, x: Tensor) -> Tensor:
        return F.conv2d(x, self._cast(conv.weight), self._cast(conv.bias), conv.stride, conv.padding)

    def _linear(self, linear: nn.Linear, x: Tensor) -> Tensor:
        return F.linear(x, self._cast(linear.weight), self._cast(linear.bias))

    def _norm(self, norm: nn.GroupNorm, x: Tensor) -> Tensor:
        # statistics are float32 inside; only the CPU's kernel also takes float32 gains for bfloat16 values
        gains = norm.weight, norm.bias
        weight, bias = gains if x.device.type == "cpu" else (self._cast(gains[0]), self._cast(gains[1]))
        return F.group_norm(x, norm.num_groups, weight, bias, norm.eps)

    def _normed(self, norm: nn.GroupNorm, x: Tensor) -> Tensor:
        """silu(norm(x))"""
        return F.silu(self._norm(norm, x), inplace=not torch.is_grad_enabled())

    def _residual(self, block: Any, x: Tensor) -> Tensor:
        # one name for all: what it named before is freed
        y = self._normed(block.norm1, x)
        y = self._conv(block.conv1, y)
        y = self._normed(block.norm2, y)
        y = self._conv(block.conv2, y)
        if block.conv_shortcut is not None:
            x = self._conv(block.conv_shortcut, x)
        return _sum(y, x)

    def _middle(self, block: Any, x: Tensor) -> Tensor:
        x = self._residual(block.resnets[0], x)
        for attention, resnet in zip(block.attentions, block.resnets[1:], strict=True):
            x = self._residual(resnet, x if attention is None else self._attention(attention, x))
        return x

    def _attention(self, attention: Any, x: Tensor) -> Tensor:
        """One head over all cells of a slice."""
        count, width, height, columns = x.shape
        cells = self._norm(attention.group_norm, x.flatten(2)).transpose(1, 2)
        q, k, v = (self._linear(linear, cells)[:, None] for linear in (attention.to_q, attention.to_k, attention.to_v))
        if self.half and x.device.type == "cpu" and height * columns <= SHORT:
            scores = (q * width**-0.5) @ k.transpose(-1, -2)
            mixed = scores.softmax(-1, dtype=torch.float32).to(v.dtype) @ v
        else:
            mixed = F.scaled_dot_product_attention(q, k, v)
        out = self._linear(attention.to_out[0], mixed[:, 0]).transpose(1, 2).reshape(count, width, height, columns)
        return out + x

    def _upsample(self, conv: nn.Conv2d, x: Tensor) -> Tensor:
        if not self.half:
            return self._conv(conv, F.interpolate(x, scale_factor=2.0, mode="nearest"))
        count, _, height, width = x.shape
        kernels, bias = self.kept.get(conv.weight, upsampling_kernels), self._cast(conv.bias)
        size = (count, conv.out_channels, 2 * height, 2 * width)
        out = torch.empty(size, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
        for index, kernel in enumerate(kernels):
            row, column = divmod(index, 2)
            corner = F.conv2d(x, kernel, bias, padding=1)
            out[:, :, row::2, column::2] = corner[:, :, row : row + height, column : column + width]
        return out


def _sum(made: Tensor, x: Tensor) -> Tensor:
    """Into ``made``'s memory where no gradient needs it."""
    return x + made if torch.is_grad_enabled() else made.add_(x)
