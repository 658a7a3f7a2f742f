"""What the built-in metrics share: one row of numbers per case, so that merging is exact and cases can be resampled."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ctgen.config import ComponentConfig
from ctgen.errors import DataError
from ctgen.interfaces import EvaluationItem, Metric, Which

Rows = NDArray[np.float64]


@runtime_checkable
class Resampled(Protocol):
    """A metric that can be computed again over any multiset of its cases; the driver then gives it bootstrap intervals."""

    @property
    def ids(self) -> Sequence[str]:
        """The cases that count in this metric, sorted."""

    def estimate(self, counts: NDArray[np.int64]) -> Mapping[str, float]:
        """compute() with case ``ids[i]`` taken ``counts[i]`` times; a key that is then undefined is left out."""

    def per_case(self) -> Mapping[str, Mapping[str, float]]:
        """Case id -> key -> value for that case alone."""


class CaseMetric(ABC):
    """A metric whose state is one float64 row per case. The result depends neither on the order of cases nor on merging."""

    higher_is_better: ClassVar[Mapping[str, bool | None]]
    needs: ClassVar[frozenset[str]]
    meanings: ClassVar[Mapping[str, str]] = {}
    """Key -> what it is, with its unit; printed beside the number."""

    def __init__(self, config: ComponentConfig) -> None:
        self.config = config
        self.rows: dict[str, Rows] = {}
        self.details: dict[str, Any] = {}
        """Case id -> what else measure() found out (JSON-ready), for extra()."""

    @abstractmethod
    def measure(self, item: EvaluationItem) -> Rows | None:
        """(K,) numbers of one case, of one length K for all cases; None if the case has no say in this metric."""

    @abstractmethod
    def summarise(self, rows: Rows, counts: NDArray[np.int64]) -> dict[str, float]:
        """(N, K) rows, N >= 1, taken ``counts`` (N,) times each -> values; undefined keys are left out."""

    def update(self, item: EvaluationItem) -> None:
        if item.id in self.rows:
            raise DataError(f"case {item.id!r} is evaluated twice")
        row = self.measure(item)
        if row is not None:
            self.rows[item.id] = row

    def merge(self, other: Metric) -> None:
        """Take over the cases of a metric of the same class and config; DataError if a case is in both."""
        if not isinstance(other, CaseMetric) or type(other) is not type(self) or other.config != self.config:
            raise DataError(f"{type(self).__name__} merges only with its own class and config, not with {type(other).__name__}")
        if both := sorted(self.rows.keys() & other.rows.keys()):
            raise DataError(f"{len(both)} cases are in both parts of a merge: {', '.join(both[:5])}")
        self.rows.update(other.rows)
        self.details.update(other.details)

    def compute(self) -> dict[str, float]:
        return self.estimate(np.ones(len(self.rows), np.int64))

    @property
    def ids(self) -> list[str]:
        return sorted(self.rows)

    def estimate(self, counts: NDArray[np.int64]) -> dict[str, float]:
        if not self.rows:
            return {}
        return self.summarise(np.stack([self.rows[case_id] for case_id in self.ids]), counts)

    def per_case(self) -> dict[str, dict[str, float]]:
        one = np.ones(1, np.int64)
        return {case_id: self.summarise(self.rows[case_id][None], one) for case_id in self.ids}

    def protocol(self) -> dict[str, Any]:
        """JSON-ready fields that define the numbers."""
        return self.config.identity()


def mean_of(values: Rows, counts: NDArray[np.int64]) -> float | None:
    """Mean of ``values`` (N,) taken ``counts`` times each, NaN left out; None if nothing is left."""
    known = ~np.isnan(values) & (counts > 0)
    return float(np.average(values[known], weights=counts[known])) if known.any() else None


def windowed(item: EvaluationItem, which: Which, window_hu: tuple[float, float]) -> NDArray[np.float32]:
    """(D, H, W) float32 HU of one of the item's volumes, clipped to the window. DataError if it is missing or not finite."""
    volume = getattr(item, which)
    if volume is None:
        raise DataError(f"case {item.id!r} has no {which} volume")
    hu = np.asarray(volume.hu, np.float32)
    if not np.isfinite(hu).all():
        count = int(np.size(hu) - np.isfinite(hu).sum())
        raise DataError(f"case {item.id!r}: {count} voxels of the {which} volume are NaN or infinite")
    clipped: NDArray[np.float32] = np.clip(hu, np.float32(window_hu[0]), np.float32(window_hu[1]))
    return clipped
