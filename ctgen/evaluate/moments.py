"""Mean and scatter of features that are never all in memory."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import blas

Array = NDArray[np.float64]
ROWS_AT_A_TIME = 1024


class Moments:
    """Count, mean (d,) and scatter (d, d), the sum of (x - mean)(x - mean)^T, in float64.

    Sums of parts: merging changes a result by rounding alone. Memory is one (d, d) matrix, whatever the number of rows.
    """

    def __init__(self, width: int) -> None:
        self.count = 0.0
        self.mean: Array = np.zeros(width)
        # Fortran order and one triangle: BLAS adds X^T X in place, at half the work of a product
        self._upper: Array = np.zeros((width, width), order="F")

    @property
    def width(self) -> int:
        return len(self.mean)

    def add(self, rows: NDArray[np.floating], weight: float = 1.0) -> None:
        """(N, d) rows, each counted ``weight`` times."""
        if weight <= 0:
            return
        for start in range(0, len(rows), ROWS_AT_A_TIME):
            part = np.array(rows[start : start + ROWS_AT_A_TIME], np.float64)
            mean = part.mean(axis=0)
            part -= mean
            self._join(weight * len(part), mean, part, weight)

    def merge(self, other: Moments) -> None:
        """Take in what ``other`` has seen."""
        if other.count:
            self._join(other.count, other.mean, np.zeros((0, self.width)), 1.0)
            self._upper += other._upper

    def covariance(self, ddof: int = 1) -> Array:
        """(d, d), divided by count - ``ddof``."""
        full = np.triu(self._upper)
        full += np.triu(self._upper, 1).T
        full /= self.count - ddof
        return full

    def trace(self, ddof: int = 1) -> float:
        """Of the covariance."""
        return float(np.trace(self._upper)) / (self.count - ddof)

    def _join(self, count: float, mean: Array, centred: Array, weight: float) -> None:
        total = self.count + count
        apart = mean - self.mean
        shift = np.sqrt(self.count * count / total / weight) * apart
        part = np.concatenate([centred, shift[None]])
        self._upper = blas.dsyrk(weight, part.T, beta=1.0, c=self._upper, overwrite_c=1)
        self.mean = self.mean + apart * (count / total)
        self.count = total
