"""Kernel distance between features of real and generated volumes (KID): the unbiased squared maximum mean discrepancy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ctgen.evaluate.feature_cases import Counts
from ctgen.evaluate.feature_configs import KidConfig
from ctgen.evaluate.moments import Array
from ctgen.evaluate.set_distance import Cases, SetDistance, directions, meanings
from ctgen.interfaces import Plane, Which

BLOCK_ROWS = 2048
Block = tuple[NDArray[np.int64], Array]
"""Place of each row's case, and the rows."""


def polynomial_kernel(one: Array, other: Array, degree: int) -> Array:
    """(N, d), (M, d) -> (N, M): (x.y / d + 1)^degree."""
    found: Array = (one @ other.T / one.shape[1] + 1.0) ** degree
    return found


def unbiased_mmd(one: NDArray[np.floating], other: NDArray[np.floating], degree: int = 3) -> float:
    """Squared MMD of two sets of rows of any sizes, each at least 2; pairs of a row with itself are left out."""
    x, y = one.astype(np.float64), other.astype(np.float64)
    n, m = len(x), len(y)
    own, theirs, cross = polynomial_kernel(x, x, degree), polynomial_kernel(y, y, degree), polynomial_kernel(x, y, degree)
    first = (own.sum() - np.trace(own)) / (n * (n - 1))
    second = (theirs.sum() - np.trace(theirs)) / (m * (m - 1))
    return float(first + second - 2 * cross.mean())


class Kid(SetDistance):
    """The kernel's sums by pairs of cases are all that is kept of the rows, so that cases can be resampled at no cost.

    A case that is drawn twice is not compared with itself: the estimate stays unbiased in resamples. Memory: one number per
    pair of cases, and blocks of rows.
    """

    name: ClassVar[str] = "kid"
    higher_is_better: ClassVar[Mapping[str, bool | None]] = directions("kid")
    meanings: ClassVar[Mapping[str, str]] = meanings(
        "kid", "kernel distance of generated and real features, unbiased: about 0 where they are equal, also below"
    )
    config: KidConfig

    def distance(self, plane: Plane, one: Cases, other: Cases) -> float | None:
        """Unbiased squared MMD."""
        first = self._within(plane, *one)
        second = self._within(plane, *other)
        sums, rows, columns = self._sums(one[0], other[0], plane)
        weight = _pairs(one[1], other[1])
        total = float((weight * np.outer(rows, columns)).sum())
        if first is None or second is None or not total:
            return None
        return first + second - 2 * float((weight * sums).sum()) / total

    def _within(self, plane: Plane, which: Which, counts: Counts) -> float | None:
        sums, rows, _ = self._sums(which, which, plane)
        weight = _pairs(counts, counts)
        total = float((weight * np.outer(rows, rows)).sum() - counts @ rows)
        if total <= 0:
            return None
        return (float((weight * sums).sum()) - float(counts @ self._selves(which, plane))) / total

    def _sums(self, one: Which, other: Which, plane: Plane) -> tuple[Array, Array, Array]:
        """Sum of the kernel for each pair of cases, and the number of rows of each case in both sets."""
        name = ("sums", one, other, plane)
        if name not in self._memo:
            count = len(self.cases)
            sums, sizes = np.zeros((count, count)), (np.zeros(count), np.zeros(count))
            for which, size in ((one, sizes[0]), (other, sizes[1])):
                for place, _, rows in self.rows(which, plane, self.ones()):
                    size[place] = len(rows)
            for places, block in self._blocks(one, plane):
                for also, against in self._blocks(other, plane):
                    kernel = polynomial_kernel(block, against, self.config.degree)
                    starts, columns = _starts(places), _starts(also)
                    parts = np.add.reduceat(np.add.reduceat(kernel, starts, axis=0), columns, axis=1)
                    sums[np.ix_(places[starts], also[columns])] += parts
            self._memo[name] = (sums, *sizes)
        found: tuple[Array, Array, Array] = self._memo[name]
        return found

    def _selves(self, which: Which, plane: Plane) -> Array:
        """Sum over each case's rows of the kernel of a row with itself."""
        name = ("selves", which, plane)
        if name not in self._memo:
            found = np.zeros(len(self.cases))
            for place, _, rows in self.rows(which, plane, self.ones()):
                squares = np.einsum("nd,nd->n", rows, rows, dtype=np.float64)
                found[place] = ((squares / rows.shape[1] + 1.0) ** self.config.degree).sum()
            self._memo[name] = found
        selves: Array = self._memo[name]
        return selves

    def _blocks(self, which: Which, plane: Plane) -> Iterator[Block]:
        """Rows of whole cases, together about BLOCK_ROWS."""
        places: list[NDArray[np.int64]] = []
        tables: list[Array] = []
        for place, _, rows in self.rows(which, plane, self.ones()):
            places.append(np.full(len(rows), place))
            tables.append(rows.astype(np.float64))
            if sum(map(len, places)) >= BLOCK_ROWS:
                yield np.concatenate(places), np.concatenate(tables)
                places, tables = [], []
        if places:
            yield np.concatenate(places), np.concatenate(tables)


def _pairs(counts: Counts, other: Counts) -> Array:
    """How often a pair of cases counts; copies of one case are not compared with each other."""
    weight = np.outer(counts, other).astype(np.float64)
    np.fill_diagonal(weight, np.minimum(counts, other))
    return weight


def _starts(places: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.flatnonzero(np.diff(places, prepend=-1))
