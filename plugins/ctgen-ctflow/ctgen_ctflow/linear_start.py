"""A start for training small AutoencoderKLs: the untrained network is already a linear transform codec.

From the usual random start a small network needs thousands of steps to find what a cosine transform does for nothing. Here
every residual branch starts at zero, so that what is left of the encoder is a cascade of 2 x 2 Haar steps and a projection on
the lowest cosine frequencies, and what is left of the decoder interpolates back. Two identities make that exact although both
ends of the network pass a GroupNorm and a SiLU:

- silu(x) - silu(-x) = x: each value is carried twice, with both signs;
- a group that also holds the constants +K and -K, large against the values, has mean 0 and a variance of almost nothing but
  K, so its normalisation is a constant factor, which the norm's gain undoes.

All other channels keep their random start and are free to learn.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ctgen.errors import ConfigError

BIG = 10.0
"""K: large against the values carried (up to about 4), small enough for their digits in bfloat16."""
FREE = 0.1
"""Factor on the random weights that lead out of free channels."""


@torch.no_grad()
def linear_start(vae: Any, centre: float) -> None:
    """Set the weights of a diffusers ``AutoencoderKL`` with 3 levels of halving; ``centre``: the mean pixel value expected.

    Raises ConfigError where the layout leaves no room: fewer channels than Haar components, or too small norm groups.
    """
    encoder, decoder = vae.encoder, vae.decoder
    latents = decoder.conv_in.in_channels
    _check([block.resnets[0].conv1.out_channels for block in encoder.down_blocks], latents)
    for block in (encoder.mid_block, decoder.mid_block, *encoder.down_blocks, *decoder.up_blocks):
        for resnet in block.resnets:
            _zero(resnet.conv2)
            if resnet.conv_shortcut is not None:
                _pass(resnet.conv_shortcut)
        for attention in getattr(block, "attentions", None) or ():
            _zero(attention.to_out[0])
    basis = haar_packets() @ cosine_basis(latents)
    _encoder(encoder, basis, centre)
    _decoder(decoder, basis, centre)


def haar_packets() -> Tensor:
    """(64, 64) orthonormal: 8 x 8 pixels (row-major) -> Haar packet components in the order the cascade yields them."""
    step = torch.tensor([[1.0, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]) / 2
    pixels = torch.eye(64).reshape(64, 1, 8, 8)
    for _ in range(3):
        count, channels, height, width = pixels.shape
        quads = pixels.reshape(count, channels, height // 2, 2, width // 2, 2).permute(0, 1, 2, 4, 3, 5).flatten(-2)
        pixels = torch.einsum("nchwq,kq->nckhw", quads, step).flatten(1, 2)
    return pixels.flatten(1).T.contiguous()


def cosine_basis(count: int) -> Tensor:
    """(64, count): the ``count`` lowest frequencies of the 8 x 8 cosine transform, orthonormal columns over pixels."""
    at = torch.arange(8, dtype=torch.float64)
    rows = torch.stack([torch.cos(math.pi * (at + 0.5) * k / 8) * (math.sqrt(1 / 8) if k == 0 else 0.5) for k in range(8)])
    order = sorted(((i, j) for i in range(8) for j in range(8)), key=lambda pair: (pair[0] ** 2 + pair[1] ** 2, pair))
    return torch.stack([torch.outer(rows[i], rows[j]).flatten() for i, j in order[:count]], dim=1).float()


def _check(widths: list[int], latents: int) -> None:
    """ConfigError if a level cannot hold its Haar components, or if a projection that the start writes to does not exist."""
    if len(widths) != 4:
        raise ConfigError(f"start: linear needs 4 levels (8 x 8 pixels per cell), not {len(widths)}")
    if latents > 64:
        raise ConfigError(f"start: linear: a cell of 8 x 8 pixels has 64 cosine components, not {latents}")
    for level, (width, needed) in enumerate(zip(widths, (4, 16, 64, 64), strict=True)):
        if width < needed:
            raise ConfigError(f"start: linear: level {level} has {width} channels, {needed} Haar components need a place")
    for level in (1, 3):
        if widths[level] == widths[level - 1]:
            raise ConfigError(
                f"start: linear: levels {level - 1} and {level} are both {widths[level]} wide, so there is no projection to set"
            )


def _encoder(encoder: Any, basis: Tensor, centre: float) -> None:
    conv_in = encoder.conv_in
    conv_in.weight[0] = 0
    conv_in.weight[0, :, 1, 1] = 1 / conv_in.in_channels
    conv_in.bias[0] = -centre
    signs = ((1.0, 1.0), (1.0, -1.0))
    for level, block in enumerate(encoder.down_blocks[:3]):
        conv, components = block.downsamplers[0].conv, 4**level
        conv.weight[: 4 * components] = 0
        conv.bias[: 4 * components] = 0
        for component in range(components):
            for k in range(4):
                rows, columns = torch.tensor(signs[k // 2]), torch.tensor(signs[k % 2])
                # padded on the right and below only: taps 0 and 1 are the 2 x 2 pixels of the cell
                conv.weight[4 * component + k, component, :2, :2] = torch.outer(rows, columns) / 2
    last = encoder.down_blocks[3].resnets[0].conv_shortcut
    places = _carry(last, encoder.conv_norm_out, [basis[:, k] for k in range(basis.shape[1])])
    conv_out, latents = encoder.conv_out, basis.shape[1]
    conv_out.weight *= FREE
    conv_out.weight[:, : _carried(encoder.conv_norm_out, len(places))] = 0
    conv_out.bias.zero_()
    for k, (plus, minus) in enumerate(places):
        conv_out.weight[k] = 0
        conv_out.weight[k, plus, 1, 1], conv_out.weight[k, minus, 1, 1] = 1, -1
    conv_out.weight[latents:] = 0
    conv_out.bias[latents:] = -7.0  # log-variance: a little noise


def _decoder(decoder: Any, basis: Tensor, centre: float) -> None:
    conv_in = decoder.conv_in
    conv_in.weight[:64] = 0
    conv_in.weight[:64, :, 1, 1] = basis
    conv_in.bias[:64] = 0
    # After nearest upsampling a 3-tap kernel can interpolate a mean linearly, and bend it by differences of neighbours.
    mean, difference = torch.tensor([0.25, 0.5, 0.25]) / math.sqrt(2), torch.tensor([-0.2, 0.0, 0.2])
    for level, block in enumerate(decoder.up_blocks[:3]):
        conv, components = block.upsamplers[0].conv, 4 ** (2 - level)
        conv.weight[:components] = 0
        conv.bias[:components] = 0
        for component in range(components):
            for k in range(4):
                rows, columns = (mean, difference)[k // 2], (mean, difference)[k % 2]
                conv.weight[component, 4 * component + k] = torch.outer(rows, columns)
    shortcut = decoder.up_blocks[3].resnets[0].conv_shortcut
    pixel = torch.zeros(1)
    pixel[0] = 1
    ((plus, minus),) = _carry(shortcut, decoder.conv_norm_out, [pixel])
    conv_out = decoder.conv_out
    conv_out.weight *= FREE
    conv_out.weight[:, : _carried(decoder.conv_norm_out, 1)] = 0
    conv_out.weight[:, plus, 1, 1], conv_out.weight[:, minus, 1, 1] = 1, -1
    conv_out.bias.fill_(centre)


def _carry(shortcut: nn.Conv2d, norm: nn.GroupNorm, values: list[Tensor]) -> list[tuple[int, int]]:
    """Let ``shortcut`` put each value (a combination of its first input channels) with both signs into groups of ``norm``
    that also hold +BIG and -BIG; returns the channels (plus, minus) of each value after norm."""
    size = norm.num_channels // norm.num_groups
    per_group = (size - 2) // 2
    if per_group < 1 or len(values) > per_group * norm.num_groups:
        raise ConfigError(
            f"start: linear: {len(values)} values do not fit into {norm.num_groups} norm groups of {size} channels"
        )
    carried = _carried(norm, len(values))
    shortcut.weight[:carried] = 0
    shortcut.bias[:carried] = 0  # type: ignore[index]
    norm.weight[:carried] = BIG * math.sqrt(2 / size)
    norm.bias[:carried] = 0
    places: list[tuple[int, int]] = []
    for number, combination in enumerate(values):
        first = number // per_group * size
        plus = first + 2 + 2 * (number % per_group)
        shortcut.bias[first], shortcut.bias[first + 1] = BIG, -BIG  # type: ignore[index]
        norm.weight[first : first + 2] = (
            0  # the constants have done their work; left on, they would shake the output in training
        )
        shortcut.weight[plus, : len(combination), 0, 0] = combination
        shortcut.weight[plus + 1, : len(combination), 0, 0] = -combination
        places.append((plus, plus + 1))
    return places


def _carried(norm: nn.GroupNorm, values: int) -> int:
    """How many of the first channels belong to groups that carry ``values`` values."""
    size = norm.num_channels // norm.num_groups
    per_group = (size - 2) // 2
    return -(-values // per_group) * size


def _zero(layer: Any) -> None:
    layer.weight.zero_()
    layer.bias.zero_()


def _pass(shortcut: nn.Conv2d) -> None:
    """The first channels pass unchanged (as many as there are on both sides, half of the outputs at most stay free)."""
    kept = min(shortcut.in_channels, shortcut.out_channels)
    shortcut.weight[:kept] = 0
    shortcut.weight[:kept, :kept, 0, 0] = torch.eye(kept)
    shortcut.bias[:kept] = 0  # type: ignore[index]
