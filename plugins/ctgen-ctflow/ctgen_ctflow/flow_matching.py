"""CTFlow's path between data (t = 0) and noise (t = 1), and the times at which it is visited."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ctgen.interfaces import Coefficients
from ctgen_ctflow.configs import FlowMatchingConfig


class FlowMatching:
    """z_t = (1 - t) x + (sigma_min + (1 - sigma_min) t) eps; velocity = (1 - sigma_min) eps - x (Lipman et al. 2210.02747)."""

    def __init__(self, config: FlowMatchingConfig) -> None:
        self.config = config

    def coefficients(self, time: Tensor) -> Coefficients:
        """float64 of time's shape. sigma(0) = sigma_min, not 0: the published models were trained so."""
        t, sigma_min = time.double(), self.config.sigma_min
        return Coefficients(
            alpha=1 - t,
            sigma=sigma_min + (1 - sigma_min) * t,
            d_alpha=torch.full_like(t, -1.0),
            d_sigma=torch.full_like(t, 1 - sigma_min),
        )

    def training_times(self, batch: int, generator: torch.Generator) -> Tensor:
        """(B,) float64 in [0, 1]."""
        t = torch.empty(batch, dtype=torch.float64, device=generator.device)
        if self.config.times == "uniform":
            t.uniform_(generator=generator)
        else:
            t.normal_(self.config.mean, self.config.std, generator=generator).sigmoid_()
        return shifted(t, self.config.shift)

    def sampling_times(self, steps: int, cells: int) -> Tensor:
        """(steps + 1,) float64, strictly decreasing from 1 to 0; ``cells`` latent cells per block."""
        shift = self.config.shift
        if self.config.reference_cells:
            shift *= math.sqrt(cells / self.config.reference_cells)
        return shifted(torch.linspace(1.0, 0.0, steps + 1, dtype=torch.float64), shift)


def shifted(time: Tensor, shift: float) -> Tensor:
    """shift t / (1 + (shift - 1) t): keeps 0 and 1 (Esser et al. 2403.03206, eq. 23)."""
    return time if shift == 1 else shift * time / (1 + (shift - 1) * time)
