"""What distances of feature sets share (Frechet, kernel): the mean of planes, and the two floors."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from ctgen.evaluate.feature_cases import Counts, DistributionMetric
from ctgen.evaluate.feature_configs import PLANES_OF, PlanesConfig
from ctgen.interfaces import Plane, Which

Cases = tuple[Which, Counts]
"""Volumes of one kind, each case counted so many times."""


class SetDistance(DistributionMetric):
    """Generated against real; floors: reconstructed against real, and one half of the real cases against the other.

    A mean over planes is given only if every plane has a distance.
    """

    name: ClassVar[str]
    config: PlanesConfig

    @abstractmethod
    def distance(self, plane: Plane, one: Cases, other: Cases) -> float | None:
        """None if a set has fewer than 2 rows."""

    @property
    def key(self) -> str:
        return self.config.features

    @property
    def planes(self) -> tuple[Plane, ...]:
        return PLANES_OF[self.config.planes]

    def compute(self) -> dict[str, float]:
        ones = self.ones()
        found = self.estimate(ones)
        floors = {
            f"{self.name}_reconstructed": [
                self.distance(plane, ("real", ones), ("reconstructed", ones)) for plane in self.planes
            ],
            f"{self.name}_real_halves": [self._halves(plane) for plane in self.planes],
        }
        return found | {key: mean for key, values in floors.items() if (mean := _mean(values)) is not None}

    def estimate(self, counts: Counts) -> dict[str, float]:
        by_plane = {plane: self.distance(plane, ("real", counts), ("generated", counts)) for plane in self.planes}
        mean = _mean(list(by_plane.values()))
        if mean is None:
            return {}
        single = {f"{self.name}.{plane}": value for plane, value in by_plane.items() if value is not None}
        return {self.name: mean, **(single if len(single) > 1 else {})}

    def _halves(self, plane: Plane) -> float | None:
        """Every second real case against the others."""
        there = [place for place, _, _ in self.rows("real", plane, self.ones())]
        halves = [np.zeros(len(self.cases), np.int64) for _ in range(2)]
        for start, half in enumerate(halves):
            half[there[start::2]] = 1
        return self.distance(plane, ("real", halves[0]), ("real", halves[1]))


def directions(name: str) -> dict[str, bool | None]:
    """The class variable ``higher_is_better`` of a SetDistance of that name."""
    single = dict.fromkeys((f"{name}.xy", f"{name}.xz", f"{name}.yz"), False)
    return {name: False, **single, f"{name}_reconstructed": None, f"{name}_real_halves": None}


def meanings(name: str, whole: str, halves: str = "") -> Mapping[str, str]:
    """The class variable ``meanings``; ``whole`` and ``halves`` are what is particular to the distance."""
    return {
        name: whole,
        f"{name}.xy": "of axial slices",
        f"{name}.xz": "of coronal slices",
        f"{name}.yz": "of sagittal slices",
        f"{name}_reconstructed": "floor: reconstructed against real",
        f"{name}_real_halves": f"floor: half of the real cases against the other half{halves}",
    }


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None
