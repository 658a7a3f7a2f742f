"""label-cnn as a feature extractor: which labels a volume has, and what the network pools of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ctgen.data.labels import LABELS
from ctgen.interfaces import Plane
from ctgen.volume import Volume
from ctgen.volume.orient import to_canonical
from ctgen.volume.resample import PADDING_FLOOR_HU, crop_or_pad, resample
from ctgen.weights import info, locate
from ctgen_baseline.label_cnn import HOW_TO_GET, NAME, SHIPPED, LabelCnn, read
from ctgen_baseline.label_cnn_config import LabelCnnConfig, LabelCnnFeaturesConfig

AIR_HU = -1000.0


class LabelCnnFeatures:
    """One row per volume: maxima and means of the last level's channels. Float32, without gradients."""

    unit: Literal["volume"] = "volume"

    def __init__(self, config: LabelCnnFeaturesConfig) -> None:
        self.config = config
        path = locate(config.weights, component=NAME, shipped=SHIPPED, how_to_get=HOW_TO_GET)
        assert path is not None
        sizes = LabelCnnConfig.model_validate(read(path)[1])
        with torch.random.fork_rng(devices=[]):
            network = LabelCnn(sizes.model_copy(update={"weights": str(path.absolute())}))
        self.network = network.to("cuda" if torch.cuda.is_available() else "cpu").eval()
        self.weights = info(config.weights, path)
        self.width = 2 * sizes.widths[-1]

    def describe(self) -> Mapping[str, Any]:
        found, source = self.weights, self.config.weights
        sizes = self.network.config
        return {
            "network": "label-cnn: maxima and means of the last level; scores of 18 labels",
            "weights": {
                "label": found.label,
                "source": source if source == "mini" or source.startswith("hf:") else Path(source).name,
                "sha256": found.sha256,
            },
            "preprocessing": {
                "windows_hu": [list(window) for window in sizes.windows],
                "spacing_mm": list(sizes.spacing_mm),
                "size": list(sizes.size),
                "pad_hu": AIR_HU,
            },
        }

    @torch.no_grad()
    def features(self, volume: Volume, plane: Plane = "xy") -> NDArray[np.float32]:
        rows: NDArray[np.float32] = self.network.pooled(self._seen(volume)).cpu().numpy()
        return rows

    @torch.no_grad()
    def labels(self, volume: Volume) -> Mapping[str, float]:
        scores = self.network(self._seen(volume))[0].sigmoid().tolist()
        return dict(zip(LABELS, scores, strict=True))

    def _seen(self, volume: Volume) -> Tensor:
        """(1, 1, D, H, W) HU on the network's grid: resampled, cropped evenly, padded with air."""
        sizes = self.network.config
        canonical, _ = to_canonical(volume)
        if not np.allclose(canonical.spacing_mm, sizes.spacing_mm, atol=1e-3):
            canonical = resample(canonical, sizes.spacing_mm, floor_hu=PADDING_FLOOR_HU)
        fitted = crop_or_pad(canonical, sizes.size, fill_hu=AIR_HU)
        return torch.from_numpy(np.ascontiguousarray(fitted.hu, np.float32))[None, None]
