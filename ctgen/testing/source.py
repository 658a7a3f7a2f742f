"""A TrainingSource over a few phantoms in memory, for testing objectives without a run folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from ctgen.data.labels import LABELS
from ctgen.interfaces import Posterior, Prompt, Report, TextFeatures
from ctgen.testing.volumes import phantom


class MemorySource:
    """``cases`` phantoms of ``size`` voxels (D, H, W), with reports, labels, and features of the given encoders."""

    def __init__(
        self, autoencoder: Any = None, text_encoder: Any = None, *, size: tuple[int, int, int] = (8, 32, 32), cases: int = 3
    ) -> None:
        self.ids: Sequence[str] = [f"phantom-{index}" for index in range(cases)]
        self.autoencoder, self.text_encoder = autoencoder, text_encoder
        self._volumes = [phantom(size, seed=index) for index in range(cases)]
        self._reports = [
            Report(f"Pleural effusion on the {('left', 'right')[index % 2]} side. Nodule of {4 + index} mm.", "Effusion.")
            for index in range(cases)
        ]

    def volume(self, index: int, slices: slice | None = None) -> Tensor:
        """(D, H, W) float32 HU."""
        hu = torch.from_numpy(self._volumes[index].hu).float()
        return hu if slices is None else hu[slices]

    def posterior(self, index: int, slices: slice | None = None) -> Posterior:
        """(1, c, d, h, w) moments by the autoencoder."""
        if self.autoencoder is None:
            raise AssertionError("the objective reads latents; give MemorySource an autoencoder")
        with torch.no_grad():
            found: Posterior = self.autoencoder.encode(self.volume(index)[None, None])
        if slices is None:
            return found
        return Posterior(found.mean[:, :, slices], None if found.logvar is None else found.logvar[:, :, slices])

    def latent_shape(self, index: int) -> tuple[int, int, int, int]:
        """(c, d, h, w) of a case."""
        c, d, h, w = self.posterior(index).mean.shape[1:]
        return c, d, h, w

    def text(self, index: int, *, impressions: bool = False) -> TextFeatures:
        """Features by the text encoder, batch of 1."""
        if self.text_encoder is None:
            raise AssertionError("the objective reads text features; give MemorySource a text encoder")
        with torch.no_grad():
            report = self._reports[index]
            prompt = Prompt(report.short if impressions else report, self._volumes[index].shape[0])
            found: TextFeatures = self.text_encoder.encode([prompt])
        return found

    def masks(self, index: int) -> tuple[Tensor, Tensor] | None:
        """A box for each label that the case has, but of "Medical material", whose place is then unknown."""
        labels = self.record(index)["labels"]
        bits = torch.zeros(self._volumes[index].shape, dtype=torch.int32)
        for place, label in enumerate(LABELS):
            if labels[label] and place:
                bits[1:-1, place : place + 6, place + 2 : place + 8] |= 1 << place
        return bits, torch.tensor([bool(place) or not labels[label] for place, label in enumerate(LABELS)])

    def record(self, index: int) -> Mapping[str, Any]:
        volume = self._volumes[index]
        return {
            "id": self.ids[index],
            "shape": list(volume.shape),
            "spacing_mm": list(volume.spacing_mm),
            "report": asdict(self._reports[index]),
            "labels": {label: int((index + place) % 3 == 0) for place, label in enumerate(LABELS)},
            "masks": [label for place, label in enumerate(LABELS) if place and (index + place) % 3 == 0],
            "split": "train",
            "meta": {"seed": index},
        }
