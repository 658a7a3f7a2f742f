"""The embedded Runge-Kutta pair of orders 5 and 4 of Dormand and Prince (1980), with step-size control: the reference."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ctgen.errors import ConfigError
from ctgen.sample.options import DEFAULTS, SolverOptions, Velocity

NODES = (0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
STAGES: tuple[tuple[float, ...], ...] = (
    (),
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
"""The last row is the fifth-order solution: its velocity is the first of the next step."""
FOURTH = (5179 / 57600, 0.0, 7571 / 16695, 393 / 640, -92097 / 339200, 187 / 2100, 1 / 40)

LAST = 1e-4
"""The adaptive part ends here and one Euler step of this length follows: at t = 0 a clean prediction divides by 0, and the step
is wrong by LAST^2 / 2 times the velocity's derivative, 5e-9 of it."""
MOST_STEPS = 5000


def dopri5(velocity: Velocity, z: Tensor, times: Tensor, options: SolverOptions = DEFAULTS) -> Tensor:
    """Integrates from the first to the last of ``times``; of those between it takes only the length of the step tried first.

    The state is kept in float64, whatever the velocity computes in; the result has z's dtype. A batch shares its steps, so one
    case at a time is what depends on nothing else. ConfigError after 5000 steps.
    """
    now, wanted = float(times[0]), float(times[-1])
    end = max(wanted, LAST)
    length = min(now - end, float(times[0] - times[1]))
    dtype, state = z.dtype, z.double()

    def slope(at: Tensor, t: float) -> Tensor:
        return velocity(at.to(dtype), t).double()

    first = slope(state, now)
    for _ in range(MOST_STEPS):
        if now <= end:
            break
        # a step that would leave a sliver goes all the way
        after = end if now - length < end + 1e-3 * length else now - length
        found, slopes = _stages(slope, state, first, now, after)
        error = _error(slopes, state, found, after - now, options)
        if error <= 1.0:
            now, state, first = after, found, slopes[-1]
        length = abs(length) * min(5.0, max(0.2, 0.9 * max(error, 1e-10) ** -0.2))
    else:
        raise ConfigError(
            f"dopri5 took {MOST_STEPS} steps and got from t = 1 to t = {now:.4g} only, at rtol {options.rtol:g}, "
            f"atol {options.atol:g}",
            hint="allow larger errors (sample.rtol, sample.atol): single precision does not reach 1e-7, bf16 not 1e-2",
        )
    return (state + (wanted - now) * first).to(dtype) if now > wanted else state.to(dtype)


def _stages(slope: Velocity, state: Tensor, first: Tensor, now: float, after: float) -> tuple[Tensor, list[Tensor]]:
    slopes = [first]
    found = state
    for node, weights in zip(NODES[1:], STAGES[1:], strict=True):
        found = state + (after - now) * _sum(weights, slopes)
        slopes.append(slope(found, after if node == 1.0 else now + node * (after - now)))
    return found, slopes


def _sum(weights: Sequence[float], slopes: Sequence[Tensor]) -> Tensor:
    total = torch.zeros_like(slopes[0])
    for weight, value in zip(weights, slopes, strict=True):
        total = total + weight * value
    return total


def _error(slopes: Sequence[Tensor], before: Tensor, found: Tensor, length: float, options: SolverOptions) -> float:
    """Root mean square of (fifth - fourth order) over what is allowed; above 1 the step is refused."""
    difference = length * _sum([fifth - fourth for fifth, fourth in zip((*STAGES[-1], 0.0), FOURTH, strict=True)], slopes)
    allowed = options.atol + options.rtol * torch.maximum(before.abs(), found.abs())
    error = float((difference / allowed).square().mean().sqrt())
    return error if math.isfinite(error) else math.inf
