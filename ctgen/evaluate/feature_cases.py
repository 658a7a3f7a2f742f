"""What metrics of feature distributions share: which features of which case, kept on disk, read in one order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, get_args

import numpy as np
from numpy.typing import NDArray

from ctgen.config import ComponentConfig
from ctgen.errors import DataError
from ctgen.interfaces import EvaluationItem, FeatureBank, Metric, Plane, StoredFeatures, Which

Kept = dict[tuple[Which, Plane], StoredFeatures]
Counts = NDArray[np.int64]


class DistributionMetric(ABC):
    """State: references to features by case. All sums run in the order of ids, so that neither the order of the cases nor the
    number of processes changes a digit; cases are resampled by counts.
    """

    higher_is_better: ClassVar[Mapping[str, bool | None]]
    needs: ClassVar[frozenset[str]] = frozenset({"features"})
    meanings: ClassVar[Mapping[str, str]] = {}
    centred: ClassVar[bool] = False
    """True: resamples are biased, and the interval is moved so that it has the estimate where the resamples have their mean."""
    uses: ClassVar[tuple[Which, ...]] = get_args(Which)
    logits: ClassVar[bool] = False

    def __init__(self, config: ComponentConfig) -> None:
        self.config = config
        self.cases: dict[str, Kept] = {}
        self._memo: dict[Any, Any] = {}

    @property
    @abstractmethod
    def planes(self) -> tuple[Plane, ...]:
        """Planes whose features are compared; of a feature of the volume, "xy"."""

    @property
    @abstractmethod
    def key(self) -> str:
        """The extractor's key."""

    @abstractmethod
    def compute(self) -> dict[str, float]: ...

    @abstractmethod
    def estimate(self, counts: Counts) -> dict[str, float]:
        """The keys with intervals, case ``ids[i]`` taken ``counts[i]`` times."""

    def update(self, item: EvaluationItem) -> None:
        if item.id in self.cases:
            raise DataError(f"case {item.id!r} is evaluated twice")
        bank: FeatureBank | None = item.features
        if bank is None:
            return
        there = [which for which in self.uses if bank.has(which)]
        kept: Kept = {
            (which, plane): bank.stored(self.key, which, plane, logits=self.logits) for which in there for plane in self.planes
        }
        if kept:
            self.cases[item.id] = kept
            self._memo = {}

    def merge(self, other: Metric) -> None:
        """Take over the cases of a metric of the same class and config; DataError if a case is in both."""
        if not isinstance(other, DistributionMetric) or type(other) is not type(self) or other.config != self.config:
            raise DataError(f"{type(self).__name__} merges only with its own class and config, not with {type(other).__name__}")
        if both := sorted(self.cases.keys() & other.cases.keys()):
            raise DataError(f"{len(both)} cases are in both parts of a merge: {', '.join(both[:5])}")
        self.cases.update(other.cases)
        self._memo = {}

    @property
    def ids(self) -> list[str]:
        return sorted(self.cases)

    @property
    def resamples(self) -> int:
        """At most so many resamples: each of them is a computation of its own."""
        return int(getattr(self.config, "resamples", 1000))

    def per_case(self) -> dict[str, dict[str, float]]:
        return {}

    def protocol(self) -> dict[str, Any]:
        return self.config.identity()

    def ones(self) -> Counts:
        return np.ones(len(self.cases), np.int64)

    def rows(self, which: Which, plane: Plane, counts: Counts) -> Iterator[tuple[int, int, NDArray[np.float32]]]:
        """(place of the case, its count, its features), in order of ids, of cases that have them and count."""
        for place, case_id in enumerate(self.ids):
            stored = self.cases[case_id].get((which, plane))
            if stored is not None and counts[place] > 0:
                yield place, int(counts[place]), stored.read()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_memo": {}}
