"""HU statistics of a scan, and whether its numbers look like HU at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
AIR_HU = (-1100.0, -850.0)
SOFT_HU = (-150.0, 200.0)
PADDING_BELOW_HU = -1024
PEAK_SHARE = 0.02
"""A peak is a 20 HU bin with at least this share of the voxels that are not padding."""
BIN_HU = 20.0


@dataclass(frozen=True)
class Intensity:
    """``padding``: the commonest value below -1024 HU, and the share of voxels below; a peak is None where there is none."""

    low: float
    high: float
    percentiles: tuple[float, ...]
    padding_hu: float | None
    padding_share: float
    air_peak_hu: float | None
    soft_peak_hu: float | None
    problems: tuple[str, ...]


def measure(hu: NDArray[Any]) -> Intensity:
    """Statistics of (D, H, W) HU and sentences on what looks wrong."""
    flat = hu.ravel()
    low, high = float(flat.min()), float(flat.max())
    percentiles = tuple(float(value) for value in np.percentile(flat, PERCENTILES))
    below = flat[flat < PADDING_BELOW_HU]
    share = len(below) / len(flat)
    padding = None
    if len(below):
        values, counts = np.unique(np.rint(below).astype(np.int64), return_counts=True)
        padding = float(values[counts.argmax()])
    # -1024 itself is what most programs fill the corners with: no measurement of air.
    inside = flat[flat > PADDING_BELOW_HU]
    air, soft = _peak(inside, AIR_HU), _peak(inside, SOFT_HU)
    problems = tuple(_problems(flat, low, high, air, soft, padding, share))
    return Intensity(low, high, percentiles, padding, share, air, soft, problems)


def _peak(flat: NDArray[Any], window: tuple[float, float]) -> float | None:
    if not len(flat):
        return None
    counts, edges = np.histogram(flat, bins=np.arange(window[0], window[1] + BIN_HU / 2, BIN_HU))
    best = int(counts.argmax())
    return float(edges[best] + BIN_HU / 2) if counts[best] >= PEAK_SHARE * len(flat) else None


def _problems(
    flat: NDArray[Any], low: float, high: float, air: float | None, soft: float | None, padding: float | None, share: float
) -> list[str]:
    if low == high:
        return [f"every voxel is {low:g}"]
    if low >= -1.5 and high <= 1.5:
        return [f"values lie in [{low:g}, {high:g}]: normalised intensities, not HU"]
    if low >= 0 and high <= 255:
        return [f"values lie in [{low:g}, {high:g}]: grey levels of a picture or a label map, not HU"]
    for offset, meaning in (
        (1024.0, "HU was computed twice (rescale intercept subtracted two times): add 1024"),
        (-1024.0, "the rescale intercept was never applied: subtract 1024"),
    ):
        # A chest moved by 1024 can keep one peak by chance (tissue lands on air); it never keeps both.
        if (air is None or soft is None) and _both(flat, offset):
            return [f"air and soft tissue lie {-offset:+g} HU from where they should: {meaning}"]
    found = []
    if soft is None:
        found.append(f"no soft-tissue peak between {SOFT_HU[0]:g} and {SOFT_HU[1]:g} HU: the values may not be HU")
    if air is None:
        found.append(
            f"no air peak between {AIR_HU[0]:g} and {AIR_HU[1]:g} HU: no air in the field of view, or the values are not HU"
        )
    if padding is not None:
        found.append(
            f"{share:.1%} of the voxels are below -1024 HU (mostly {padding:g}): field-of-view padding, treated as air"
        )
    return found


def _both(flat: NDArray[Any], offset: float) -> bool:
    moved = flat.astype(np.float32) + np.float32(offset)
    moved = moved[moved > PADDING_BELOW_HU]
    return _peak(moved, AIR_HU) is not None and _peak(moved, SOFT_HU) is not None
