"""Plain, named numbers of a slice or a volume: a feature extractor that needs nothing installed and no weights.

Every feature is of the order of 0.1 to 1, so that none rules a distance.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn

from ctgen.evaluate.extractors.configs import HuStatsConfig
from ctgen.interfaces import Plane
from ctgen.volume import Volume

AXIS: Mapping[Plane, int] = {"xy": 0, "xz": 1, "yz": 2}
KNOTS_HU = (-1000.0, -900.0, -775.0, -600.0, -325.0, -90.0, 0.0, 50.0, 120.0, 250.0, 700.0)
"""Air, emphysema, lung, dense lung, partial volume, fat, water, muscle, blood with contrast, cancellous bone, bone."""
GRADIENT_HU = 100.0
"""Gradients are in units of it."""
VERSION = 1


class HuStats:
    """Per slice: shares of HU levels, mean and spread, mean gradients along both axes (of the picture, and halved), the lowest
    cosine waves of a coarse picture. Per volume: means and spreads of these over axial slices, gradients along D, H, W,
    and the lowest cosine waves of the coarse volume."""

    def __init__(self, config: HuStatsConfig) -> None:
        self.config = config
        self.unit: Literal["slice", "volume"] = config.unit
        per_slice = len(KNOTS_HU) + 2 + 4 + config.waves**2
        self.width = per_slice if config.unit == "slice" else 2 * per_slice + 6 + config.waves**3

    def describe(self) -> Mapping[str, Any]:
        return {
            "network": f"hu-stats {VERSION}",
            "weights": {"label": "NONE", "source": "", "sha256": ""},
            "preprocessing": self.config.model_dump(mode="json"),
        }

    def features(self, volume: Volume, plane: Plane = "xy") -> NDArray[np.float32]:
        hu = np.clip(np.asarray(volume.hu, np.float32), *self.config.window_hu)
        if self.unit == "volume":
            return self._whole(hu)[None].astype(np.float32)
        return np.stack([self._slice(picture) for picture in np.moveaxis(hu, AXIS[plane], 0)]).astype(np.float32)

    def _slice(self, picture: NDArray[np.float32]) -> NDArray[np.float64]:
        shares = _shares(picture)
        size = min(picture.shape)
        halved = _halved(picture) if size >= 4 else picture
        gradients = [_gradient(part, axis) for part in (picture, halved) for axis in (0, 1)]
        moments = [picture.mean(dtype=np.float64) / 1000, picture.std(dtype=np.float64) / 1000]
        return np.concatenate([shares, moments, gradients, self._waves(picture)])

    def _whole(self, hu: NDArray[np.float32]) -> NDArray[np.float64]:
        slices = np.stack([self._slice(picture) for picture in hu])
        along = [_gradient(hu, axis) for axis in range(3)]
        halved = [_gradient(_halved(hu), axis) for axis in range(3)] if min(hu.shape) >= 4 else along
        return np.concatenate([slices.mean(axis=0), slices.std(axis=0), along, halved, self._waves(hu)])

    def _waves(self, hu: NDArray[np.float32]) -> NDArray[np.float64]:
        """Lowest cosine waves of the coarse picture in 1000 HU, each as the amplitude of its wave."""
        coarse = hu.astype(np.float64) / 1000
        for axis in range(coarse.ndim):
            coarse = _averaged(coarse, axis, self.config.cells)
        waves = dctn(coarse, norm="ortho") / np.sqrt(coarse.size)
        lowest: NDArray[np.float64] = waves[(slice(0, self.config.waves),) * coarse.ndim].ravel()
        return lowest


def _shares(picture: NDArray[np.float32]) -> NDArray[np.float64]:
    """Share of the voxels at each of KNOTS_HU; a voxel between two is divided between both, so that a small shift shows."""
    place = np.interp(picture.ravel(), KNOTS_HU, np.arange(len(KNOTS_HU)))
    below = np.minimum(place.astype(np.int64), len(KNOTS_HU) - 2)
    part = place - below
    shares = np.bincount(below, 1 - part, len(KNOTS_HU)) + np.bincount(below + 1, part, len(KNOTS_HU))
    return shares / picture.size


def _averaged(values: NDArray[np.float64], axis: int, cells: int) -> NDArray[np.float64]:
    """Means over ``cells`` equal parts of an axis (repeating values where it is shorter)."""
    count = values.shape[axis]
    bounds = np.linspace(0, count, cells + 1)
    starts = np.minimum(bounds[:-1].astype(int), count - 1)
    ends = np.maximum(np.ceil(bounds[1:]).astype(int), starts + 1)
    sums = np.concatenate([np.zeros_like(np.take(values, [0], axis)), np.cumsum(values, axis)], axis)
    shape = [1] * values.ndim
    shape[axis] = cells
    means: NDArray[np.float64] = (np.take(sums, ends, axis) - np.take(sums, starts, axis)) / (ends - starts).reshape(shape)
    return means


def _halved(values: NDArray[Any]) -> NDArray[Any]:
    """Means of 2 x 2 (x 2) neighbours."""
    for axis in range(values.ndim):
        count = values.shape[axis] // 2 * 2
        even = np.take(values, range(0, count, 2), axis)
        values = (even + np.take(values, range(1, count, 2), axis)) / 2
    return values


def _gradient(values: NDArray[np.float32], axis: int) -> float:
    if values.shape[axis] < 2:
        return 0.0
    return float(np.abs(np.diff(values, axis=axis)).mean(dtype=np.float64)) / GRADIENT_HU
