"""RadImageNet's ResNet-50 as MAISI's evaluation uses it: slices of three planes, spatial mean of the last layer."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ctgen.evaluate.extractors.configs import RadImageNetConfig
from ctgen.evaluate.extractors.files import checked_file, described, fill, read_state
from ctgen.evaluate.extractors.hu_stats import AXIS
from ctgen.evaluate.extractors.resnet50 import WIDTH, ResNet50
from ctgen.interfaces import Plane
from ctgen.volume import Volume
from ctgen.volume.resample import crop_or_pad, resample

NAME = "radimagenet-resnet50"
HOW_TO_GET = (
    "RadImageNet's authors publish the weights on request, and PyTorch conversions without the classifier exist; "
    "download the file elsewhere and give its path"
)
SEQUENTIAL = {"backbone.0.": "conv1.", "backbone.1.": "bn1.", **{f"backbone.{n + 3}.": f"layer{n}." for n in range(1, 5)}}
"""Names in files saved from torchvision's layers in a row."""


class RadImageNet:
    """2048 numbers per slice."""

    width = WIDTH
    unit: Literal["slice"] = "slice"

    def __init__(self, config: RadImageNetConfig) -> None:
        self.config = config
        self.weights = checked_file(config.weights, config.sha256, extractor=NAME, how_to_get=HOW_TO_GET)

    def describe(self) -> Mapping[str, Any]:
        return {
            "network": f"ResNet-50 ({self.config.variant}), spatial mean of the last layer",
            "weights": described(self.weights),
            "preprocessing": self.config.model_dump(mode="json", exclude={"weights", "sha256", "batch"}),
        }

    @torch.no_grad()
    def features(self, volume: Volume, plane: Plane = "xy") -> NDArray[np.float32]:
        slices = np.moveaxis(self.prepared(volume), AXIS[plane], 0)
        kept = max(1, round(self.config.centre * len(slices)))
        first = (len(slices) - kept) // 2
        found = []
        for start in range(first, first + kept, self.config.batch):
            pictures = torch.from_numpy(np.ascontiguousarray(slices[start : min(start + self.config.batch, first + kept)]))
            found.append(self.network(self._channels(pictures).to(self.device)).mean(dim=(2, 3)).float().cpu())
        rows: NDArray[np.float32] = torch.cat(found).numpy()
        return rows

    def prepared(self, volume: Volume) -> NDArray[np.float32]:
        """Spacing, size, window, 0..1 by volume or window; scaling by slice is done later."""
        config = self.config
        if config.spacing_mm is not None:
            volume = resample(volume, (config.spacing_mm,) * 3)
        if config.size is not None:
            volume = crop_or_pad(volume, (config.size,) * 3, fill_hu=config.pad_hu)
        low, high = config.window_hu
        hu: NDArray[np.float32] = np.clip(np.asarray(volume.hu, np.float32), low, high)
        if config.scaling == "volume":
            low, high = float(hu.min()), float(hu.max())
        if config.scaling != "slice":
            hu = (hu - np.float32(low)) / np.float32(max(high - low, 1e-6))
        return hu

    def _channels(self, pictures: Tensor) -> Tensor:
        """(B, H, W) -> (B, 3, H, W): one picture three times, less a mean for each."""
        if self.config.scaling == "slice":
            low, high = pictures.amin(dim=(1, 2), keepdim=True), pictures.amax(dim=(1, 2), keepdim=True)
            pictures = (pictures - low) / (high - low).clamp_min(1e-6)
        return pictures[:, None] - torch.tensor(self.config.subtract)[None, :, None, None]

    @property
    def device(self) -> torch.device:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    @cached_property
    def network(self) -> ResNet50:
        # filled from the file: nothing is drawn
        with torch.device("meta"):
            network = ResNet50(keras=self.config.variant == "radimagenet")
        state = read_state(Path(self.config.weights), extractor=NAME, how_to_get=HOW_TO_GET)
        other = "torchvision" if self.config.variant == "radimagenet" else "radimagenet"
        fill(
            network,
            {_name(name): value for name, value in state.items()},
            path=self.config.weights,
            extractor=NAME,
            hint=f"variant: {other} is the other layout; {HOW_TO_GET}",
            unused=("fc.",),
        )
        return network.to(self.device).eval()

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "network"}


def _name(name: str) -> str:
    for theirs, ours in SEQUENTIAL.items():
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return name
