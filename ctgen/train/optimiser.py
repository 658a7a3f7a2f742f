"""The optimiser, its learning rate and the averaged weights: functions of the step, so that only tensors have to be saved."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ctgen.errors import ConfigError
from ctgen.recipe.settings import TrainSettings


def lr_at(step: int, settings: TrainSettings, *, peak: float | None = None) -> float:
    """Learning rate of update ``step`` = 1, 2, ...; ``peak`` replaces ``settings.lr``.

    Linear warm-up s / warmup_steps, then one of: constant; "inverse-sqrt" = peak / sqrt(1 + rate (s - warmup) / steps) with
    decay_rate and decay_steps, not under lr_floor (CTFlow's, with lr(1) at the first update); "cosine" from peak to 0.01 peak
    at the last step.
    """
    peak = settings.lr if peak is None else peak
    warmup = settings.warmup_steps
    if step < warmup:
        return peak * step / warmup
    if settings.decay == "inverse-sqrt":
        falling = peak / math.sqrt(1 + settings.decay_rate * (step - warmup) / settings.decay_steps)
        return max(falling, min(settings.lr_floor, peak))
    if settings.decay == "cosine":
        done = min((step - warmup) / max(settings.steps - warmup, 1), 1.0)
        return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))
    return peak


def make_optimiser(module: nn.Module, settings: TrainSettings, *, lr: float) -> torch.optim.Optimizer:
    """The settings' optimiser of the parameters that want gradients; the loop sets the rate before each update."""
    trained = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    if settings.optimiser == "adamw":
        return _adamw(list(trained.values()), settings, lr)
    return MuonAndAdamW(trained, settings, lr)


def _adamw(parameters: list[nn.Parameter], settings: TrainSettings, lr: float) -> torch.optim.AdamW:
    fused = all(parameter.device.type in ("cpu", "cuda") for parameter in parameters)
    return torch.optim.AdamW(parameters, lr=lr, betas=settings.betas, weight_decay=settings.weight_decay, fused=fused)


class MuonAndAdamW(torch.optim.Optimizer):
    """Muon for the matrices of repeated layers, AdamW for all else: embeddings, outputs, biases, convolutions, tables.

    Muon (Jordan 2024; Moonlight, arXiv 2502.16982) steps along the orthogonalised momentum; scaled to AdamW's usual step size,
    its rate is ``muon_lr_ratio`` times the other's. A matrix belongs to a repeated layer if it lies inside a numbered module
    ("blocks.3.mlp.fc1.weight", but not "embedder.0.weight").
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], settings: TrainSettings, lr: float) -> None:
        if not hasattr(torch.optim, "Muon"):
            raise ConfigError(
                f"train.optimiser: muon needs torch 2.9 or newer, this is {torch.__version__}",
                hint="write adamw, or update torch",
            )
        matrices = {name: value for name, value in parameters.items() if value.ndim == 2 and _is_repeated_weight(name)}
        if not matrices:
            raise ConfigError("train.optimiser: muon found no matrices of repeated layers here", hint="write adamw")
        others = [value for name, value in parameters.items() if name not in matrices]
        self.parts: list[torch.optim.Optimizer] = [
            torch.optim.Muon(
                matrices.values(), lr=lr, weight_decay=settings.weight_decay, momentum=0.95, adjust_lr_fn="match_rms_adamw"
            )
        ]
        if others:
            self.parts.append(_adamw(others, settings, lr))
        for group in self.parts[0].param_groups:
            group["lr_ratio"] = settings.muon_lr_ratio
        super().__init__(list(parameters.values()), {"lr": lr})
        # the parts' own groups, so that whoever sets a rate here sets it there
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        if closure is not None:
            raise ConfigError("MuonAndAdamW takes no closure")
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self.param_groups = [group for part in self.parts for group in part.param_groups]


def _is_repeated_weight(name: str) -> bool:
    *path, last = name.split(".")
    return last == "weight" and any(part.isdigit() for part in path[:-1])


def set_lr(optimiser: torch.optim.Optimizer, lr: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = lr * group.get("lr_ratio", 1.0)


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
