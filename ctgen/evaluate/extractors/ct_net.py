"""CT-Net (Draelos et al., Medical Image Analysis 2021) as the VLM3D challenge of 2025 uses it for its FVD.

A ResNet-18 looks at three slices at a time as at one picture; three convolutions over features, height and width, with the
pictures as channels, and two layers make 96 numbers, which are taken after their ReLU.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ctgen.evaluate.extractors.configs import CtNetConfig
from ctgen.evaluate.extractors.files import checked_file, described, fill, read_state
from ctgen.evaluate.extractors.resnet18 import WIDTH, resnet18
from ctgen.interfaces import Plane
from ctgen.volume import Volume

NAME = "ct-net"
HOW_TO_GET = (
    "the VLM3D challenge's evaluator has it (github.com/forithmus/VLM3D-Dockers, ctgen_evaluation/FVD/ctnet/trained_params); "
    "download the file elsewhere and give its path"
)
LABELS = 18
FEATURES = 96
CLIP_HU, WINDOW_HU = (-1000.0, 1000.0), (-1000.0, 200.0)
"""Before and after the volume is resized."""
MEAN = 0.449
"""Of ImageNet's grey values; taken off."""


class CtNetNetwork(nn.Module):
    """Layers are named as in the checkpoint. ``pictures`` of ``side`` x ``side`` pixels per volume."""

    def __init__(self, pictures: int, side: int) -> None:
        super().__init__()
        self.features = resnet18()
        self.reducingconvs = nn.Sequential(
            nn.Conv3d(pictures, 64, (3, 3, 3), (3, 1, 1)),
            nn.ReLU(),
            nn.Conv3d(64, 32, (3, 3, 3), (3, 1, 1)),
            nn.ReLU(),
            nn.Conv3d(32, 16, (3, 2, 2), (3, 2, 2)),
            nn.ReLU(),
        )
        deep, wide = WIDTH // 27, (-(-side // 32) - 4) // 2
        self.classifier = nn.Sequential(
            nn.Linear(16 * deep * wide * wide, 128),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(128, FEATURES),
            nn.ReLU(),
            nn.Dropout(0.5),
            # loaded with the rest and never run: the evaluator stops before it
            nn.Linear(FEATURES, LABELS),
        )

    def forward(self, pictures: Tensor, batch: int) -> Tensor:
        """(P, 3, S, S) of one volume -> (1, 96)."""
        seen = torch.cat([self.features(part) for part in torch.split(pictures, batch)])
        return self.classifier[:-1](self.reducingconvs(seen[None]).flatten(1))  # type: ignore[no-any-return]


class CtNet:
    """96 numbers per volume, none below zero."""

    width = FEATURES
    unit: Literal["volume"] = "volume"
    shape: ClassVar[tuple[int, int, int]] = (402, 420, 420)
    """Voxels (slices, x, y) that the network is shown, whatever the spacing."""

    def __init__(self, config: CtNetConfig) -> None:
        self.config = config
        self.weights = checked_file(config.weights, config.sha256, extractor=NAME, how_to_get=HOW_TO_GET)

    def describe(self) -> Mapping[str, Any]:
        return {
            "network": "CT-Net, 96 features after the second layer's ReLU",
            "weights": described(self.weights),
            "preprocessing": {
                "clip_hu": list(CLIP_HU),
                "window_hu": list(WINDOW_HU),
                "minus": MEAN,
                "size": list(self.shape),
                "axes": "z, x, y",
            },
        }

    @torch.no_grad()
    def features(self, volume: Volume, plane: Plane = "xy") -> NDArray[np.float32]:
        rows: NDArray[np.float32] = self.network(self.pictures(volume), self.config.batch).float().cpu().numpy()
        return rows

    def pictures(self, volume: Volume) -> Tensor:
        """(slices / 3, 3, x, y): each three neighbouring slices are the channels of a picture."""
        hu = torch.from_numpy(np.asarray(volume.hu, np.float32)).clamp(*CLIP_HU).to(self.device).transpose(1, 2)
        resized = F.interpolate(hu[None, None], size=self.shape, mode="trilinear", align_corners=False)[0, 0]
        low, high = WINDOW_HU
        scaled = (resized.clamp(low, high) - low) / (high - low) - MEAN
        return scaled.view(-1, 3, *self.shape[1:])

    @property
    def device(self) -> torch.device:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    @cached_property
    def network(self) -> CtNetNetwork:
        # filled from the file: nothing is drawn
        with torch.device("meta"):
            network = CtNetNetwork(self.shape[0] // 3, self.shape[1])
        state = read_state(Path(self.config.weights), extractor=NAME, how_to_get=HOW_TO_GET)
        fill(network, state, path=self.config.weights, extractor=NAME, hint=HOW_TO_GET)
        return network.to(self.device).eval()

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "network"}
