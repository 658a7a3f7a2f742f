"""Frechet distance between the features of real and of generated volumes: FID, 2.5-D FID, FVD, by extractor and planes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from ctgen.evaluate.feature_cases import Counts
from ctgen.evaluate.feature_configs import FrechetConfig
from ctgen.evaluate.frechet import Gram, frechet_of_moments
from ctgen.evaluate.moments import Moments
from ctgen.evaluate.set_distance import Cases, SetDistance, directions, meanings
from ctgen.interfaces import Plane, Which


class Frechet(SetDistance):
    """Sets with no more rows than features are compared by their inner products (exact, bounded memory); larger ones by moments
    that stream from the store.
    """

    name: ClassVar[str] = "frechet"
    higher_is_better: ClassVar[Mapping[str, bool | None]] = directions("frechet")
    meanings: ClassVar[Mapping[str, str]] = meanings(
        "frechet", "Frechet distance of generated and real features; 0 is equal", " (higher than at full number)"
    )
    centred: ClassVar[bool] = True
    config: FrechetConfig

    def extra(self) -> dict[str, Any]:
        """How many rows of what width were compared."""
        found: dict[str, Any] = {}
        for plane in self.planes:
            sizes = {which: self._shape(which, plane) for which in ("real", "generated")}
            found[plane] = {
                "rows": {which: rows for which, (rows, _) in sizes.items()},
                "width": max(width for _, width in sizes.values()),
                "rank_deficient": any(0 < rows <= width for rows, width in sizes.values()),
            }
        return found

    def distance(self, plane: Plane, one: Cases, other: Cases) -> float | None:
        totals = [
            sum(count * len(rows) for _, count, rows in self.rows(which, plane, counts)) for which, counts in (one, other)
        ]
        if min(totals) < 2:
            return None
        if max(self._shape(which, plane)[0] for which in (one[0], other[0])) <= self._shape(one[0], plane)[1]:
            gram, places, also = self._gram(one[0], other[0], plane)
            value = gram.distance(one[1][places].astype(float), other[1][also].astype(float), ddof=self.config.ddof)
        else:
            moments = [self._moments(which, plane, counts) for which, counts in (one, other)]
            value = frechet_of_moments(*moments, ddof=self.config.ddof)
        # the distance of two equal sets is rounding about 0
        return max(value, 0.0)

    def _moments(self, which: Which, plane: Plane, counts: Counts) -> Moments:
        moments = Moments(self._shape(which, plane)[1])
        for _, count, rows in self.rows(which, plane, counts):
            moments.add(rows, count)
        return moments

    def _gram(self, one: Which, other: Which, plane: Plane) -> tuple[Gram, Counts, Counts]:
        """Inner products, and for each row the place of its case."""
        name = ("gram", one, other, plane)
        if name not in self._memo:
            sets = [list(self.rows(which, plane, self.ones())) for which in (one, other)]
            tables = [np.concatenate([rows for _, _, rows in found]) for found in sets]
            places = [np.concatenate([np.full(len(rows), place) for place, _, rows in found]) for found in sets]
            self._memo[name] = (Gram(*tables), *places)
        found: tuple[Gram, Counts, Counts] = self._memo[name]
        return found

    def _shape(self, which: Which, plane: Plane) -> tuple[int, int]:
        """(rows, width) of all cases."""
        name = ("shape", which, plane)
        if name not in self._memo:
            rows, width = 0, 0
            for _, _, table in self.rows(which, plane, self.ones()):
                rows, width = rows + len(table), table.shape[1]
            self._memo[name] = (rows, width)
        found: tuple[int, int] = self._memo[name]
        return found
