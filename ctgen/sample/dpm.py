"""A second-order multistep solver that extrapolates the clean prediction, in the manner of DPM-Solver++(2M) (2211.01095)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ctgen.sample.options import DEFAULTS, SolverOptions, Velocity


@dataclass(frozen=True)
class Step:
    """z_after = keep z + now x + trend (x - x_before), where x = of_velocity v + of_z z is the clean prediction."""

    of_velocity: float
    of_z: float
    keep: float
    now: float
    trend: float


def dpm(velocity: Velocity, z: Tensor, times: Tensor, options: SolverOptions = DEFAULTS) -> Tensor:
    """Second order with one evaluation per step, the first step is of first order."""
    before: Tensor | None = None
    for step, now in zip(steps(times, options), times.tolist(), strict=False):
        clean = step.of_velocity * velocity(z, now) + step.of_z * z
        z = step.keep * z + step.now * clean
        if before is not None:
            z = z + step.trend * (clean - before)
        before = clean
    return z


def steps(times: Tensor, options: SolverOptions = DEFAULTS) -> list[Step]:
    """Coefficients of every step in float64, from the schedule's alpha and sigma at ``times``.

    z = alpha x + sigma eps and v = alpha' x + sigma' eps give x = (sigma v - sigma' z) / (sigma alpha' - alpha sigma').
    Along a trajectory d(z / sigma) = x d(alpha / sigma), so that from a to b

        z_b = (sigma_b / sigma_a) z_a + sigma_b * integral of x d(alpha / sigma).

    x is continued as a line in u^2, u = sigma / (alpha + sigma), through its values at a and at p before it. u runs from 1 at
    noise to 0 at data on every path and is t on the straight one; dx/du is proportional to u, so x begins flat at data and a
    line in u itself, or in log(alpha / sigma) as in DPM-Solver++, costs a logarithm of order near there. With
    alpha / sigma = 1 / u - 1 the integrals are closed, and finite in the first step (alpha = 0) and the last (sigma = 0):

        sigma_b * integral of d(alpha / sigma)               = alpha_b - alpha_a sigma_b / sigma_a
        sigma_b * integral of (u^2 - u_a^2) d(alpha / sigma) = -(alpha_b + sigma_b) (u_a - u_b)^2
    """
    at = options.coefficients(times.double())
    whole = at.alpha + at.sigma
    u = at.sigma / whole
    keep = at.sigma[1:] / at.sigma[:-1]
    turn = at.sigma * at.d_alpha - at.alpha * at.d_sigma
    trend = torch.zeros_like(keep)
    trend[1:] = whole[2:] * (u[1:-1] - u[2:]).square() / (u[:-2].square() - u[1:-1].square())
    columns = (at.sigma / turn)[:-1], (-at.d_sigma / turn)[:-1], keep, at.alpha[1:] - at.alpha[:-1] * keep, trend
    return [Step(*row) for row in torch.stack(columns, dim=1).tolist()]
