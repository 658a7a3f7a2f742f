"""Solvers of dz/dt = v(z, t) from t = 1 (noise) to t = 0 (data), as plain functions.

``velocity(z, t)`` gets t as a float; ``times`` is float64, strictly decreasing to 0, and is stepped through by index, so that
no rounding of times accumulates (a cause of 1 % overshoot elsewhere). Nothing is evaluated at t = 0: a velocity made from a
clean prediction divides by sigma = 0 there.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from torch import Tensor

from ctgen.sample.dopri5 import dopri5
from ctgen.sample.dpm import dpm
from ctgen.sample.options import DEFAULTS, SolverOptions, Velocity

Solver = Callable[[Velocity, Tensor, Tensor, SolverOptions], Tensor]


def euler(velocity: Velocity, z: Tensor, times: Tensor, options: SolverOptions = DEFAULTS) -> Tensor:
    """First order: one evaluation per step."""
    points: list[float] = times.tolist()
    for now, after in pairwise(points):
        z = z + (after - now) * velocity(z, now)
    return z


def heun(velocity: Velocity, z: Tensor, times: Tensor, options: SolverOptions = DEFAULTS) -> Tensor:
    """Second order, trapezoid with an Euler predictor: two evaluations per step, one in the last (Karras et al. 2206.00364).

    One Euler step of the length of all others leaves the order of the whole at two.
    """
    points: list[float] = times.tolist()
    for now, after in pairwise(points):
        first = velocity(z, now)
        if after == 0.0:
            return z + (after - now) * first
        second = velocity(z + (after - now) * first, after)
        z = z + (after - now) * 0.5 * (first + second)
    return z


def midpoint(velocity: Velocity, z: Tensor, times: Tensor, options: SolverOptions = DEFAULTS) -> Tensor:
    """Second order: an Euler half-step, then a whole step with the velocity found there. Two evaluations per step."""
    points: list[float] = times.tolist()
    for now, after in pairwise(points):
        middle = 0.5 * (now + after)
        halfway = z + (middle - now) * velocity(z, now)
        z = z + (after - now) * velocity(halfway, middle)
    return z


SOLVERS: dict[str, Solver] = {"euler": euler, "heun": heun, "midpoint": midpoint, "dpm": dpm, "dopri5": dopri5}
"""By the names of SampleSettings.solver."""
