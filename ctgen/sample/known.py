"""Blocks that begin with slices that are there already: the solver is shown those, and makes only the rest."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ctgen.interfaces import Coefficients

Velocity = Callable[[Tensor, float], Tensor]


def continuing(velocity: Velocity, known: Tensor, noise: Tensor, coefficients: Callable[[Tensor], Coefficients]) -> Velocity:
    """``velocity`` that carries the first slices along their own path, alpha(t) known + sigma(t) noise.

    ``known`` (B, c, k, h, w) clean; ``noise`` (B, c, d, h, w) is where the solver starts. Whatever the solver, the network sees
    the known slices noised to the time of each evaluation (replacement, as in Song et al. 2011.13456, RePaint 2201.09865).
    """
    count = known.shape[2]
    noise = noise[:, :, :count]

    def carried(z: Tensor, now: float) -> Tensor:
        at = coefficients(torch.tensor(now, dtype=torch.float64))
        there = (float(at.alpha) * known + float(at.sigma) * noise).to(z.dtype)
        moving = velocity(torch.cat((there, z[:, :, count:]), dim=2), now)
        own = (float(at.d_alpha) * known + float(at.d_sigma) * noise).to(moving.dtype)
        return torch.cat((own, moving[:, :, count:]), dim=2)

    return carried
