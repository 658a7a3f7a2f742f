"""From what a backbone predicts to the velocity that solvers integrate."""

from __future__ import annotations

from torch import Tensor

from ctgen.interfaces import Coefficients

SMALLEST_ALPHA = 0.02
"""Noise predictions are divided by alpha, which is 0 at t = 1: below this an error of the network is not blown up further."""


def velocity_from(prediction: Tensor, predicts: str, z: Tensor, at: Coefficients) -> Tensor:
    """dz/dt = alpha' x + sigma' eps, from whatever the backbone predicts; ``at`` holds scalars."""
    if predicts == "velocity":
        return prediction
    alpha, sigma = float(at.alpha), float(at.sigma)
    if predicts == "noise":
        noise = prediction
        clean = (z - sigma * noise) / max(alpha, SMALLEST_ALPHA)
    else:
        clean = prediction
        # solvers evaluate nothing at t = 0, where sigma is 0
        noise = (z - alpha * clean) / max(sigma, 1e-4)
    return float(at.d_alpha) * clean + float(at.d_sigma) * noise
