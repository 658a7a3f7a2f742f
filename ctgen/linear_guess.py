"""The best linear guess of the velocity, for backbones that learn only what it leaves (EDM, arXiv 2206.00364)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def corrected(out: Tensor, noisy: Tensor, time: Tensor, latent_std: Sequence[float]) -> Tensor:
    """The linear estimate of the velocity plus ``out`` (B, c, d, h, w) in units of its error; float32 inside.

    For data of standard deviation s, z = (1 - t) x + t eps has variance q = t^2 + (1 - t)^2 s^2; regressing eps - x on z
    gives the factor (t - (1 - t) s^2) / q, and leaves the variance s^2 / q. ``time`` (B,) or one number for all;
    ``latent_std`` is s, one number or one per channel.
    """
    std_c = torch.tensor(tuple(latent_std), device=noisy.device).view(1, -1, 1, 1, 1)
    t = time.expand(noisy.shape[0]).float().view(-1, 1, 1, 1, 1)
    variance = t**2 + (1 - t) ** 2 * std_c**2
    linear = (t - (1 - t) * std_c**2) / variance * noisy.float()
    return (linear + std_c / variance.sqrt() * out.float()).to(out.dtype)
