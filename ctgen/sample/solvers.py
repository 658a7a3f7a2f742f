"""Solvers of dz/dt = v(z, t) from t = 1 (noise) to t = 0 (data), as plain functions.

``velocity(z, t)`` gets t as a float; ``times`` is float64, strictly decreasing from 1 to 0, and is stepped through by index, so
that no rounding of times accumulates (a cause of 1 % overshoot elsewhere).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from torch import Tensor

Velocity = Callable[[Tensor, float], Tensor]
Solver = Callable[[Velocity, Tensor, Tensor], Tensor]


def euler(velocity: Velocity, z: Tensor, times: Tensor) -> Tensor:
    """First order: one evaluation per step."""
    points = times.tolist()
    for now, after in pairwise(points):
        z = z + (after - now) * velocity(z, now)
    return z


def heun(velocity: Velocity, z: Tensor, times: Tensor) -> Tensor:
    """Second order, trapezoid with an Euler predictor: two evaluations per step, one in the last.

    At t = 0 nothing is evaluated (as in Karras et al., arXiv 2206.00364): a velocity made from a clean prediction divides by
    sigma = 0 there. One Euler step of the length of all others leaves the order of the whole at two.
    """
    points = times.tolist()
    for now, after in pairwise(points):
        first = velocity(z, now)
        if after == 0.0:
            z = z + (after - now) * first
            break
        second = velocity(z + (after - now) * first, after)
        z = z + (after - now) * 0.5 * (first + second)
    return z


SOLVERS: dict[str, Solver] = {"euler": euler, "heun": heun}
