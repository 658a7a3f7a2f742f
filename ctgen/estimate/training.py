"""One optimiser step on tensors without data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_leaves

from ctgen.config import ComponentConfig
from ctgen.errors import CtgenError
from ctgen.estimate.tally import Tally
from ctgen.estimate.unreal import UnrealCases, nbytes, on, unreal
from ctgen.recipe import Recipe
from ctgen.stages.plan import MODULES
from ctgen.train.batches import generator_for, to_device
from ctgen.train.optimiser import Average, ema_decay_at, make_optimiser

PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass
class TrainingMemory:
    """Bytes of one process. ``activations``: everything else at the worst moment, temporary tensors included."""

    weights: int = 0
    frozen: int = 0
    gradients: int = 0
    optimiser: int = 0
    average: int = 0
    activations: int = 0
    flops: int = 0
    """Of one optimiser step."""
    without: tuple[str, ...] = ()
    """Frozen parts that could not be built, and are not counted."""
    problem: str = ""

    @property
    def total(self) -> int:
        return self.weights + self.frozen + self.gradients + self.optimiser + self.average + self.activations


def train_unreal(
    recipe: Recipe, trained: str, config: ComponentConfig, cases: UnrealCases, mode: FakeTensorMode, where: torch.device
) -> TrainingMemory:
    """Memory of a step as ctgen.train makes it, with the recipe's objective, batch, precision and optimiser."""
    settings, cpu = recipe.train, torch.device("cpu")
    parts: dict[str, Any] = {}
    without: list[str] = []
    for section in MODULES:
        if getattr(recipe, section) is None:
            continue
        try:
            part = parts[section] = unreal(recipe, section, config=config if section == trained else None)
        except CtgenError:
            if section == trained:
                raise
            without.append(section)
            continue
        if section != trained:
            part.eval().requires_grad_(False)
        # batches are drawn on the CPU, with the frozen parts
        on(part, mode, where if section == trained else cpu)
    schedule, rollout = (recipe.build(name) if getattr(recipe, name) else None for name in ("schedule", "rollout"))
    with torch.device("meta"):
        objective = recipe.host.build(
            "objective", recipe.objective.name, recipe.objective.config, components=parts, schedule=schedule, rollout=rollout
        )
    module = _Trained(objective)
    for extra in (getattr(objective, "extra", None), objective.adversary):
        if extra is not None:
            on(extra, mode, where)
    with torch.no_grad():
        if hasattr(objective, "prepare"):
            objective.prepare(cases)
        batch = to_device(objective.batch(cases, settings.batch, generator_for("estimate")), cpu)
    memory = TrainingMemory(
        without=tuple(without),
        weights=nbytes(module),
        frozen=sum(nbytes(part) for section, part in parts.items() if section != trained),
        gradients=sum(parameter.nbytes for parameter in module.parameters() if parameter.requires_grad),
    )
    with mode:
        batch = to_device(batch, where)
        optimiser = make_optimiser(module, settings, lr=settings.lr)
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.grad = torch.empty_like(parameter)
        optimiser.step()
        if settings.accumulate == 1:
            optimiser.zero_grad()
        average = Average(objective.model)
        memory.average = sum(value.nbytes for value in average.values.values())
        states = [state for part in getattr(optimiser, "parts", [optimiser]) for state in part.state.values()]
        memory.optimiser = sum(value.nbytes for value in tree_leaves(states) if isinstance(value, torch.Tensor))
        module.train()
        with Tally() as tally:
            # one micro-batch: of an accumulated step the last, which meets the gradients of those before
            _forward_backward(objective, batch, settings, where)
            once = tally.flops
            torch.nn.utils.clip_grad_norm_(module.parameters(), settings.clip_norm)
            optimiser.step()
            optimiser.zero_grad()
            average.update(objective.model, ema_decay_at(1, settings))
    memory.flops = tally.flops + once * (settings.accumulate - 1)
    made = memory.gradients if settings.accumulate == 1 else 0
    memory.activations = max(tally.peak - made, 0) + _held(batch)
    return memory


class _Trained(nn.Module):
    """What the optimiser of a run holds."""

    def __init__(self, objective: Any) -> None:
        super().__init__()
        self.model = objective.model
        self.extra = getattr(objective, "extra", None)


def _forward_backward(objective: Any, batch: Mapping[str, Any], settings: Any, where: torch.device) -> None:
    dtype = PRECISIONS.get(settings.precision)
    with torch.autocast(where.type, dtype=dtype, enabled=dtype is not None):
        loss = objective.loss(batch, 1, generator_for("estimate"))["loss"]
    (loss / settings.accumulate).backward()


def _held(batch: Mapping[str, Any]) -> int:
    found = 0
    for leaf in batch.values():
        values = vars(leaf).values() if hasattr(leaf, "__dataclass_fields__") else [leaf]
        found += sum(value.nbytes for value in values if isinstance(value, torch.Tensor))
    return found
