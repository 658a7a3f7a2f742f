"""diffusers' FlowMatchEulerDiscreteScheduler as a schedule: its times, and its own steps between them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from ctgen.builtin.diffusers_flow_config import DiffusersFlowConfig
from ctgen.errors import ConfigError
from ctgen.interfaces import Coefficients


class DiffusersFlow:
    """See DiffusersFlowConfig. diffusers keeps its times (its "sigmas") in float32; here they are those, as float64."""

    def __init__(self, config: DiffusersFlowConfig) -> None:
        self.config = config

    def coefficients(self, time: Tensor) -> Coefficients:
        t = time.double()
        one = torch.ones_like(t)
        return Coefficients(alpha=1 - t, sigma=t, d_alpha=-one, d_sigma=one)

    def training_times(self, batch: int, generator: torch.Generator) -> Tensor:
        """(B,) float64, drawn uniformly from the scheduler's training times."""
        times: Tensor = self._scheduler().sigmas.double().to(generator.device)
        return times[torch.randint(len(times), (batch,), generator=generator, device=generator.device)]

    def sampling_times(self, steps: int, cells: int) -> Tensor:
        """(steps + 1,) float64, strictly decreasing from 1 to 0. ConfigError: shift_terminal with one step."""
        if self.config.shift_terminal is not None and steps < 2:
            raise ConfigError(
                "diffusers-flow: shift_terminal cannot be met in one step", hint="raise sample.steps or leave it out"
            )
        scheduler = self._scheduler()
        mu = self.config.mu(cells)
        if self.config.spacing == "even":
            scheduler.set_timesteps(sigmas=np.linspace(1.0, 1.0 / steps, steps), mu=mu)
        else:
            scheduler.set_timesteps(steps, mu=mu)
        times: Tensor = scheduler.sigmas.double()
        if times[0] != 1.0 or bool((times[1:] >= times[:-1]).any()):
            raise ConfigError(
                f"diffusers-flow: the scheduler's {steps} steps from t = {float(times[0]):.6g} do not go down from 1 to 0",
                hint="use fewer sample.steps, or other schedule.sigmas, spacing or shift",
            )
        return times

    def integrate(
        self, velocity: Callable[[Tensor, float], Tensor], z: Tensor, times: Tensor, *, generator: torch.Generator
    ) -> Tensor:
        """diffusers' own steps through ``times`` (sampling_times, or the last of them), in float32."""
        scheduler = self._scheduler()
        # exactly these times: they have been shifted already
        scheduler.sigmas = times.float()
        scheduler.timesteps = scheduler.sigmas[:-1] * self.config.train_steps
        scheduler.set_begin_index(0)
        for index, now in enumerate(times[:-1].tolist()):
            step = scheduler.step(velocity(z, now), scheduler.timesteps[index], z, generator=generator, return_dict=False)
            z = step[0]
        return z

    def _scheduler(self) -> Any:
        return FlowMatchEulerDiscreteScheduler(**self.config.arguments())
