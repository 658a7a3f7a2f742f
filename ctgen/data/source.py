"""What objectives draw their batches from: the cases of one split, over the prepared and the latent stores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ctgen.data.latents import LatentStore
from ctgen.data.masks import known_labels
from ctgen.data.prepared import PreparedCases
from ctgen.errors import DataError, StageError
from ctgen.interfaces import Posterior, Split, TextFeatures


class Source:
    """A TrainingSource (see ctgen.interfaces)."""

    def __init__(self, prepared: PreparedCases, latents: LatentStore | None, split: Split) -> None:
        self.prepared, self.latents = prepared, latents
        self.ids = prepared.ids(split)
        if not self.ids:
            raise DataError(
                f"no {split} cases are left after preparation ({len(prepared.manifest['cases'])} prepared, "
                f"{len(prepared.skipped)} left out)",
                hint=f"see {prepared.folder / 'manifest.json'}; more cases or another data.valid_fraction help",
            )

    def volume(self, index: int, slices: slice | None = None) -> Tensor:
        """(D, H, W) float32 HU; only ``slices`` of D are read from disk."""
        array = self.prepared.array(self.ids[index])
        return torch.from_numpy(np.asarray(array[slices] if slices else array, dtype=np.float32))

    def posterior(self, index: int, slices: slice | None = None) -> Posterior:
        """(1, c, d, h, w) moments; only ``slices`` of d are read from disk."""
        return self._latents().posterior(self.ids[index], slices)

    def latent_shape(self, index: int) -> tuple[int, int, int, int]:
        """(c, d, h, w), without reading a latent."""
        return self._latents().shape(self.ids[index])

    def text(self, index: int, *, impressions: bool = False) -> TextFeatures:
        return self._latents().text(self.ids[index], impressions=impressions)

    def record(self, index: int) -> Mapping[str, Any]:
        return self.prepared.record(self.ids[index])

    def masks(self, index: int) -> tuple[Tensor, Tensor] | None:
        """(D, H, W) int32, bit k = LABELS[k], and (18,) bool, which labels are known; None if the case has no masks."""
        bits = self.prepared.mask_bits(self.ids[index])
        if bits is None:
            return None
        return torch.from_numpy(bits), torch.from_numpy(known_labels(self.record(index)))

    def _latents(self) -> LatentStore:
        if self.latents is None:
            raise StageError("this objective asks for latents, but declares that it reads volumes")
        return self.latents
