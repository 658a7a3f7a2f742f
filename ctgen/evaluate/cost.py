"""What a generated volume costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ctgen.evaluate.cases import CaseMetric, Rows, mean_of
from ctgen.evaluate.configs import CostConfig
from ctgen.interfaces import EvaluationItem

UNKNOWN = float("nan")


class Cost(CaseMetric):
    """Wall-clock time as the generator measured it; comparable only on one device, which stands in the header."""

    higher_is_better: ClassVar[Mapping[str, bool | None]] = {
        "seconds_per_volume": False,
        "seconds_per_slice": False,
        "evaluations_per_volume": None,
        "peak_mb": False,
    }
    needs: ClassVar[frozenset[str]] = frozenset({"generated"})
    meanings: ClassVar[Mapping[str, str]] = {
        "seconds_per_volume": "generation, mean over volumes, s",
        "seconds_per_slice": "all seconds over all axial slices, s",
        "evaluations_per_volume": "calls of the denoising network, mean over volumes",
        "peak_mb": "most memory that the generator held, MB, largest of the volumes",
    }
    config: CostConfig

    def measure(self, item: EvaluationItem) -> Rows | None:
        if item.seconds is None or item.generated is None:
            return None
        numbers = (item.seconds, item.generated.shape[0], item.evaluations, item.peak_bytes)
        return np.array([UNKNOWN if number is None else float(number) for number in numbers])

    def summarise(self, rows: Rows, counts: NDArray[np.int64]) -> dict[str, float]:
        taken = counts > 0
        peaks = rows[taken & ~np.isnan(rows[:, 3]), 3]
        found = {
            "seconds_per_volume": mean_of(rows[:, 0], counts),
            "seconds_per_slice": float(counts @ rows[:, 0]) / float(counts @ rows[:, 1]) if taken.any() else None,
            "evaluations_per_volume": mean_of(rows[:, 2], counts),
            "peak_mb": float(peaks.max()) / 1e6 if len(peaks) else None,
        }
        return {key: value for key, value in found.items() if value is not None}
