"""Stored numbers to HU voxels: rescale, refuse what is not finite, int16 where nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctgen.errors import VolumeError

INT16 = np.iinfo(np.int16)
SLAB_BYTES = 8 << 20


class VoxelSink:
    """Takes a volume's stored numbers slab by slab and gives (D, H, W) HU: int16 if every value is a whole number in range,
    else float32. Beside the result it needs one slab, and an int16 copy while it is still open which of the two it will be.
    """

    def __init__(
        self, shape: tuple[int, int, int], dtype: np.dtype[Any], path: Path, slope: float = 1.0, intercept: float = 0.0
    ) -> None:
        self.shape, self.dtype, self.path = shape, dtype, path
        self.slope, self.intercept = slope, intercept
        self.scaled = slope != 1.0 or intercept != 0.0
        self.nan = self.infinite = self._done = 0
        self._hu: NDArray[Any] = np.empty(shape, np.int16)

    def buffers(self) -> Iterator[memoryview]:
        """Writable bytes to be filled one after another with the stored numbers, slowest axis first; then ``result``."""
        if not self.scaled and self.dtype == np.int16 and self.dtype.isnative:
            self._done = self.shape[0]
            yield memoryview(self._hu.reshape(-1).view(np.uint8).data)
            return
        plane = int(np.prod(self.shape[1:])) * self.dtype.itemsize
        slab = np.empty((max(1, SLAB_BYTES // plane), *self.shape[1:]), self.dtype)
        for first in range(0, self.shape[0], len(slab)):
            part = slab[: self.shape[0] - first]
            yield memoryview(part.reshape(-1).view(np.uint8).data)
            self.add(part)

    def add(self, raw: NDArray[Any]) -> None:
        """The next slices (d, H, W) as stored."""
        first, self._done = self._done, self._done + len(raw)
        for index, plane in enumerate(raw, first):
            hu = plane.astype(np.float64) * self.slope + self.intercept if self.scaled else plane
            if hu.dtype.kind == "f" and not np.isfinite(hu).all():
                self.nan += int(np.isnan(hu).sum())
                self.infinite += int(np.isinf(hu).sum())
                continue
            if self._hu.dtype == np.int16 and not _fits(hu):
                self._hu = self._hu.astype(np.float32)
            self._hu[index] = hu

    def result(self) -> NDArray[Any]:
        """The volume. Raises VolumeError if a value is NaN or infinite: says how many."""
        if self.nan or self.infinite:
            raise VolumeError(
                self.path,
                f"{self.nan + self.infinite} of {int(np.prod(self.shape))} voxels are not numbers "
                f"({self.nan} NaN, {self.infinite} infinite)",
                hint="replace them by air (-1024 HU) before use; ctgen does not guess",
            )
        return self._hu


def to_voxels(raw: NDArray[Any], path: Path, slope: float = 1.0, intercept: float = 0.0) -> NDArray[Any]:
    """``raw`` * slope + intercept: int16 if every value is a whole number in range, else float32.

    Raises VolumeError if a value is NaN or infinite: says how many.
    """
    if slope == 1.0 and intercept == 0.0 and raw.dtype == np.int16:
        return np.ascontiguousarray(raw, np.int16)
    d, h, w = raw.shape
    sink = VoxelSink((d, h, w), raw.dtype, path, slope, intercept)
    sink.add(raw)
    return sink.result()


def _fits(hu: NDArray[Any]) -> bool:
    """Whether int16 holds every value as it is."""
    if hu.dtype.kind == "b" or hu.dtype in (np.int8, np.uint8, np.int16):
        return True
    if hu.min() < INT16.min or hu.max() > INT16.max:
        return False
    return hu.dtype.kind != "f" or bool((hu == np.rint(hu)).all())
