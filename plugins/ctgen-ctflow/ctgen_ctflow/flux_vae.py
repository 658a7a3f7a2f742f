"""FLUX's autoencoder (diffusers AutoencoderKL in FLUX's layout) applied to a CT slice by slice."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import torch
from diffusers import AutoencoderKL
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from ctgen.errors import CheckpointError
from ctgen.interfaces import LatentSpec, Posterior
from ctgen.weights import info, locate
from ctgen_ctflow.flux_vae_config import FluxVaeConfig
from ctgen_ctflow.linear_start import linear_start

FLUX_SCALE, FLUX_SHIFT = 0.3611, 0.1159
SHIPPED = {"mini": Path(__file__).parent / "weights" / "mini" / "flux-vae.safetensors"}
Number = TypeVar("Number", float, Tensor)
HOW_TO_GET = (
    "FLUX.1's autoencoder is the folder `vae` of black-forest-labs/FLUX.1-schnell on the Hugging Face hub (Apache-2.0): "
    "accept its terms there, then `hf download black-forest-labs/FLUX.1-schnell --include 'vae/*' --local-dir flux`, "
    "and set autoencoder.weights=flux/vae"
)


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
        path = locate(config.weights, component="flux-vae", shipped=SHIPPED, how_to_get=HOW_TO_GET)
        self.weights = info(config.weights, path)
        self.scale, self.shift = 1.0, 0.0
        if path:
            self.scale, self.shift = FLUX_SCALE, FLUX_SHIFT
            self.load_metadata(self._load(path))
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
        """HU that the network sees as black (0) and white (1)."""
        return self._to_hu(0.0), self._to_hu(1.0)

    def encode(self, volume: Tensor) -> Posterior:
        """(B, 1, D, H, W) HU -> moments (B, c, D, h, w); slices pass in chunks of ``config.chunk``."""
        chunks = self._pixels(volume).split(self.config.chunk)
        moments = torch.cat([self.vae.encode(chunk).latent_dist.parameters for chunk in chunks])
        batch, depth = volume.shape[0], volume.shape[2]
        mean, logvar = moments.float().unflatten(0, (batch, depth)).transpose(1, 2).chunk(2, dim=1)
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
        chunks = slices.split(self.config.chunk)
        pixels = torch.cat([self.vae.decode(chunk).sample.float().mean(1, keepdim=True) for chunk in chunks])
        return self._to_hu(pixels.unflatten(0, (latent.shape[0], latent.shape[2])).transpose(1, 2))

    def forward(self, volume: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Posterior]:
        """Encode, draw, decode: (reconstruction HU like ``volume``, posterior). What an objective trains."""
        posterior = self.encode(volume)
        return self.decode(self.finalise(posterior, generator=generator)), posterior

    def load_metadata(self, metadata: Mapping[str, str]) -> None:
        """Take over the latent scale and shift that were stored with a weights file."""
        self.scale = float(metadata.get("scale", self.scale))
        self.shift = float(metadata.get("shift", self.shift))

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

    def _load(self, path: Path) -> dict[str, str]:
        """Load a diffusers folder or one of our safetensors; returns the file's metadata. Misfit: CheckpointError."""
        metadata: dict[str, str] = {}
        if path.is_dir():
            file, prefix = path / "diffusion_pytorch_model.safetensors", "vae."
            if (path / "config.json").is_file():
                stored = json.loads((path / "config.json").read_text(encoding="utf-8"))
                metadata = {
                    key: str(stored[name])
                    for key, name in (("scale", "scaling_factor"), ("shift", "shift_factor"))
                    if stored.get(name) is not None
                }
        else:
            file, prefix = path, ""
            with safe_open(str(file), framework="pt") as handle:
                metadata = dict(handle.metadata() or {})
        if not file.is_file():
            raise CheckpointError(f"flux-vae: {file} does not exist", hint=HOW_TO_GET)
        state = {prefix + key: value.float() for key, value in load_file(str(file)).items()}
        own = self.state_dict()
        wrong = sorted(
            f"{key}: file {tuple(state[key].shape) if key in state else 'absent'}, "
            f"config {tuple(own[key].shape) if key in own else 'absent'}"
            for key in state.keys() | own.keys()
            if key not in state or key not in own or state[key].shape != own[key].shape
        )
        if wrong:
            raise CheckpointError(
                f"flux-vae: {file} does not fit architecture {self.config.architecture!r} with widths {self.config.channels}; "
                f"{len(wrong)} differences, first: " + "; ".join(wrong[:4])
            )
        self.load_state_dict(state)
        return metadata
