"""What every autoencoder must do."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ctgen.interfaces import LatentSpec, Posterior
from ctgen.testing.expect import close, differs, equal, expect, global_rng_untouched, seeded, shaped, weights_info
from ctgen.testing.volumes import phantom


def check_autoencoder(
    autoencoder: Any, *, cells: tuple[int, int, int] = (2, 4, 4), tolerance: float = 1e-3, gradient: bool = True
) -> None:
    """Shapes by ``latent``, determinism, batch independence, clipping below ``hu_range``, markers, draws by generator.

    ``cells`` is the size of the test volume in latent cells; ``gradient=False`` for one that cannot be trained.
    """
    spec = autoencoder.latent
    expect(isinstance(spec, LatentSpec), f"latent: found {type(spec).__name__}, wanted a LatentSpec")
    config: Any = getattr(autoencoder, "config", None)
    if hasattr(config, "latent_spec"):
        equal("config.latent_spec() and latent", config.latent_spec(), spec)
    weights_info(autoencoder)
    low, high = autoencoder.hu_range
    expect(low < high, f"hu_range: {low} .. {high} HU is out of order")
    before, after = autoencoder.marker_hu
    expect(before != after, f"marker_hu: both ends are {before} HU, wanted two that differ")

    size = tuple(count * stride for count, stride in zip(cells, spec.stride, strict=True))
    volume = torch.stack([torch.from_numpy(phantom(size, seed=seed).hu).float() for seed in (0, 1)])[:, None]  # type: ignore[arg-type]
    volume = volume.clamp(low, high)
    given = volume.clone()
    latent_shape = (2, spec.channels, *cells)

    with torch.no_grad(), global_rng_untouched("encode, finalise, decode"):
        posterior = autoencoder.encode(volume)
        close("encode must not change its input", volume, given, 0.0)
        expect(isinstance(posterior, Posterior), f"encode: found {type(posterior).__name__}, wanted a Posterior")
        shaped("encode(volume).mean", posterior.mean, *latent_shape)
        equal("encode(volume).mean: dtype", posterior.mean.dtype, torch.float32)
        if posterior.logvar is not None:
            shaped("encode(volume).logvar", posterior.logvar, *latent_shape)
        close("encode twice", autoencoder.encode(volume).mean, posterior.mean, 0.0)
        close("encode alone and in a batch", autoencoder.encode(volume[1:]).mean, posterior.mean[1:], tolerance)
        differs("two volumes have two latents", posterior.mean[0], posterior.mean[1])
        outside = torch.where(volume <= low, low - 1500.0, volume)
        close("HU below hu_range are clipped", autoencoder.encode(outside).mean, posterior.mean, 0.0)

        kept = posterior.mean.clone()
        latent = autoencoder.finalise(posterior, generator=None)
        shaped("finalise(posterior)", latent, *latent_shape)
        close("finalise must not change the posterior", posterior.mean, kept, 0.0)
        close("finalise without a generator, twice", autoencoder.finalise(posterior, generator=None), latent, 0.0)
        drawn = autoencoder.finalise(posterior, generator=seeded(1))
        close("finalise with one seed, twice", autoencoder.finalise(posterior, generator=seeded(1)), drawn, 0.0)
        if posterior.logvar is not None:
            differs("finalise with two seeds", autoencoder.finalise(posterior, generator=seeded(2)), drawn)

        kept = latent.clone()
        decoded = autoencoder.decode(latent)
        shaped("decode(latent)", decoded, *volume.shape)
        close("decode must not change the latent", latent, kept, 0.0)
        span = high - low
        close(
            "decode alone and in a batch, as a share of hu_range",
            autoencoder.decode(latent[1:]) / span,
            decoded[1:] / span,
            tolerance,
        )
        ends = [autoencoder.encode(torch.full_like(volume[:1], marker)).mean for marker in (before, after)]
        differs("the latents of the two markers", *ends)
    if gradient:
        _check_gradient(autoencoder, volume)


def _check_gradient(autoencoder: Any, volume: torch.Tensor) -> None:
    expect(isinstance(autoencoder, nn.Module), f"found {type(autoencoder).__name__}, wanted an nn.Module")
    trained = [parameter for parameter in autoencoder.parameters() if parameter.requires_grad]
    if not trained:
        return
    restored = autoencoder.decode(autoencoder.finalise(autoencoder.encode(volume), generator=None))
    gradients = torch.autograd.grad((restored - volume).square().mean(), trained, allow_unused=True)
    moved = sum(1 for gradient in gradients if gradient is not None and bool((gradient != 0).any()))
    expect(moved > 0, f"the reconstruction error reaches {moved} of {len(trained)} parameters, wanted at least 1")
