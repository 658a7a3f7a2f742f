"""TAEF1, the tiny autoencoder for FLUX's latents (diffusers AutoencoderTiny), applied to a CT slice by slice."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderTiny
from torch import Tensor, nn
from torch.func import functional_call

from ctgen.weights import info, locate
from ctgen_ctflow import taef1_weights
from ctgen_ctflow.flux_vae_slices import SliceCodec
from ctgen_ctflow.taef1_config import Taef1Config

WIDTH = 64
"""Channels of every layer."""
HELD = 3
"""Such layers alive at once at the image's resolution."""


class Taef1(SliceCodec):
    """A drop-in for ``flux-vae`` with FLUX's weights: a fourteenth of its arithmetic, the same latents (finalised ones).

    There is no variance: ``finalise`` draws nothing. ``precision: bfloat16`` keeps the first and the last convolution of each
    half in float32; on real chest slices the reconstruction then differs from float32's by 51 to 56 dB PSNR (4 HU). With the
    release's range [0, 0.8333] it restores slices 3 to 4 dB worse than with [-1, 1], on which it was trained.
    """

    config: Taef1Config

    def __init__(self, config: Taef1Config) -> None:
        super().__init__(config, config.latent_spec(), image_channels=3)
        # FLUX's scale and shift are inside this network
        self.net = AutoencoderTiny(latent_channels=self.latent.channels, scaling_factor=1.0, shift_factor=0.0)
        path = locate(config.weights, component="taef1", how_to_get=taef1_weights.HOW_TO_GET)
        self.weights = info(config.weights, path)
        metadata: dict[str, str] = {}
        if path:
            state, metadata = taef1_weights.read(path, self.state_dict())
            self.load_state_dict(state)
        self.load_metadata(metadata)
        self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def encode_slices(self, pixels: Tensor) -> Tensor:
        if self.config.precision == "float32":
            mean: Tensor = self.net.encode(pixels).latents
            return mean
        # as in EncoderTiny: the layers take pixels from 0 to 1
        return _bfloat16(self.net.encoder.layers, pixels.add(1).div(2))

    def decode_slices(self, raw: Tensor) -> Tensor:
        if self.config.precision == "float32":
            pixels: Tensor = self.net.decode(raw).sample
            return pixels
        # as in DecoderTiny: a soft clamp before, pixels from 0 to 1 after
        return _bfloat16(self.net.decoder.layers, torch.tanh(raw / 3) * 3).mul(2).sub(1)

    def pass_bytes(self, height: int, width: int, *, decode: bool) -> int:
        return HELD * WIDTH * height * width * (2 if self.config.precision == "bfloat16" else 4)


def _bfloat16(layers: Any, x: Tensor) -> Tensor:
    """All layers but the first and the last in bfloat16."""
    first, *inner, last = layers
    x = first(x).to(torch.bfloat16)
    for layer in inner:
        x = _cast(layer, x)
    out: Tensor = last(x.float())
    return out


def _cast(layer: nn.Module, x: Tensor) -> Tensor:
    weights = {name: value.to(torch.bfloat16) for name, value in layer.named_parameters()}
    out: Tensor = functional_call(layer, weights, (x,))
    return out
