"""Rectified flow as in Liu et al. (arXiv 2209.03003): z_t = (1 - t) x + t eps."""

from __future__ import annotations

import torch
from torch import Tensor

from ctgen.builtin.configs import LinearFlowConfig
from ctgen.interfaces import Coefficients


class LinearFlow:
    def __init__(self, config: LinearFlowConfig) -> None:
        self.config = config

    def coefficients(self, time: Tensor) -> Coefficients:
        time = time.double()
        one = torch.ones_like(time)
        return Coefficients(alpha=1.0 - time, sigma=time, d_alpha=-one, d_sigma=one)

    def training_times(self, batch: int, generator: torch.Generator) -> Tensor:
        """(B,) float64, uniform in [0, 1)."""
        return torch.rand(batch, dtype=torch.float64, generator=generator, device=generator.device)

    def sampling_times(self, steps: int, cells: int) -> Tensor:
        """(steps + 1,) float64, equal steps from 1 to 0 whatever the number of cells."""
        return torch.linspace(1.0, 0.0, steps + 1, dtype=torch.float64)
