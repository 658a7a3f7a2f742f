"""Whole volumes for objectives: cases drawn, moved and noised, and what is known of their labels and of where findings are."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ctgen.data.labels import LABELS
from ctgen.errors import DataError
from ctgen.evaluate.retrieval import auroc
from ctgen.interfaces import TokenGrid, TrainingSource
from ctgen.train.places import holding
from ctgen.train.volumes_config import WholeVolumesConfig

AIR_HU = -1000.0
MOST_TRIES = 200
NAMES = {"report": "a report", "labels": "labels"}


def draw(
    source: TrainingSource, size: int, generator: torch.Generator, wanted: Literal["report", "labels"]
) -> list[tuple[int, Mapping[str, Any]]]:
    """(index, record) of cases that have what is ``wanted``; one case is not in a batch twice unless there are too few."""
    drawn: dict[int, Mapping[str, Any]] = {}
    again: list[tuple[int, Mapping[str, Any]]] = []
    for _ in range(MOST_TRIES + 4 * size):
        index = int(torch.randint(len(source.ids), (), generator=generator))
        record = drawn.get(index) or source.record(index)
        if not record[wanted]:
            continue
        if index not in drawn:
            drawn[index] = record
        else:
            again.append((index, record))
        if len(drawn) == size:
            break
    found = [*drawn.items(), *again][:size]
    if len(found) < size:
        raise DataError(
            f"{len(found)} of {size} cases drawn from {len(source.ids)} have {NAMES[wanted]}",
            hint="the objective needs them; more cases or a smaller train.batch help",
        )
    return found


def whole_volumes(
    indices: Sequence[int],
    source: TrainingSource,
    config: WholeVolumesConfig,
    generator: torch.Generator,
    grids: Callable[[Sequence[int]], Sequence[TokenGrid]] | None = None,
) -> dict[str, Any]:
    """volume (B, 1, D, H, W) HU, moved and noised as ``config`` says.

    With ``grids`` (of a shape: ``token_grids``) also what masks say of a network's parts: holds, (B, d, h, w, 18) bool by
    level, and places_known (B, 18) bool.
    """
    steps = [[int(torch.randint(-most, most + 1, (), generator=generator)) for most in config.shift_voxels] for _ in indices]
    batch: dict[str, Any] = {"volume": _volumes(indices, steps, source, config, generator)[:, None]}
    return batch if grids is None else {**batch, **_masks(indices, steps, source, grids)}


def move(volume: Tensor, steps: Sequence[int], result: Tensor) -> None:
    """Write (D, H, W) into ``result``, moved by ``steps`` voxels; where nothing comes ``result`` stays as it is."""
    source = tuple(slice(max(-step, 0), size - max(step, 0)) for step, size in zip(steps, volume.shape, strict=True))
    target = tuple(slice(max(step, 0), size - max(-step, 0)) for step, size in zip(steps, volume.shape, strict=True))
    result[target] = volume[source]


def stated(records: Sequence[Mapping[str, Any]]) -> tuple[Tensor, Tensor]:
    """Labels (N, 18) and whether each is known, float32."""
    said = [record["labels"] or {} for record in records]
    labels = torch.tensor([[float(one.get(name, 0)) for name in LABELS] for one in said])
    known = torch.tensor([[float(name in one) for name in LABELS] for one in said])
    return labels, known


def labels_cross_entropy(logits: Tensor, labels: Tensor, known: Tensor) -> Tensor:
    """The mean over what is ``known``; all (N, 18)."""
    errors = F.binary_cross_entropy_with_logits(logits, labels, reduction="none") * known
    return errors.sum() / known.sum().clamp_min(1)


def label_aurocs(scores: NDArray[Any], records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """{"auroc": mean over labels, "auroc LABEL": ...} of (N, 18) scores; NaN where all cases have a label, or none."""
    labels, known = (values.numpy() for values in stated(records))
    by_label = {
        f"auroc {label}": auroc(scores[known[:, place] > 0, place], labels[known[:, place] > 0, place])
        for place, label in enumerate(LABELS)
    }
    measured = [value for value in by_label.values() if math.isfinite(value)]
    return {"auroc": sum(measured) / len(measured) if measured else math.nan, **by_label}


def _volumes(
    indices: Sequence[int],
    steps: Sequence[Sequence[int]],
    source: TrainingSource,
    config: WholeVolumesConfig,
    generator: torch.Generator,
) -> Tensor:
    """(B, D, H, W), each moved by its ``steps``; each volume is copied once."""
    volumes: Tensor | None = None
    for place, index in enumerate(indices):
        volume = source.volume(index)
        if volumes is None:
            volumes = volume.new_full((len(indices), *volume.shape), AIR_HU)
        move(volume, steps[place], volumes[place])
        if config.offset_hu:
            volumes[place] += config.offset_hu * torch.randn((), generator=generator)
        if config.noise_hu:
            level = config.noise_hu * torch.rand((), generator=generator)
            volumes[place] += level * torch.randn(volume.shape, generator=generator)
    assert volumes is not None
    return volumes


def _masks(
    indices: Sequence[int],
    steps: Sequence[Sequence[int]],
    source: TrainingSource,
    grids: Callable[[Sequence[int]], Sequence[TokenGrid]],
) -> dict[str, Any]:
    """Which label each part of each volume holds, and what is known of it; masks move with their volume."""
    holds, known = [], []
    for index, moved_by in zip(indices, steps, strict=True):
        found = source.masks(index)
        if found is None:
            shape = source.volume(index).shape
            found = torch.zeros(shape, dtype=torch.int32), torch.zeros(len(LABELS), dtype=torch.bool)
        bits = torch.zeros_like(found[0])
        move(found[0], moved_by, bits)
        holds.append(holding(bits.numpy(), grids(bits.shape)))
        known.append(found[1])
    return {"holds": [torch.stack(level) for level in zip(*holds, strict=True)], "places_known": torch.stack(known)}
