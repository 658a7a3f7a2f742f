"""What a solver may need to know beside velocity and times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ctgen.interfaces import Coefficients

Velocity = Callable[[Tensor, float], Tensor]


def straight(time: Tensor) -> Coefficients:
    """The path z_t = (1 - t) x + t eps."""
    one = torch.ones_like(time, dtype=torch.float64)
    return Coefficients(alpha=1 - time.double(), sigma=time.double(), d_alpha=-one, d_sigma=one)


@dataclass(frozen=True)
class SolverOptions:
    """``coefficients``: the schedule's (read by dpm); ``rtol``, ``atol``: error per step that dopri5 allows."""

    coefficients: Callable[[Tensor], Coefficients] = straight
    rtol: float = 1e-5
    atol: float = 1e-5


DEFAULTS = SolverOptions()
