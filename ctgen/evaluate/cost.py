"""What a generated volume costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ctgen.evaluate.cases import CaseMetric, Rows, mean_of
from ctgen.evaluate.configs import CostConfig
from ctgen.interfaces import EvaluationItem


class Cost(CaseMetric):
    """Wall-clock time as the generator measured it; comparable only on one device, which stands in the header."""

    higher_is_better: ClassVar[Mapping[str, bool | None]] = {"seconds_per_volume": False, "seconds_per_slice": False}
    needs: ClassVar[frozenset[str]] = frozenset({"generated"})
    meanings: ClassVar[Mapping[str, str]] = {
        "seconds_per_volume": "generation, mean over volumes, s",
        "seconds_per_slice": "all seconds over all axial slices, s",
    }
    config: CostConfig

    def measure(self, item: EvaluationItem) -> Rows | None:
        if item.seconds is None or item.generated is None:
            return None
        return np.array([item.seconds, float(item.generated.shape[0])])

    def summarise(self, rows: Rows, counts: NDArray[np.int64]) -> dict[str, float]:
        mean = mean_of(rows[:, 0], counts)
        slices = float(counts @ rows[:, 1])
        return {} if mean is None else {"seconds_per_volume": mean, "seconds_per_slice": float(counts @ rows[:, 0]) / slices}
