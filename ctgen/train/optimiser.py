"""The optimiser, its learning rate and the averaged weights: functions of the step, so that only tensors have to be saved."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ctgen.recipe.settings import TrainSettings

LR_FLOOR = 1e-6


def lr_at(step: int, settings: TrainSettings, *, peak: float | None = None) -> float:
    """Learning rate of update ``step`` = 1, 2, ...; ``peak`` replaces ``settings.lr``.

    Linear warm-up s / warmup_steps, then one of: constant; "inverse-sqrt" = peak / sqrt(1 + 2 (s - warmup) / 1e6), not under
    1e-6 (CTFlow's schedule, with lr(1) at the first update); "cosine" from peak to 0.01 peak at the last step.
    """
    peak = settings.lr if peak is None else peak
    warmup = settings.warmup_steps
    if step < warmup:
        return peak * step / warmup
    if settings.decay == "inverse-sqrt":
        return max(peak / math.sqrt(1 + 2 * (step - warmup) / 1e6), min(LR_FLOOR, peak))
    if settings.decay == "cosine":
        done = min((step - warmup) / max(settings.steps - warmup, 1), 1.0)
        return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))
    return peak


def make_optimiser(parameters: Iterable[nn.Parameter], settings: TrainSettings, *, lr: float) -> torch.optim.AdamW:
    """AdamW on the parameters that want gradients; the loop sets the rate before each update."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    fused = all(parameter.device.type in ("cpu", "cuda") for parameter in trained)
    return torch.optim.AdamW(trained, lr=lr, betas=settings.betas, weight_decay=settings.weight_decay, fused=fused)


def set_lr(optimiser: torch.optim.Optimizer, lr: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = lr


def ema_decay_at(step: int, settings: TrainSettings) -> float:
    """Decay at update ``step`` = 1, 2, ...; the warm-up (1 + s) / (10 + s) lets short runs forget their first weights."""
    return min(settings.ema_decay, (1 + step) / (10 + step)) if settings.ema_warmup else settings.ema_decay


class Average:
    """Exponential moving average of a model: e <- decay e + (1 - decay) p. Buffers and frozen parameters are copied."""

    def __init__(self, model: nn.Module) -> None:
        self.values: dict[str, Tensor] = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, decay: float) -> None:
        trained = {name for name, parameter in model.named_parameters(remove_duplicate=False) if parameter.requires_grad}
        for name, value in model.state_dict().items():
            if name in trained and value.is_floating_point():
                self.values[name].lerp_(value, 1 - decay)
            else:
                self.values[name].copy_(value)

    def load(self, values: Mapping[str, Tensor]) -> None:
        """Replace the averages, keeping each tensor's device and type."""
        for name, value in self.values.items():
            value.copy_(values[name])

    @contextmanager
    def applied_to(self, model: nn.Module) -> Iterator[None]:
        """Inside, ``model`` has the averaged weights; afterwards its own again, bit for bit."""
        own = {name: value.clone() for name, value in model.state_dict().items()}
        model.load_state_dict(self.values)
        try:
            yield
        finally:
            model.load_state_dict(own)
