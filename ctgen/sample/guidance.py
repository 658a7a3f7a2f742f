"""Guidance: the velocity with the report and the one without it, or with a negative report, combined."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Method = Literal["cfg", "cfg-zero-star"]


@dataclass(frozen=True)
class Guidance:
    """``scale`` 1 is off, above 1 leans towards the report; applied where ``interval`` (low, high) holds t, ends included.

    cfg: v_u + scale (v_c - v_u) (Ho and Salimans, 2207.12598). cfg-zero-star (2503.18886): v_u is first multiplied by
    s = <v_c, v_u> / |v_u|^2, of each sample, and the first ``zero_steps`` steps have velocity 0. Interval: 2404.07724.
    """

    scale: float = 1.0
    interval: tuple[float, float] = (0.0, 1.0)
    method: Method = "cfg"
    zero_steps: int = 0

    def applies(self, time: float) -> bool:
        """Whether the velocity at ``time`` needs the second evaluation, without the report or with the negative one."""
        return self.scale != 1.0 and self.interval[0] <= time <= self.interval[1]

    def times(self, times: Tensor) -> Tensor:
        """``times`` without the steps of velocity 0, which change nothing and need no evaluation."""
        skipped = self.zero_steps if self.scale != 1.0 and self.method == "cfg-zero-star" else 0
        return times[skipped:]

    def combine(self, conditional: Tensor, unconditional: Tensor) -> Tensor:
        """Velocities (B, ...) of one shape -> the guided one."""
        if self.method == "cfg-zero-star":
            unconditional = optimal_scale(conditional, unconditional) * unconditional
        return unconditional + self.scale * (conditional - unconditional)


def optimal_scale(conditional: Tensor, unconditional: Tensor) -> Tensor:
    """s (B, 1, ...) that brings s v_u nearest to v_c; 0 where v_u is 0."""
    axes = tuple(range(1, conditional.ndim))
    product = (conditional * unconditional).sum(axes, keepdim=True)
    square = unconditional.square().sum(axes, keepdim=True)
    return torch.where(square > 0, product / square.clamp_min(torch.finfo(square.dtype).tiny), 0.0)
