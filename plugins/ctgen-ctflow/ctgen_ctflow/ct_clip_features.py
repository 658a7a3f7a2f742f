"""CT-CLIP as a feature extractor: one vector per volume, in the space of reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ctgen.data.labels import LABELS
from ctgen.interfaces import Plane, Report
from ctgen.volume import Volume
from ctgen_ctflow.ct_clip import PROMPTS, CtClip
from ctgen_ctflow.ct_clip_features_config import CtClipImageConfig

NAMED = ("mini",)


class CtClipImage:
    """Latents of unit length, so that a dot product is a cosine. All on one device, without gradients."""

    unit: Literal["volume"] = "volume"

    def __init__(self, config: CtClipImageConfig) -> None:
        self.config = config
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = CtClip.load(config.weights, vocabulary=config.vocabulary, text_heads=config.text_heads, device=device)
        self.weights = self.model.weights
        self.width: int = self.model.sizes.latent

    def describe(self) -> Mapping[str, Any]:
        weights, preprocessing = self.weights, self.config.model_dump(mode="json", exclude={"weights", "vocabulary"})
        words = self.config.vocabulary
        return {
            "network": "CT-CLIP, image tower: latent of unit length",
            "weights": {"label": weights.label, "source": _plain(weights.source), "sha256": weights.sha256},
            "preprocessing": {**preprocessing, "vocabulary": _plain(words)},
        }

    def features(self, volume: Volume, plane: Plane = "xy") -> NDArray[np.float32]:
        return _table(self._latent(volume))

    def text(self, reports: Sequence[Report]) -> NDArray[np.float32]:
        # one at a time: the padding of a batch may change the last digits
        return _table(torch.cat([self.model.encode_reports([report], self.config.template) for report in reports]))

    @torch.no_grad()
    def labels(self, volume: Volume) -> Mapping[str, float]:
        logits = self.model.similarity(self._sentences, self._latent(volume))[:, 0]
        present = logits.reshape(len(LABELS), len(PROMPTS)).softmax(dim=1)[:, 0]
        return {label: float(score) for label, score in zip(LABELS, present, strict=True)}

    def _latent(self, volume: Volume) -> Tensor:
        return self.model.encode_image(self.model.prepare(volume, self.config.rule)[None])

    @cached_property
    def _sentences(self) -> Tensor:
        """Latents of presence and absence of each label, in turn."""
        return self.model.encode_text([prompt.format(label) for label in LABELS for prompt in PROMPTS])


def _plain(source: str) -> str:
    """Without the folders of this machine."""
    return source if source in NAMED or source.startswith("hf:") else Path(source).name


def _table(latents: Tensor) -> NDArray[np.float32]:
    found: NDArray[np.float32] = latents.float().cpu().numpy()
    return found
