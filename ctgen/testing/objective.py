"""What every training objective must do."""

from __future__ import annotations

import math
import pickle
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ctgen.interfaces import TrainingSource
from ctgen.testing.expect import close, equal, expect, global_rng_untouched, seeded

TRAINS = ("backbone", "autoencoder", "text_encoder", "classifier")
READS = ("latents", "volumes", "reports")


def check_objective(objective: Any, source: TrainingSource, *, size: int = 2, step: int = 1, tolerance: float = 1e-6) -> None:
    """Seeded batches on the CPU, a finite scalar loss that reaches the model, an adversary that learns if there is one.

    An ``extra`` module, trained beside the model and thrown away, is allowed. ``source``: see MemorySource. ``step``: the
    step to test at, after any warm-up of the adversary.
    """
    expect(objective.trains in TRAINS, f"trains: found {objective.trains!r}, wanted one of {TRAINS}")
    expect(objective.reads in READS, f"reads: found {objective.reads!r}, wanted one of {READS}")
    config = getattr(objective, "config", None)
    if config is not None:
        for name in ("trains", "reads"):
            equal(f"config.{name} and {name}", getattr(config, name), getattr(objective, name))
        sections = frozenset(config.sections)
        expect(objective.trains in sections, f"config.sections {sorted(sections)} lack {objective.trains!r}, which is trained")
    expect(isinstance(objective.model, nn.Module), f"model: found {type(objective.model).__name__}, wanted an nn.Module")
    trained = [parameter for parameter in objective.model.parameters() if parameter.requires_grad]
    expect(bool(trained), "model: 0 parameters to train, wanted at least 1")
    extra = list(objective.extra.parameters()) if getattr(objective, "extra", None) is not None else []
    kept = [parameter.detach().clone() for parameter in (*trained, *extra)]
    random = seeded(7)
    with torch.no_grad():  # a head that begins at zero passes nothing on to the model
        for parameter in extra:
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=random))
    try:
        _check_batch(objective, source, size)
        _check_loss(objective, objective.batch(source, size, seeded(5)), step, trained, tolerance)
    finally:
        with torch.no_grad():
            for parameter, value in zip((*trained, *extra), kept, strict=True):
                parameter.copy_(value)


def _check_batch(objective: Any, source: TrainingSource, size: int) -> None:
    with global_rng_untouched("batch"):
        batch = objective.batch(source, size, seeded(5))
    _same("batch with one seed, twice", objective.batch(source, size, seeded(5)), batch, 0.0)
    first, others = _tensors(batch), [_tensors(objective.batch(source, size, seeded(seed))) for seed in range(6, 14)]
    expect(bool(first), "batch: no tensors in it")
    expect(
        any(a.shape != b.shape or not torch.equal(a, b) for other in others for a, b in zip(first, other, strict=False)),
        "batch: nine seeds give one batch",
    )
    away = {str(tensor.device) for tensor in first} - {"cpu"}
    expect(not away, f"batch: tensors on {sorted(away)}, wanted cpu")
    pickle.dumps(batch)


def _check_loss(objective: Any, batch: Mapping[str, Any], step: int, trained: list[nn.Parameter], tolerance: float) -> None:
    state = torch.get_rng_state()
    losses = objective.loss(batch, step, seeded(9))
    expect(torch.equal(state, torch.get_rng_state()), "loss: drew from torch's global generator; draw from the one passed")
    loss = _scalars("loss", losses)
    again = objective.loss(batch, step, seeded(9))["loss"]
    close("loss with one seed, twice", again.detach(), loss.detach(), tolerance)
    gradients = torch.autograd.grad(loss, trained, allow_unused=True)
    reached = [gradient for gradient in gradients if gradient is not None and bool((gradient != 0).any())]
    expect(bool(reached), f"loss: reaches 0 of {len(trained)} parameters, wanted at least 1")
    bad = sum(1 for gradient in reached if not bool(torch.isfinite(gradient).all()))
    expect(bad == 0, f"loss: {bad} of {len(trained)} gradients are not finite, wanted 0")

    if objective.adversary is not None:
        expect(isinstance(objective.adversary, nn.Module), f"adversary: found {type(objective.adversary).__name__}")
        adversary_loss = _scalars("adversary_loss", objective.adversary_loss(batch, step))
        parameters = [parameter for parameter in objective.adversary.parameters() if parameter.requires_grad]
        found = torch.autograd.grad(adversary_loss, parameters, allow_unused=True)
        expect(any(gradient is not None for gradient in found), f"adversary_loss: reaches 0 of {len(parameters)} parameters")
    _check_learns(objective, batch, step, trained, gradients, float(loss.detach()))


def _check_learns(
    objective: Any,
    batch: Mapping[str, Any],
    step: int,
    trained: list[nn.Parameter],
    gradients: Sequence[Tensor | None],
    loss: float,
) -> None:
    """Some small step against the gradient must lower the loss on the same batch."""
    kept = [parameter.detach().clone() for parameter in trained]
    steepness = sum(float(gradient.square().sum()) for gradient in gradients if gradient is not None)
    found = []
    for share in (1e-1, 1e-2, 1e-3, 1e-4):
        with torch.no_grad():
            for parameter, value, gradient in zip(trained, kept, gradients, strict=True):
                if gradient is not None:
                    parameter.copy_(value - share * abs(loss) / steepness * gradient)
            found.append(float(objective.loss(batch, step, seeded(9))["loss"]))
    expect(min(found) < loss, f"loss: {loss:.7g} before and at best {min(found):.7g} after a step against its gradient")


def _scalars(what: str, values: Mapping[str, Tensor]) -> Tensor:
    expect("loss" in values, f"{what}: keys {sorted(values)}, wanted 'loss' among them")
    for name, value in values.items():
        expect(isinstance(value, Tensor) and value.numel() == 1, f"{what}: {name} is {value!r}, wanted a scalar Tensor")
    found = float(values["loss"].detach())
    expect(math.isfinite(found), f"{what}: 'loss' is {found}, wanted a finite number")
    expect(values["loss"].requires_grad, f"{what}: 'loss' does not require a gradient")
    return values["loss"]


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        return [tensor for key in sorted(value) for tensor in _tensors(value[key])]
    if isinstance(value, list | tuple):
        return [tensor for item in value for tensor in _tensors(item)]
    if hasattr(value, "__dataclass_fields__"):
        return [tensor for name in value.__dataclass_fields__ for tensor in _tensors(getattr(value, name))]
    return []


def _same(what: str, first: Any, second: Any, tolerance: float) -> None:
    pairs = _tensors(first), _tensors(second)
    equal(f"{what}: number of tensors", len(pairs[0]), len(pairs[1]))
    for a, b in zip(*pairs, strict=True):
        close(what, a, b, tolerance)
