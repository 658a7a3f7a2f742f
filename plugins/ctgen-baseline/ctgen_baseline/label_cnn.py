"""A small 3-D convolutional network: which labels a volume has, and which each of its parts holds.

Independent of CT-CLIP, which generators are conditioned by: it never reads a report. C is a level's width.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ctgen.data.labels import LABELS
from ctgen.errors import CheckpointError, ConfigError
from ctgen.interfaces import TokenGrid, WeightsInfo
from ctgen.weights import info, locate
from ctgen_baseline.label_cnn_config import GROUPS, LabelCnnConfig

NAME = "label-cnn"
SHIPPED = {"mini": Path(__file__).parent / "weights" / "mini" / "label_cnn.safetensors"}
HOW_TO_GET = "train your own: ctgen run recipes/mini/labels.yaml"
UNSEEN = ("windows", "size", "spacing_mm")
"""Fields that no tensor shows: the file says them."""


class LabelCnn(nn.Module):
    """A PlaceClassifier. Levels are at strides 4, 8, ...; each hears from the coarser ones, so that a speck of calcium knows
    which organ it is in."""

    weights: WeightsInfo

    def __init__(self, config: LabelCnnConfig) -> None:
        super().__init__()
        self.config = config
        widths, count = config.widths, len(LABELS)
        self.layers = nn.ModuleList(
            nn.Conv3d(have, wide, 3, stride=2, padding=1) for have, wide in pairwise((len(config.windows), *widths))
        )
        # the first convolution is by far the largest: a norm of it costs more than it helps
        self.norms = nn.ModuleList(nn.GroupNorm(GROUPS, wide) for wide in widths[1:])
        self.residuals = nn.ModuleList(
            nn.Sequential(*(Residual(wide) for _ in range(number)))
            for wide, number in zip(widths, config.residuals, strict=True)
        )
        self.finer = nn.ModuleList(nn.Conv3d(coarse, fine, 1) for fine, coarse in pairwise(widths[1:]))
        self.places = nn.ModuleList(nn.Conv3d(wide, count, 1) for wide in widths[1:])
        # a label's own likeliest parts alone: what a linear layer over all of them fits to is the few thousand training volumes
        self.scale = nn.Parameter(torch.full((len(widths) - 1, count), 1.0 / (len(widths) - 1)))
        self.offset = nn.Parameter(torch.zeros(count))
        path = locate(config.weights, component=NAME, shipped=SHIPPED, how_to_get=HOW_TO_GET)
        if path is not None:
            self._load(path)
        self.weights = info(config.weights, path)

    def forward(self, volume: Tensor) -> Tensor:
        """(B, 1, D, H, W) HU -> logits (B, 18); a larger volume is cropped evenly, ConfigError for a smaller one."""
        return self.classify_places(volume)[0]

    def classify_places(self, volume: Tensor) -> tuple[Tensor, list[Tensor]]:
        """As ``forward``, and what each part seems to hold, (B, d, h, w, 18) by level."""
        levels = self._levels(volume)
        for place in reversed(range(len(levels) - 1)):
            coarser = F.interpolate(self.finer[place](levels[place + 1]), scale_factor=2.0)
            levels[place] = F.relu(levels[place] + coarser)
        places = [says(level) for says, level in zip(self.places, levels, strict=True)]
        # half precision would round logits to equal scores
        maxima = torch.stack([level.float().amax((2, 3, 4)) for level in places], dim=1)
        with torch.autocast(maxima.device.type, enabled=False):
            logits = (maxima * self.scale).sum(1) + self.offset
        return logits, [level.permute(0, 2, 3, 4, 1) for level in places]

    def pooled(self, volume: Tensor) -> Tensor:
        """(B, 2 C) float32: maxima and means of the last level."""
        return _pooled(self._levels(volume)[-1])

    @property
    def token_channels(self) -> tuple[int, ...]:
        return (len(LABELS),) * (len(self.config.widths) - 1)

    def token_grids(self, shape: Sequence[int]) -> list[TokenGrid]:
        """Of strides 4, 8, ...; ConfigError if the volume is too small."""
        wanted = self.config.size
        if any(have < want for have, want in zip(shape, wanted, strict=True)):
            raise ConfigError(f"label-cnn: it reads {wanted} voxels (D, H, W), the volume has {tuple(shape)}")
        deep, high, wide = (
            slice((have - want) // 2, (have - want) // 2 + want) for have, want in zip(shape, wanted, strict=True)
        )
        strides = [2 ** (place + 2) for place in range(len(self.token_channels))]
        return [TokenGrid((deep, high, wide), (step, step, step)) for step in strides]

    def file_metadata(self) -> dict[str, str]:
        """The header of its weights: sizes, some of which no tensor shows."""
        return {NAME: json.dumps(self.config.model_dump(mode="json", exclude={"weights"}), sort_keys=True)}

    def _levels(self, volume: Tensor) -> list[Tensor]:
        """(B, C, d, h, w) at strides 4, 8, ..., before they hear from each other."""
        window = self.token_grids(volume.shape[2:])[0].window
        voxels = volume[(slice(None), 0, *window)].to(self.offset.device)
        # what follows rounds its inputs anyway; half precision halves the memory of the largest tensors
        if torch.is_autocast_enabled(voxels.device.type):
            voxels = voxels.to(torch.get_autocast_dtype(voxels.device.type))
        seen = [(voxels * (2 / (high - low)) - (high + low) / (high - low)).clamp(-1, 1) for low, high in self.config.windows]
        # channels last: convolutions of few channels are then several times faster on a CPU
        hidden = self.residuals[0](F.relu(self.layers[0](torch.stack(seen, dim=-1).permute(0, 4, 1, 2, 3))))
        found = []
        for layer, norm, residuals in zip(self.layers[1:], self.norms, self.residuals[1:], strict=True):
            hidden = residuals(F.relu(norm(layer(hidden))))
            found.append(hidden)
        return found

    def _load(self, path: Path) -> None:
        """Weights as training leaves them; CheckpointError lists what does not fit."""
        state, sizes = read(path)
        own = self.state_dict()
        wrong = [
            f"{key}: file {_shape(state, key)}, config {_shape(own, key)}"
            for key in sorted(state.keys() | own.keys())
            if _shape(state, key) != _shape(own, key)
        ]
        mine = self.config.model_dump(mode="json")
        wrong += [f"{name}: file {sizes[name]}, config {mine[name]}" for name in UNSEEN if sizes.get(name) != mine[name]]
        if wrong:
            raise CheckpointError(f"label-cnn: {path} does not fit; {len(wrong)} differences, first: " + "; ".join(wrong[:4]))
        self.load_state_dict(state)


class Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.convolution = nn.Conv3d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + F.relu(self.convolution(self.norm(x)))


def read(path: Path) -> tuple[dict[str, Tensor], Mapping[str, Any]]:
    """Tensors, and the fields of LabelCnnConfig that the header says; CheckpointError for any other file."""
    try:
        with safe_open(str(path), framework="pt") as handle:
            state = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
            header = (handle.metadata() or {}).get(NAME)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"label-cnn: {path} is not a readable safetensors file: {error}") from error
    if header is None:
        raise CheckpointError(f"label-cnn: {path} does not say label-cnn's sizes: it is another network's", hint=HOW_TO_GET)
    return state, json.loads(header)


def _pooled(level: Tensor) -> Tensor:
    return torch.cat([level.float().amax((2, 3, 4)), level.float().mean((2, 3, 4))], dim=1)


def _shape(state: Mapping[str, Tensor], key: str) -> str:
    return str(tuple(state[key].shape)) if key in state else "absent"
