"""Networks in TorchScript files, called as StyleGAN-V calls them: Inception-v3 for slices, I3D for videos."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ctgen.errors import CheckpointError, DataError
from ctgen.evaluate.extractors.configs import I3dConfig, InceptionConfig, TorchScriptConfig
from ctgen.evaluate.extractors.files import checked_file, described
from ctgen.evaluate.extractors.hu_stats import AXIS
from ctgen.interfaces import Plane
from ctgen.volume import Volume

HOW_TO_GET = (
    "StyleGAN's authors publish inception-2015-12-05.pt, StyleGAN-V's i3d_torchscript.pt; "
    "download the file elsewhere and give its path"
)
SMALLEST = 1e-30
"""Probabilities below it are taken for it when their logarithm is asked for."""


def grey(hu: NDArray[Any], config: TorchScriptConfig) -> NDArray[np.float32]:
    """HU -> 0..255 by the window."""
    low, high = config.window_hu
    values = (np.clip(np.asarray(hu, np.float32), low, high) - low) * np.float32(255.0 / (high - low))
    return np.rint(values) if config.rounded else values


class TorchScript:
    """What both share: the file is checked at once, and read when the first features are asked for."""

    name: ClassVar[str]
    network: ClassVar[str]

    def __init__(self, config: TorchScriptConfig) -> None:
        self.config: Any = config
        self.weights = checked_file(config.weights, config.sha256, extractor=self.name, how_to_get=HOW_TO_GET)

    def describe(self) -> Mapping[str, Any]:
        excluded = {"weights", "sha256", "batch"}
        return {
            "network": self.network,
            "weights": described(self.weights),
            "preprocessing": self.config.model_dump(mode="json", exclude=excluded),
        }

    @cached_property
    def module(self) -> Any:
        try:
            return torch.jit.load(self.config.weights, map_location=self.device).eval()  # type: ignore[no-untyped-call]
        except (RuntimeError, ValueError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise CheckpointError(
                f"{self.name}: {self.config.weights} is no TorchScript file: {reason}", hint=HOW_TO_GET
            ) from error

    @property
    def device(self) -> torch.device:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "module"}


class Inception(TorchScript):
    """2048 features per slice, before the classifier; logits are the logarithms of the network's probabilities."""

    name: ClassVar[str] = "torchscript-inception"
    network: ClassVar[str] = "Inception-v3, TorchScript, return_features=True"
    width = 2048
    unit: Literal["slice"] = "slice"
    config: InceptionConfig

    def features(self, volume: Volume, plane: Plane = "xy") -> NDArray[np.float32]:
        return self._run(volume, plane, return_features=True)

    def logits(self, volume: Volume, plane: Plane = "xy") -> NDArray[np.float32]:
        probabilities = self._run(volume, plane, no_output_bias=not self.config.output_bias)
        return np.log(np.maximum(probabilities, SMALLEST))

    @torch.no_grad()
    def _run(self, volume: Volume, plane: Plane, **options: bool) -> NDArray[np.float32]:
        slices = np.moveaxis(volume.hu, AXIS[plane], 0)
        found = []
        for start in range(0, len(slices), self.config.batch):
            pictures = grey(slices[start : start + self.config.batch], self.config)
            images = torch.from_numpy(np.repeat(pictures[:, None], 3, axis=1)).to(self.device)
            found.append(_table(self.module(images, **options)))
        rows = np.concatenate(found)
        return _checked(rows, len(slices), self.width if options.get("return_features") else rows.shape[1], self.name)


class I3d(TorchScript):
    """400 features per volume: the network's last layer on one video of 3 equal channels."""

    name: ClassVar[str] = "torchscript-i3d"
    network: ClassVar[str] = "I3D, TorchScript, rescale=True, resize=True, return_features=True"
    width = 400
    unit: Literal["volume"] = "volume"
    config: I3dConfig

    @torch.no_grad()
    def features(self, volume: Volume, plane: Plane = "xy") -> NDArray[np.float32]:
        frames = grey(volume.hu[self.frames(len(volume.hu))], self.config)
        video = torch.from_numpy(np.repeat(frames[None], 3, axis=0))[None].to(self.device)
        rows = _table(self.module(video, rescale=True, resize=True, return_features=True))
        return _checked(rows, 1, self.width, self.name)

    def frames(self, depth: int) -> NDArray[np.int64]:
        """Slices that are shown. DataError if the volume has too few."""
        count = self.config.frames or depth
        if count > depth:
            raise DataError(f"{self.name}: {count} frames are wanted of a volume of {depth} slices", hint="lower frames")
        if self.config.pick == "even":
            return ((np.arange(count) + 0.5) / count * depth).astype(np.int64)
        first = (depth - count) // 2
        return np.arange(first, first + count)


def _table(output: Tensor) -> NDArray[np.float32]:
    found: NDArray[np.float32] = output.float().flatten(1).cpu().numpy()
    return found


def _checked(rows: NDArray[np.float32], count: int, width: int, name: str) -> NDArray[np.float32]:
    if rows.shape != (count, width):
        raise CheckpointError(f"{name}: the network gives {rows.shape} features, wanted {(count, width)}", hint=HOW_TO_GET)
    return rows
