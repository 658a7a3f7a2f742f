"""Guidance: away from the velocity without the report, or with a negative one; and away from the best linear guess."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from typing_extensions import Self

from ctgen.errors import ConfigError
from ctgen.interfaces import Coefficients
from ctgen.linear_guess import linear_velocity
from ctgen.recipe.sampling import latent_std
from ctgen.recipe.settings import SampleSettings

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


@dataclass(frozen=True)
class LinearGuidance:
    """v_l + scale (v - v_l) where ``interval`` (low, high) holds t: what the network knows beyond the best linear guess v_l
    counts ``scale`` times. Autoguidance (2406.02507) with the weakest of models, which costs no evaluation.

    A small network leaves blurred what it is not sure of. ``latent_std``: of the data, one number or one per channel.
    """

    scale: float = 1.0
    interval: tuple[float, float] = (0.0, 1.0)
    latent_std: tuple[float, ...] = (1.0,)

    @classmethod
    def of(cls, backbone: object, sample: SampleSettings) -> Self:
        """As the recipe has it; ConfigError if it is asked for and the backbone's config was given no latent_std."""
        if sample.linear_guidance == 1.0:
            return cls()
        std = latent_std(getattr(backbone, "config", None))
        if std is None:
            raise ConfigError(
                f"sample.linear_guidance needs the latent's standard deviation, and the config of {type(backbone).__name__} "
                "is not given one",
                hint="write backbone.latent_std, if it has that, or sample.linear_guidance=1",
            )
        return cls(sample.linear_guidance, sample.linear_guidance_interval, std)

    def __call__(self, velocity: Tensor, z: Tensor, time: float, at: Coefficients) -> Tensor:
        """Velocity at z, both (B, c, d, h, w), and ``time`` -> the one to integrate."""
        if self.scale == 1.0 or not self.interval[0] <= time <= self.interval[1]:
            return velocity
        linear = linear_velocity(z, at, self.latent_std)
        return linear + self.scale * (velocity - linear)
