"""One training run's state: networks, optimisers, averages, counters; what one update does and what a checkpoint holds."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from ctgen.atomic import stable_hash
from ctgen.errors import CheckpointError, ConfigError, TrainingError
from ctgen.interfaces import Objective, TrainingSource
from ctgen.recipe.settings import TrainSettings
from ctgen.train.batches import generator_for, to_device
from ctgen.train.checkpoint import (
    Checkpoint,
    check_spec,
    file_metadata,
    load_weights,
    newest_checkpoint,
    prune_checkpoints,
    read_state,
    read_weights,
    write_checkpoint,
)
from ctgen.train.log import Window
from ctgen.train.optimiser import Average, ema_decay_at, lr_at, make_optimiser, set_lr

VALID_BATCHES = 4
"""Batches behind one validation loss; the same ones each time."""

STRICT = ("loss", "grad_norm", "adversary_loss")
"""Values that must be finite at every step; in all others NaN means "nothing to say this step"."""


class Training:
    """The state of a run: networks, optimisers, averages and counters."""

    def __init__(self, objective: Objective, settings: TrainSettings, folder: Path, spec: Mapping[str, Any]) -> None:
        self.objective, self.settings, self.spec = objective, settings, spec
        self.folder = folder / "checkpoints"
        folder.mkdir(parents=True, exist_ok=True)
        self.accelerator = make_accelerator(settings.precision)
        self.extra: nn.Module | None = getattr(objective, "extra", None)
        module = _LossModule(objective, self.extra)
        if not any(parameter.requires_grad for parameter in objective.model.parameters()):
            raise TrainingError(
                f"{type(objective).__name__}: no parameter of {type(objective.model).__name__} wants a gradient"
            )
        module.to(self.accelerator.device)
        self.module, self.optimiser = self.accelerator.prepare(
            module, make_optimiser(module, settings, lr=settings.lr), device_placement=[False, False]
        )
        self.adversary: Any = None
        self._judged: list[nn.Parameter] = []
        if objective.adversary is not None:
            judge = _AdversaryModule(objective, objective.adversary)
            judge.to(self.accelerator.device)
            self._judged = [parameter for parameter in judge.parameters() if parameter.requires_grad]
            optimiser = make_optimiser(judge, settings, lr=settings.adversary_lr)
            self.adversary, self.adversary_optimiser = self.accelerator.prepare(
                judge, optimiser, device_placement=[False, False]
            )
        self.average = Average(objective.model)
        self.step = 0
        self.window = Window()
        self.final_loss = math.nan
        self.checkpoint: Path | None = None
        self._earlier, self._began = 0.0, time.monotonic()

    @property
    def seconds(self) -> float:
        return round(self._earlier + time.monotonic() - self._began, 3)

    def resume(self) -> None:
        """Load the newest complete checkpoint, if there is one."""
        if self.accelerator.is_main_process:
            prune_checkpoints(self.folder, self.settings.keep_checkpoints)
        self.accelerator.wait_for_everyone()
        found = newest_checkpoint(self.folder)
        if found is not None:
            check_spec(found, self.spec)
            if found.step > self.settings.steps:
                raise CheckpointError(
                    f"{found.folder} is past train.steps = {self.settings.steps}",
                    hint="raise train.steps or use another run folder",
                )
            self._load(found)
        self._began = time.monotonic()

    def _load(self, found: Checkpoint) -> None:
        state, loop = read_state(found)
        load_weights(self.objective.model, found.weights("model"))
        self.average.load(read_weights(found.weights("ema")))
        self.optimiser.load_state_dict(state["optimiser"])
        if self.extra is not None:
            load_weights(self.extra, found.weights("head"))
        if self.objective.adversary is not None:
            load_weights(self.objective.adversary, found.weights("adversary"))
            self.adversary_optimiser.load_state_dict(state["adversary_optimiser"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.step, self.checkpoint = found.step, found.folder
        self.window, self.final_loss, self._earlier = Window(loop["window"]), loop["final_loss"], loop["seconds"]

    def save(self) -> None:
        """Write a checkpoint of this step and remove the oldest ones."""
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            weights: dict[str, Mapping[str, Tensor]] = {"model": self.objective.model.state_dict(), "ema": self.average.values}
            state: dict[str, Any] = {"optimiser": self.optimiser.state_dict()}
            if self.extra is not None:
                weights["head"] = self.extra.state_dict()
            if self.objective.adversary is not None:
                weights["adversary"] = self.objective.adversary.state_dict()
                state["adversary_optimiser"] = self.adversary_optimiser.state_dict()
            if self.accelerator.scaler is not None:
                state["scaler"] = self.accelerator.scaler.state_dict()
            loop = {"window": self.window.sums, "final_loss": self.final_loss, "seconds": self.seconds}
            metadata = file_metadata(self.objective.model)
            write_checkpoint(self.folder, self.step, weights=weights, state=state, loop=loop, spec=self.spec, metadata=metadata)
            prune_checkpoints(self.folder, self.settings.keep_checkpoints)
        self.checkpoint = self.folder / f"step-{self.step}"
        self.accelerator.wait_for_everyone()

    def advance(self, batches: Iterator[Mapping[str, Any]], asked_to_stop: Callable[[], bool]) -> tuple[dict[str, float], bool]:
        """One update of everything; (this step's values over all processes, whether any process was asked to stop)."""
        step, settings, accelerator = self.step + 1, self.settings, self.accelerator
        lr = lr_at(step, settings)
        set_lr(self.optimiser, lr)
        self.module.train()
        terms: dict[str, list[Tensor]] = {}
        # Accumulation is a loop and not Accelerate's hidden step counter: there is nothing to restore.
        for micro in range(settings.accumulate):
            last = micro == settings.accumulate - 1
            batch = to_device(next(batches), accelerator.device)
            place = (step, accelerator.process_index, micro)
            torch.manual_seed(stable_hash(settings.seed, "layers", *place))
            with nullcontext() if last else accelerator.no_sync(self.module):
                self._judge(False)
                found = self.module(batch, step, generator_for(settings.seed, "noise", *place))
                accelerator.backward(found["loss"] / settings.accumulate)
            if last:
                found["grad_norm"] = self._update()
            if self.adversary is not None:
                self._judge(True)
                with nullcontext() if last else accelerator.no_sync(self.adversary):
                    judged = self.adversary(batch, step)
                    accelerator.backward(judged["loss"] / settings.accumulate)
                if last:
                    self._update_adversary(step)
                found.update((f"adversary_{name}", value) for name, value in judged.items())
            for name, value in found.items():
                terms.setdefault(name, []).append(value.detach().float().reshape(()))
        self.average.update(self.objective.model, ema_decay_at(step, settings))
        values, stop = self._over_processes(terms, asked_to_stop())
        self._check_finite(step, values)
        self.step = step
        self.window.add(values)
        return {**values, "lr": lr}, stop

    def close_window(self) -> dict[str, float]:
        """Means since the last logged line, with the current learning rate; begins the next window."""
        means, self.window = self.window.means(), Window()
        self.final_loss = means["loss"]
        return {"loss": means.pop("loss"), "lr": lr_at(self.step, self.settings), **means}

    @torch.no_grad()
    def validate(self, source: TrainingSource) -> float:
        """Loss of the averaged weights on fixed batches and noise, shared out over the processes."""
        accelerator, settings = self.accelerator, self.settings
        total = torch.zeros(2, device=accelerator.device)
        self.module.eval()
        self._judge(False)
        with self.average.applied_to(self.objective.model):
            for number in range(accelerator.process_index, VALID_BATCHES, accelerator.num_processes):
                batch = self.objective.batch(source, settings.batch, generator_for(settings.seed, "valid-batch", number))
                noise = generator_for(settings.seed, "valid-noise", number)
                with accelerator.autocast():
                    loss = self.objective.loss(to_device(batch, accelerator.device), self.step, noise)["loss"]
                total += torch.stack([loss.detach().float(), torch.ones_like(total[0])])
        total = accelerator.reduce(total, "sum")
        return float(total[0] / total[1])

    def scores(self, source: TrainingSource) -> dict[str, float]:
        """What the objective's own ``validate`` measures with the averaged weights, on the main process; {} if it has none."""
        measure = getattr(self.objective, "validate", None)
        if measure is None or not self.accelerator.is_main_process:
            return {}
        self.module.eval()
        with self.average.applied_to(self.objective.model), self.accelerator.autocast():
            found: Mapping[str, float] = measure(source)
        return {f"valid_{name}": float(value) for name, value in found.items()}

    def _update(self) -> Tensor:
        norm: Tensor = self.accelerator.clip_grad_norm_(self.module.parameters(), self.settings.clip_norm)
        self.optimiser.step()
        self.optimiser.zero_grad()
        return norm

    def _update_adversary(self, step: int) -> None:
        set_lr(self.adversary_optimiser, lr_at(step, self.settings, peak=self.settings.adversary_lr))
        self.accelerator.clip_grad_norm_(self.adversary.parameters(), self.settings.clip_norm)
        self.adversary_optimiser.step()
        self.adversary_optimiser.zero_grad()

    def _judge(self, learns: bool) -> None:
        """The adversary takes no gradients from the model's loss."""
        for parameter in self._judged:
            parameter.requires_grad_(learns)

    def _over_processes(self, terms: Mapping[str, list[Tensor]], stop: bool) -> tuple[dict[str, float], bool]:
        """Means over micro-batches and processes, and whether any process was asked to stop; see Window for NaN."""
        device = self.accelerator.device
        means = [_mean(name, torch.stack(values).to(device)) for name, values in terms.items()]
        row = torch.stack([*means, torch.tensor(float(stop), device=device)])
        rows = self.accelerator.gather(row[None])
        values = torch.stack(
            [_mean(name, column) for name, column in zip([*terms, "stop"], rows.unbind(1), strict=True)]
        ).tolist()
        return dict(zip(terms, values, strict=False)), values[-1] > 0

    def _check_finite(self, step: int, values: Mapping[str, float]) -> None:
        # Under fp16 the scaler meets infinite gradients as a matter of course and skips the update.
        for name in STRICT:
            if name == "grad_norm" and self.settings.precision == "fp16":
                continue
            if name in values and not math.isfinite(values[name]):
                kept = f"the last checkpoint is {self.checkpoint}" if self.checkpoint else "there is no checkpoint yet"
                raise TrainingError(
                    f"{name} is {values[name]} at step {step} of {self.settings.steps}; {kept}",
                    hint="lower train.lr, lengthen train.warmup_steps, or set train.precision=no",
                )


class _LossModule(nn.Module):
    """The objective's loss as one forward, so that Accelerate's wrapper (DDP, autocast) is around all that is trained."""

    def __init__(self, objective: Objective, extra: nn.Module | None) -> None:
        super().__init__()
        self.model = objective.model
        self.extra = extra
        self._loss = objective.loss

    def forward(self, batch: Mapping[str, Any], step: int, generator: torch.Generator) -> dict[str, Tensor]:
        terms = self._loss(batch, step, generator)
        return {name: value if name == "loss" else value.detach() for name, value in terms.items()}


class _AdversaryModule(nn.Module):
    def __init__(self, objective: Objective, adversary: nn.Module) -> None:
        super().__init__()
        self.adversary = adversary
        self._loss = objective.adversary_loss

    def forward(self, batch: Mapping[str, Any], step: int) -> dict[str, Tensor]:
        terms = self._loss(batch, step)
        return {name: value if name == "loss" else value.detach() for name, value in terms.items()}


def make_accelerator(precision: str) -> Accelerator:
    """An Accelerator for this process; unlike Accelerate's own state, another precision than last time is allowed."""
    AcceleratorState._reset_state(False)
    # Networks may have weights that a step does not use (an unused text pathway, a frozen branch).
    handlers = [DistributedDataParallelKwargs(find_unused_parameters=True)]
    try:
        # Told that there is only a CPU, Accelerate joins torchrun's processes over gloo; not told, each would train alone.
        cpu = not torch.accelerator.is_available()
        accelerator = Accelerator(mixed_precision=precision, cpu=cpu, kwargs_handlers=handlers)
    except ValueError as error:
        raise ConfigError(f"train.precision: {precision} does not run here: {error}", hint="set train.precision=no") from error
    if precision == "fp16" and accelerator.device.type == "cpu":
        raise ConfigError("train.precision: fp16 needs a GPU, this machine has none", hint="set train.precision=bf16 or no")
    started = int(os.environ.get("WORLD_SIZE", 1))
    if accelerator.num_processes != started:
        raise TrainingError(f"{started} processes were started (WORLD_SIZE), but Accelerate joined {accelerator.num_processes}")
    return accelerator


def _mean(name: str, values: Tensor) -> Tensor:
    return values.mean() if name in STRICT else values.nanmean()
