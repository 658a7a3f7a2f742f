"""The best linear guess of the velocity: for backbones that learn only what it leaves (EDM, arXiv 2206.00364), and for sampling
that leans away from it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ctgen.interfaces import Coefficients

Number = float | Tensor


def corrected(out: Tensor, noisy: Tensor, time: Tensor, latent_std: Sequence[float]) -> Tensor:
    """The linear estimate of the velocity plus ``out`` (B, c, d, h, w) in units of its error; float32 inside.

    For data of standard deviation s, z = (1 - t) x + t eps has variance q = t^2 + (1 - t)^2 s^2; regressing eps - x on z
    gives the factor (t - (1 - t) s^2) / q, and leaves the variance s^2 / q. ``time`` (B,) or one number for all;
    ``latent_std`` is s, one number or one per channel.
    """
    std_c = torch.tensor(tuple(latent_std), device=noisy.device).view(1, -1, 1, 1, 1)
    t = time.expand(noisy.shape[0]).float().view(-1, 1, 1, 1, 1)
    variance = t**2 + (1 - t) ** 2 * std_c**2
    linear = _factor(1 - t, t, -1.0, 1.0, std_c**2) * noisy.float()
    return (linear + std_c / variance.sqrt() * out.float()).to(out.dtype)


def linear_velocity(z: Tensor, at: Coefficients, latent_std: Sequence[float]) -> Tensor:
    """The velocity (B, c, d, h, w) of z (B, c, d, h, w) on any path, to one who knows nothing of the data but ``latent_std``.

    x is then guessed as alpha s^2 z / q and eps as sigma z / q, q = alpha^2 s^2 + sigma^2. ``at`` holds scalars.
    """
    alpha, sigma, d_alpha, d_sigma = (float(one) for one in (at.alpha, at.sigma, at.d_alpha, at.d_sigma))
    square = torch.tensor(tuple(latent_std), device=z.device).view(1, -1, 1, 1, 1) ** 2
    return _factor(alpha, sigma, d_alpha, d_sigma, square) * z


def _factor(alpha: Number, sigma: Number, d_alpha: float, d_sigma: float, square: Tensor) -> Tensor:
    """What to multiply z with, for data of variance ``square``."""
    return (d_alpha * alpha * square + d_sigma * sigma) / (alpha**2 * square + sigma**2)
