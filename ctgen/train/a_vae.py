"""Objective `a-vae`: train an autoencoder on slices, optionally against a patch adversary (an "A-VAE")."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics.functional.image import structural_similarity_index_measure as ssim

from ctgen.errors import ConfigError
from ctgen.interfaces import TrainingSource
from ctgen.train.a_vae_config import AVaeConfig


class PatchAdversary(nn.Module):
    """Judges overlapping patches of a slice (PatchGAN, Isola et al. 2017): (B, 1, H, W) -> (B, 1, H/8, W/8) logits."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 1
        for level in range(3):
            layers += [nn.Conv2d(channels, width << level, 4, 2, 1), nn.GroupNorm(8, width << level), nn.LeakyReLU(0.2)]
            channels = width << level
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels, 1, 3, padding=1))

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.layers(image)
        return logits


class AVae:
    """See AVaeConfig. One batch element is one crop of one slice; every draw comes from the batch's generator."""

    trains: ClassVar[Literal["autoencoder"]] = "autoencoder"
    reads: ClassVar[Literal["volumes"]] = "volumes"

    def __init__(self, config: AVaeConfig, *, components: Mapping[str, Any], schedule: Any = None, rollout: Any = None) -> None:
        self.config = config
        self.model: nn.Module = components["autoencoder"]
        self.low, self.high = components["autoencoder"].hu_range
        self.adversary: nn.Module | None = PatchAdversary() if config.adversarial > 0 else None
        self.latent = components["autoencoder"].latent
        if config.crop % self.latent.stride[1] or config.crop % self.latent.stride[2]:
            raise ConfigError(
                f"objective.crop: {config.crop} pixels is not a multiple of the latent stride {self.latent.stride[1:]}"
            )
        self._fake: Tensor | None = None

    def batch(self, source: TrainingSource, size: int, generator: torch.Generator) -> Mapping[str, Any]:
        """{"image": (size, 1, crop, crop) HU} augmented by flips, quarter turns, zoom, intensity and noise."""
        return {"image": torch.stack([self._crop(source, generator) for _ in range(size)])}

    def loss(self, batch: Mapping[str, Any], step: int, generator: torch.Generator) -> Mapping[str, Tensor]:
        config = self.config
        image = batch["image"]
        output, posterior = self.model(image.unsqueeze(2), generator)
        real, fake = self._unit(image), self._unit(output.squeeze(2))
        l1, l2 = (fake - real).abs().mean(), (fake - real).square().mean()
        terms = {"l1": l1, "l2": l2}
        loss = config.l1 * l1 + config.l2 * l2
        if config.ssim:
            terms["ssim"] = ssim(fake, real, data_range=1.0, gaussian_kernel=False, kernel_size=7)  # type: ignore[assignment]
            loss = loss + config.ssim * (1 - terms["ssim"])
        if config.kl and posterior.logvar is not None:
            mean, logvar = posterior.mean, posterior.logvar
            terms["kl"] = 0.5 * (mean.square() + logvar.exp() - 1.0 - logvar).flatten(1).sum(1).mean() / image[0].numel()
            loss = loss + config.kl * terms["kl"]
        if self.adversary is not None and step >= config.adversary_from:
            terms["adversarial"] = -self.adversary(fake).mean()
            loss = loss + config.adversarial * terms["adversarial"]
            self._fake = fake.detach()
        psnr = -10 * torch.log10(l2.detach().clamp_min(1e-12))
        return {"loss": loss, **{name: value.detach() for name, value in terms.items()}, "psnr": psnr}

    def adversary_loss(self, batch: Mapping[str, Any], step: int) -> Mapping[str, Tensor]:
        """Hinge loss on the crops of this step; zero until ``adversary_from``."""
        assert self.adversary is not None
        if step < self.config.adversary_from or self._fake is None:
            return {"loss": sum((p.sum() * 0.0 for p in self.adversary.parameters()), torch.zeros(()))}
        real, fake = self.adversary(self._unit(batch["image"])), self.adversary(self._fake)
        return {"loss": F.relu(1 - real).mean() + F.relu(1 + fake).mean()}

    def finish(self, source: TrainingSource, generator: torch.Generator) -> Mapping[str, str]:
        """Metadata kept with the weights: the scale and shift that give finalised latents zero mean and unit variance."""
        total, squares, count = 0.0, 0.0, 0
        with torch.no_grad():
            for index in range(min(len(source.ids), 16)):
                volume = source.volume(index)
                every = volume[:: max(1, volume.shape[0] // 12)]
                device = next(self.model.parameters()).device
                mean = self.model.encode(every[None, None].to(device)).mean.double()  # type: ignore[operator]
                total, squares, count = total + mean.sum().item(), squares + mean.square().sum().item(), count + mean.numel()
        shift = total / count
        deviation = math.sqrt(max(squares / count - shift**2, 1e-12))
        return {"scale": repr(1.0 / deviation), "shift": repr(shift)}

    def _unit(self, hu: Tensor) -> Tensor:
        unit: Tensor = (hu.float() - self.low) / (self.high - self.low)
        return unit

    def _crop(self, source: TrainingSource, generator: torch.Generator) -> Tensor:
        """(1, crop, crop) HU."""

        def uniform(low: float, high: float) -> float:
            return low + (high - low) * torch.rand((), generator=generator, dtype=torch.float64).item()

        def below(count: int) -> int:
            return int(torch.randint(count, (), generator=generator))

        config = self.config
        index = below(len(source.ids))
        depth = source.record(index)["shape"][0]
        position = below(depth)
        image = source.volume(index, slice(position, position + 1))[0]
        zoom = math.exp(uniform(math.log(config.zoom[0]), math.log(config.zoom[1])))
        side = min(round(config.crop / zoom), *image.shape)
        row, column = below(image.shape[0] - side + 1), below(image.shape[1] - side + 1)
        patch = image[row : row + side, column : column + side][None, None]
        if side != config.crop:
            patch = F.interpolate(patch, size=(config.crop, config.crop), mode="bilinear", antialias=side > config.crop)
        patch = torch.rot90(patch, below(4), (2, 3))
        if below(2):
            patch = patch.flip(3)
        span = self.high - self.low
        patch = (patch - self.low) * uniform(1 - config.intensity, 1 + config.intensity) + self.low
        patch = patch + span * 0.5 * uniform(-config.intensity, config.intensity) * below(2)
        patch = patch + uniform(0, config.noise_hu) * torch.randn(patch.shape, generator=generator)
        clipped: Tensor = patch[0].clamp(self.low, self.high)
        return clipped
