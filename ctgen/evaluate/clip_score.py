"""CLIP score: how near a generated volume is to its report, and to the paired real scan, in a space of both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ctgen.errors import DataError
from ctgen.evaluate.cases import CaseMetric, Rows, mean_of
from ctgen.evaluate.feature_configs import ClipScoreConfig
from ctgen.interfaces import EvaluationItem, FeatureBank, Which

NONE = float("nan")


def cosine(one: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    """Of two vectors, in float64; 0 if one has no length."""
    a, b = one.astype(np.float64), other.astype(np.float64)
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / lengths if lengths else 0.0


def whole(bank: FeatureBank, key: str, which: Which, case_id: str) -> NDArray[np.float64]:
    """(width,) features of a volume. DataError if the extractor gives one row per slice."""
    rows = bank.volume(key, which)
    if len(rows) != 1:
        raise DataError(
            f"case {case_id!r}: extractor {key!r} gives {len(rows)} rows per volume, one is needed",
            hint="name an extractor with the unit 'volume'",
        )
    found: NDArray[np.float64] = rows[0].astype(np.float64)
    return found


class ClipScore(CaseMetric):
    """100 times the cosine, mean over cases."""

    higher_is_better: ClassVar[Mapping[str, bool | None]] = {"text_image": True, "image_image": True, "text_image_real": None}
    needs: ClassVar[frozenset[str]] = frozenset({"generated", "features"})
    meanings: ClassVar[Mapping[str, str]] = {
        "text_image": "100 x cosine of generated volume and report",
        "image_image": "100 x cosine of generated volume and the paired real scan",
        "text_image_real": "floor: the real scans' with their reports",
    }
    config: ClipScoreConfig

    def measure(self, item: EvaluationItem) -> Rows | None:
        bank, key = item.features, self.config.features
        assert bank is not None
        made = whole(bank, key, "generated", item.id)
        real = whole(bank, key, "real", item.id) if bank.has("real") else None
        words = bank.text(key, item.report) if item.report is not None else None
        pairs = ((made, words), (made, real), (real, words))
        return np.array([NONE if a is None or b is None else self._score(cosine(a, b)) for a, b in pairs])

    def _score(self, value: float) -> float:
        return 100.0 * (max(value, 0.0) if self.config.clipped else value)

    def summarise(self, rows: Rows, counts: NDArray[np.int64]) -> dict[str, float]:
        means = {key: mean_of(rows[:, index], counts) for index, key in enumerate(self.higher_is_better)}
        return {key: value for key, value in means.items() if value is not None}
