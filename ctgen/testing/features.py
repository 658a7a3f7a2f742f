"""A feature bank without networks, for checks of metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ctgen.atomic import stable_hash
from ctgen.data.labels import LABELS
from ctgen.errors import DataError
from ctgen.interfaces import Plane, Report, Which
from ctgen.volume import Volume

WIDTH = 6


@dataclass(frozen=True)
class KeptFeatures:
    """Features in memory."""

    rows: NDArray[np.float32]

    def read(self) -> NDArray[np.float32]:
        return self.rows


@dataclass(frozen=True)
class PlainBank:
    """Answers any key with mean, spread and four quantiles of each slice in 1000 HU; texts and labels by hash and mean.

    A key that begins with "volume" has one row per volume.
    """

    volumes: Mapping[Which, Volume] = field(default_factory=dict)

    def has(self, which: Which) -> bool:
        return which in self.volumes

    def can(self, key: str, what: Literal["logits", "text", "labels"]) -> bool:
        return True

    def volume(self, key: str, which: Which, plane: Plane = "xy") -> NDArray[np.float32]:
        slices = np.moveaxis(self._hu(which), {"xy": 0, "xz": 1, "yz": 2}[plane], 0)
        rows = slices.reshape(len(slices), -1) / 1000.0
        quantiles = np.quantile(rows, [0.1, 0.4, 0.6, 0.9], axis=1)
        found = np.stack([rows.mean(1), rows.std(1), *quantiles], axis=1)
        return (found.mean(axis=0, keepdims=True) if key.startswith("volume") else found).astype(np.float32)

    def stored(self, key: str, which: Which, plane: Plane = "xy", *, logits: bool = False) -> KeptFeatures:
        return KeptFeatures(self.logits(key, which, plane) if logits else self.volume(key, which, plane))

    def logits(self, key: str, which: Which, plane: Plane = "xy") -> NDArray[np.float32]:
        return 4.0 * self.volume(key, which, plane)

    def text(self, key: str, report: Report) -> NDArray[np.float32]:
        random = np.random.Generator(np.random.PCG64(stable_hash(key, report)))
        return random.normal(size=WIDTH).astype(np.float32)

    def labels(self, key: str, which: Which) -> Mapping[str, float]:
        mean = float(self._hu(which).mean())
        return {label: (stable_hash(label, f"{mean:.6f}") % 1000) / 999 for label in LABELS}

    def _hu(self, which: Which) -> NDArray[np.float64]:
        if which not in self.volumes:
            raise DataError(f"the case has no {which} volume")
        return self.volumes[which].hu.astype(np.float64)
