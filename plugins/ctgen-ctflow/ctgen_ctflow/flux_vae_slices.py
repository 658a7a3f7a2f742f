"""The volume's side of every autoencoder that sends slices one by one through a 2-D network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from ctgen.interfaces import LatentSpec, Posterior, WeightsInfo
from ctgen_ctflow.flux_vae_memory import slices_per_pass
from ctgen_ctflow.flux_vae_pixels import SliceCodecConfig

LOGVAR = (-30.0, 20.0)
Self = TypeVar("Self", bound="SliceCodec")


class SliceCodec(nn.Module, ABC):
    """HU <-> latent, one slice at a time: H and W shrink, D is kept; a slice's result depends on that slice alone.

    Latents are (raw - shift) * scale, where raw is the posterior's mean or a draw of it. Parameters are float32 whatever the
    precision, so that training, averaging and saving lose nothing; so are moments and HU.
    """

    weights: WeightsInfo

    def __init__(self, config: SliceCodecConfig, latent: LatentSpec, image_channels: int) -> None:
        super().__init__()
        self.config, self.latent, self.image_channels = config, latent, image_channels
        self.hu_range, self.pixels = config.window_hu, config.pixels
        self.scale, self.shift = 1.0, 0.0

    @abstractmethod
    def encode_slices(self, pixels: Tensor) -> Tensor:
        """(N, C, H, W) channels-last -> (N, c, h, w) mean, or (N, 2c, h, w) mean and log variance; float32."""

    @abstractmethod
    def decode_slices(self, raw: Tensor) -> Tensor:
        """(N, c, h, w) channels-last -> (N, C, H, W) float32 pixels."""

    @abstractmethod
    def pass_bytes(self, height: int, width: int, *, decode: bool) -> int:
        """Peak memory of one slice's activations without gradients; pixels of the slice."""

    @property
    def marker_hu(self) -> tuple[float, float]:
        """HU that the network sees as black (the range's start, 0 in CTFlow) and white (1)."""
        return self.pixels.markers_hu

    def encode(self, volume: Tensor) -> Posterior:
        """(B, 1, D, H, W) HU -> raw moments (B, c, D, h, w); the log variance is clamped to [-30, 20], or None."""
        slices = self.pixels.to_pixels(volume).transpose(1, 2).flatten(0, 1)
        slices = slices.expand(-1, self.image_channels, -1, -1).contiguous(memory_format=torch.channels_last)
        chunks = self._chunks(slices, *volume.shape[-2:], decode=False)
        moments = self._volumes(torch.cat([self.encode_slices(chunk) for chunk in chunks]), volume.shape[0])
        if moments.shape[1] == self.latent.channels:
            return Posterior(moments)
        mean, logvar = moments.chunk(2, dim=1)
        return Posterior(mean, logvar.clamp(*LOGVAR))

    def finalise(self, posterior: Posterior, *, generator: torch.Generator | None) -> Tensor:
        """(draw - shift) * scale: a draw of the posterior (its mean if ``generator`` or its variance is None)."""
        raw = posterior.mean
        if generator is not None and posterior.logvar is not None:
            noise = torch.randn(raw.shape, generator=generator, device=generator.device, dtype=raw.dtype).to(raw.device)
            raw = raw + noise * (0.5 * posterior.logvar).exp()
        return (raw - self.shift) * self.scale

    def decode(self, latent: Tensor) -> Tensor:
        """(B, c, d, h, w) -> (B, 1, D, H, W) HU, not clipped; image channels are averaged."""
        raw = latent / self.scale + self.shift
        slices = raw.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        (_, rows, columns), (height, width) = self.latent.stride, latent.shape[-2:]
        chunks = self._chunks(slices, height * rows, width * columns, decode=True)
        pixels = torch.cat([self.decode_slices(chunk).mean(1, keepdim=True) for chunk in chunks])
        return self.pixels.to_hu(self._volumes(pixels, latent.shape[0]))

    def forward(self, volume: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Posterior]:
        """Encode, draw, decode: (reconstruction HU like ``volume``, posterior). What an objective trains."""
        posterior = self.encode(volume)
        return self.decode(self.finalise(posterior, generator=generator)), posterior

    def load_metadata(self, metadata: Mapping[str, str]) -> None:
        """Take over the latent scale and shift that were stored with a weights file, except those that the config states."""
        stated = {"scale": self.config.scale, "shift": self.config.shift}
        found = {name: float(metadata.get(name, getattr(self, name))) for name in stated}
        self.scale, self.shift = (found[name] if value is None else value for name, value in stated.items())

    def _chunks(self, slices: Tensor, height: int, width: int, *, decode: bool) -> tuple[Tensor, ...]:
        chunk = self.config.chunk
        if chunk == "auto":
            chunk = slices_per_pass(self.pass_bytes(height, width, decode=decode), slices.device)
        return torch.split(slices, chunk)

    @staticmethod
    def _volumes(slices: Tensor, batch: int) -> Tensor:
        """(B*D, C, H, W) -> (B, C, D, H, W)."""
        return slices.reshape(batch, -1, *slices.shape[1:]).transpose(1, 2)
