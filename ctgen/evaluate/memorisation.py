"""Memorisation: is a generated volume nearer to a training case than held-out scans ever are?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ctgen.errors import DataError
from ctgen.evaluate.cases import CaseMetric, Rows
from ctgen.evaluate.feature_configs import MemorisationConfig
from ctgen.interfaces import EvaluationItem, FeatureBank, Metric, Which

NONE = float("nan")
FEWEST_HELD_OUT = 2
SMALLEST_SPREAD = 0.1
MEASURED: tuple[Which, ...] = ("generated", "real")


def volume_feature(bank: FeatureBank, key: str, which: Which) -> Rows:
    """(width,) of a volume: its row, or the mean over its axial slices."""
    found: Rows = bank.volume(key, which).astype(np.float64).mean(axis=0)
    return found


def spread(table: Rows) -> Rows:
    """(N, d) -> (d,) standard deviations; a feature that hardly varies counts as if it varied by a tenth of the others."""
    found = table.std(axis=0)
    least = SMALLEST_SPREAD * float(np.sqrt((found**2).mean()))
    return np.maximum(found, least) if least > 0 else np.ones(len(found))


class Memorisation(CaseMetric):
    """Distance to the nearest training case in features divided by their spread over the training cases.

    ``fit`` takes the training cases; they are state of their own and must be equal in metrics that are merged. A held-out
    scan of the same patient as a training scan may rightly be near: split by patient.
    """

    higher_is_better: ClassVar[Mapping[str, bool | None]] = {
        "copies_fraction": False,
        "copies_fraction_real": None,
        "distance_ratio": None,
    }
    needs: ClassVar[frozenset[str]] = frozenset({"generated", "features"})
    meanings: ClassVar[Mapping[str, str]] = {
        "copies_fraction": "share of generated volumes that are too near to a training case",
        "copies_fraction_real": "floor: the same of the held-out real scans",
        "distance_ratio": "median distance to the nearest training case over that of held-out scans; far below 1: copies",
    }
    config: MemorisationConfig

    def __init__(self, config: MemorisationConfig) -> None:
        super().__init__(config)
        self.training: dict[str, Rows] = {}

    def fit(self, item: EvaluationItem) -> None:
        """Take in one training case (its real volume's features)."""
        if self.rows:
            raise DataError("training cases come before the cases that are compared with them")
        if item.features is not None and item.features.has("real"):
            self.training[item.id] = volume_feature(item.features, self.config.features, "real")

    def measure(self, item: EvaluationItem) -> Rows | None:
        """Distance of the generated and of the real volume to the nearest training case; the real one is left out if it is
        a training case itself."""
        if not self.training or item.features is None:
            return None
        names = sorted(self.training)
        table = np.stack([self.training[name] for name in names])
        scale = spread(table)
        places: dict[str, Any] = {}
        found = []
        for which in MEASURED:
            if not item.features.has(which) or (which == "real" and item.id in self.training):
                found.append(NONE)
                continue
            apart = (table - volume_feature(item.features, self.config.features, which)) / scale
            distances = np.sqrt((apart**2).mean(axis=1))
            nearest = int(distances.argmin())
            found.append(float(distances[nearest]))
            places[which] = {"training_case": names[nearest], "distance": float(distances[nearest])}
        self.details[item.id] = places
        return np.array(found)

    def merge(self, other: Metric) -> None:
        if isinstance(other, Memorisation):
            if self.training and other.training and sorted(self.training) != sorted(other.training):
                raise DataError("memorisation: the parts of a merge were compared with different training cases")
            self.training = self.training or dict(other.training)
        super().merge(other)

    def threshold(self) -> float | None:
        """Distances below it are copies; None with fewer than two held-out scans."""
        held_out = np.array([row[1] for row in self.rows.values()])
        held_out = held_out[~np.isnan(held_out)]
        if len(held_out) < FEWEST_HELD_OUT:
            held_out = self._among_training()
        return self.config.factor * float(np.quantile(held_out, self.config.quantile)) if len(held_out) else None

    def summarise(self, rows: Rows, counts: NDArray[np.int64]) -> dict[str, float]:
        limit = self.threshold()
        found: dict[str, float] = {}
        for place, name in enumerate(("copies_fraction", "copies_fraction_real")):
            known = ~np.isnan(rows[:, place]) & (counts > 0)
            if known.any() and limit is not None:
                found[name] = float(np.average(rows[known, place] < limit, weights=counts[known]))
        made, real = (np.repeat(rows[:, place], counts) for place in range(2))
        if not np.isnan(real).all() and not np.isnan(made).all() and np.nanmedian(real) > 0:
            found["distance_ratio"] = float(np.nanmedian(made) / np.nanmedian(real))
        return found

    def extra(self) -> dict[str, Any]:
        """The copies by case id with their training case, and the distance from which on nothing is flagged."""
        limit = self.threshold()
        flagged = {
            case_id: self.details[case_id]["generated"]
            for case_id in self.ids
            if limit is not None and self.rows[case_id][0] < limit
        }
        return {"flagged": flagged, "threshold": limit, "training_cases": len(self.training)}

    def _among_training(self) -> Rows:
        """Each training case's distance to the nearest other one, where there are no held-out scans."""
        if len(self.training) < FEWEST_HELD_OUT + 1:
            return np.zeros(0)
        table = np.stack([self.training[name] for name in sorted(self.training)])
        table = table / spread(table)
        squares = ((table[:, None] - table[None]) ** 2).mean(axis=2)
        np.fill_diagonal(squares, np.inf)
        found: Rows = np.sqrt(squares.min(axis=1))
        return found
