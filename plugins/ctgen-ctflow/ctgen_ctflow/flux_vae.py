"""FLUX's autoencoder (diffusers AutoencoderKL in FLUX's layout) applied to a CT slice by slice."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from ctgen.interfaces import LatentSpec, Posterior
from ctgen.weights import info, locate
from ctgen_ctflow import flux_vae_weights
from ctgen_ctflow.flux_vae_config import FluxVaeConfig
from ctgen_ctflow.linear_start import linear_start

FLUX_SCALE, FLUX_SHIFT = 0.3611, 0.1159
SHIPPED = {"mini": Path(__file__).parent / "weights" / "mini" / "flux-vae.safetensors"}
Number = TypeVar("Number", float, Tensor)


class FluxVae(nn.Module):
    """HU <-> latent, one slice at a time; H and W shrink by 8 (FLUX), D is kept."""

    def __init__(self, config: FluxVaeConfig) -> None:
        super().__init__()
        self.config = config
        self.latent: LatentSpec = config.latent_spec()
        self.hu_range = config.window_hu
        self.vae = AutoencoderKL(
            in_channels=config.image_channels,
            out_channels=config.image_channels,
            down_block_types=("DownEncoderBlock2D",) * len(config.channels),
            up_block_types=("UpDecoderBlock2D",) * len(config.channels),
            block_out_channels=config.channels,
            layers_per_block=config.layers_per_level,
            latent_channels=config.latent_channels,
            norm_num_groups=config.norm_groups,
            use_quant_conv=False,
            use_post_quant_conv=False,
            mid_block_add_attention=config.mid_attention,
            sample_size=256,
        )
        path = locate(config.weights, component="flux-vae", shipped=SHIPPED, how_to_get=flux_vae_weights.HOW_TO_GET)
        self.weights = info(config.weights, path)
        self.scale, self.shift = 1.0, 0.0
        if path:
            self.scale, self.shift = FLUX_SCALE, FLUX_SHIFT
            state, metadata = flux_vae_weights.read(path, config, self.state_dict())
            self.load_state_dict(state)
            self.load_metadata(metadata)
        elif config.start == "linear":
            linear_start(self.vae, centre=0.4 * (config.range[1] - config.range[0]) + config.range[0])
        if config.scale is not None:
            self.scale = config.scale
        if config.shift is not None:
            self.shift = config.shift
        # convolutions over NHWC memory are faster on CPU and GPU alike
        self.vae.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def marker_hu(self) -> tuple[float, float]:
        """HU that the network sees as black (the range's start, 0 in CTFlow) and white (1)."""
        return self._to_hu(self.config.range[0]), self._to_hu(1.0)

    def encode(self, volume: Tensor) -> Posterior:
        """(B, 1, D, H, W) HU -> moments (B, c, D, h, w); slices pass in chunks of ``config.chunk``."""
        chunks = torch.split(self._pixels(volume), self.config.chunk)
        moments = torch.cat([self.vae.encode(chunk).latent_dist.parameters for chunk in chunks]).float()
        mean, logvar = self._volumes(moments, volume.shape[0]).chunk(2, dim=1)
        return Posterior(mean, logvar.clamp(-30.0, 20.0))

    def finalise(self, posterior: Posterior, *, generator: torch.Generator | None) -> Tensor:
        """A draw of the posterior (its mean if ``generator`` is None) in the backbone's units."""
        raw = posterior.mean
        if generator is not None and posterior.logvar is not None:
            noise = torch.randn(raw.shape, generator=generator, device=generator.device, dtype=raw.dtype).to(raw.device)
            raw = raw + noise * (0.5 * posterior.logvar).exp()
        return (raw - self.shift) * self.scale

    def decode(self, latent: Tensor) -> Tensor:
        """(B, c, d, h, w) -> (B, 1, D, H, W) HU, not clipped; image channels are averaged."""
        raw = latent / self.scale + self.shift
        slices = raw.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        chunks = torch.split(slices, self.config.chunk)
        pixels = torch.cat([self.vae.decode(chunk).sample.float().mean(1, keepdim=True) for chunk in chunks])
        return self._to_hu(self._volumes(pixels, latent.shape[0]))

    def forward(self, volume: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Posterior]:
        """Encode, draw, decode: (reconstruction HU like ``volume``, posterior). What an objective trains."""
        posterior = self.encode(volume)
        return self.decode(self.finalise(posterior, generator=generator)), posterior

    def load_metadata(self, metadata: Mapping[str, str]) -> None:
        """Take over the latent scale and shift that were stored with a weights file, except those that the config states."""
        if self.config.scale is None:
            self.scale = float(metadata.get("scale", self.scale))
        if self.config.shift is None:
            self.shift = float(metadata.get("shift", self.shift))

    @staticmethod
    def _volumes(slices: Tensor, batch: int) -> Tensor:
        """(B*D, C, H, W) -> (B, C, D, H, W)."""
        return slices.reshape(batch, -1, *slices.shape[1:]).transpose(1, 2)

    def _pixels(self, volume: Tensor) -> Tensor:
        """(B, 1, D, H, W) HU -> (B*D, C, H, W) network input; beyond the window up to white is kept, the rest clipped."""
        low, high = self.config.window_hu
        start, end = self.config.range
        pixels = (volume - low) / (high - low) * (end - start) + start
        slices = pixels.clamp(start, 1.0).transpose(1, 2).flatten(0, 1)
        return slices.expand(-1, self.config.image_channels, -1, -1).contiguous(memory_format=torch.channels_last)

    def _to_hu(self, pixels: Number) -> Number:
        low, high = self.config.window_hu
        start, end = self.config.range
        return (pixels - start) / (end - start) * (high - low) + low
