"""Batches without memory: what step s sees depends on (seed, s, rank, micro-batch) alone, so that any step can be the first."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ctgen.atomic import stable_hash
from ctgen.interfaces import Objective, TrainingSource
from ctgen.recipe.settings import TrainSettings


def generator_for(*parts: object) -> torch.Generator:
    """A CPU generator seeded by ``stable_hash(*parts)``."""
    return torch.Generator().manual_seed(stable_hash(*parts))


class StepBatches(Dataset[Mapping[str, Any]]):
    """Item k is micro-batch ``k % accumulate`` of step ``1 + k // accumulate`` of one process."""

    def __init__(self, objective: Objective, source: TrainingSource, settings: TrainSettings, rank: int) -> None:
        self.objective = objective
        self.source = source
        self.settings = settings
        self.rank = rank

    def __len__(self) -> int:
        return self.settings.steps * self.settings.accumulate

    def __getitem__(self, item: int) -> Mapping[str, Any]:
        step, micro = 1 + item // self.settings.accumulate, item % self.settings.accumulate
        generator = generator_for(self.settings.seed, "batch", step, self.rank, micro)
        with torch.no_grad():
            return self.objective.batch(self.source, self.settings.batch, generator)


def step_loader(
    objective: Objective,
    source: TrainingSource,
    settings: TrainSettings,
    *,
    rank: int,
    first_step: int,
    pin_memory: bool = False,
) -> DataLoader[Mapping[str, Any]]:
    """The micro-batches of steps ``first_step`` .. ``settings.steps`` in order, read by ``settings.workers`` processes."""
    batches = StepBatches(objective, source, settings, rank)
    return DataLoader(
        batches,
        batch_size=None,
        sampler=range((first_step - 1) * settings.accumulate, len(batches)),
        num_workers=settings.workers,
        collate_fn=_unchanged,
        worker_init_fn=_worker_signals,
        generator=torch.Generator(),
        pin_memory=pin_memory,
    )


def to_device(value: Any, device: torch.device) -> Any:
    """Tensors in mappings, sequences and dataclasses, moved; anything else as it is."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, Mapping):
        return {key: to_device(item, device) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [to_device(item, device) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {
            field.name: to_device(getattr(value, field.name), device) for field in dataclasses.fields(value) if field.init
        }
        return dataclasses.replace(value, **fields)
    return value


def _unchanged(batch: Any) -> Any:
    return batch


def _worker_signals(worker: int) -> None:
    # Ctrl-C reaches the whole process group: the main process decides when its readers end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
