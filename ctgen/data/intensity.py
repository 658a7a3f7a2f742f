"""HU statistics of a scan, and whether its numbers look like HU at all. How CT-RATE's are read: ctgen.data.rescale."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
AIR_HU = (-1100.0, -850.0)
SOFT_HU = (-150.0, 200.0)
EMPTY_HU = (-1100.0, -200.0)
"""Air and lung."""
BETWEEN_HU = (-1000.0, -200.0)
PADDING_BELOW_HU = -1024
FLOORS_HU = (-1024.0, -2048.0, -3024.0, -8192.0)
"""What scanners and converters put outside the field of view."""
INTERCEPTS = (1024.0, 8192.0)
PEAK_SHARE = 0.02
"""A peak is a 20 HU bin with at least this share of the voxels that are not padding."""
LEAST_SHARE = 0.01
LEAST_BETWEEN = 0.002
CLEARLY = 3.0
LEAST_INSIDE_SHARE = 0.02
BIN_HU = 20.0


@dataclass(frozen=True)
class Histogram:
    """``values`` (N,) float64, ascending, whole numbers apart from both ends; ``counts`` (N,): how many voxels have each."""

    values: NDArray[np.float64]
    counts: NDArray[np.int64]

    def rescaled(self, slope: float, intercept: float) -> Histogram:
        """Of ``slope`` * voxel + ``intercept``."""
        order = slice(None, None, -1 if slope < 0 else 1)
        return Histogram((self.values * slope + intercept)[order], self.counts[order])

    def within(self, low: float, high: float) -> int:
        """Voxels with low <= value <= high."""
        return int(self.counts[(self.values >= low) & (self.values <= high)].sum())

    def above(self, low: float) -> Histogram:
        keep = self.values > low
        return Histogram(self.values[keep], self.counts[keep])

    @property
    def total(self) -> int:
        return int(self.counts.sum())


@dataclass(frozen=True)
class Intensity:
    """``padding``: the commonest value below -1024 HU, and the share of voxels below; a peak is None where there is none.

    ``soft_share``, ``empty_share``: of all voxels, those between -150 and 200 HU (soft tissue) and between -1100 and -200 (air,
    lung). ``floor_share``: those at the lowest value. ``moved_by``: how far all of it lies from where it should, a rescale
    intercept (negative: applied twice; positive: never), or 0. ``wrong``: why these cannot be HU, or the empty string;
    ``problems`` begin with it.
    """

    low: float
    high: float
    percentiles: tuple[float, ...]
    padding_hu: float | None
    padding_share: float
    air_peak_hu: float | None
    soft_peak_hu: float | None
    problems: tuple[str, ...]
    wrong: str = ""
    soft_share: float = 0.0
    empty_share: float = 0.0
    floor_share: float = 0.0
    moved_by: float = 0.0

    @property
    def score(self) -> float:
        """0..1: how much of a body in air there is, each where it belongs."""
        return min(self.soft_share, self.empty_share)

    @property
    def plausible(self) -> bool:
        return not self.wrong and self.score >= LEAST_SHARE

    @property
    def has_known_floor(self) -> bool:
        """Whether the lowest value is one that HU volumes are filled with outside the field of view."""
        return self.low in FLOORS_HU


def histogram_of(hu: NDArray[Any], *, at_most: int | None = None) -> Histogram:
    """Of (D, H, W) int16 or float32 voxels, float ones rounded; of slices and rows in equal steps if ``at_most`` voxels."""
    if at_most is not None and hu.size > at_most:
        step = -(-hu.size // at_most)
        along_d = min(step, max(1, len(hu) // 16))
        hu = hu[::along_d, :: -(-step // along_d)]
    if hu.dtype == np.int16:
        counts = np.zeros(1 << 16, np.int64)
        for plane in hu:
            counts += np.bincount(np.ascontiguousarray(plane).view(np.uint16).ravel(), minlength=1 << 16)
        counts = np.concatenate([counts[1 << 15 :], counts[: 1 << 15]])
        found = np.flatnonzero(counts)
        return Histogram((found - (1 << 15)).astype(np.float64), counts[found])
    whole: dict[float, int] = {}
    for plane in hu:
        for value, count in zip(*np.unique(np.rint(plane), return_counts=True), strict=True):
            whole[float(value)] = whole.get(float(value), 0) + int(count)
    values = np.array(sorted(whole), np.float64)
    counts = np.array([whole[value] for value in values], np.int64)
    # Rounding must not hide that a volume is normalised to [-1, 1]: the ends stay exact.
    values[0], values[-1] = (float(hu.min()), float(hu.max())) if len(values) > 1 else (float(hu.min()),) * 2
    return Histogram(values, counts)


def measure(hu: NDArray[Any]) -> Intensity:
    """Statistics of (D, H, W) HU and sentences on what looks wrong."""
    found = measure_histogram(histogram_of(hu))
    if hu.dtype == np.int16:
        return found
    exact = tuple(float(value) for value in np.percentile(hu, PERCENTILES))
    return Intensity(**{**vars(found), "percentiles": exact})


def measure_histogram(histogram: Histogram) -> Intensity:
    """As ``measure``."""
    values, counts, total = histogram.values, histogram.counts, histogram.total
    low, high = float(values[0]), float(values[-1])
    places = np.searchsorted(np.cumsum(counts), np.asarray(PERCENTILES) / 100 * total)
    percentiles = tuple(float(value) for value in values[np.minimum(places, len(values) - 1)])
    below = values < PADDING_BELOW_HU
    share = float(counts[below].sum()) / total
    padding = float(values[below][counts[below].argmax()]) if below.any() else None
    # -1024 itself is what most programs fill the corners with: no measurement of air.
    inside = histogram.above(PADDING_BELOW_HU)
    air, soft = _peak(inside, AIR_HU), _peak(inside, SOFT_HU)
    moved = _moved_by(histogram)
    wrong = _wrong(histogram, moved)
    soft_share, empty_share = _shares(histogram)
    problems = [wrong] if wrong else list(_odd(air, soft, padding, share))
    return Intensity(
        low,
        high,
        percentiles,
        padding,
        share,
        air,
        soft,
        tuple(problems),
        wrong,
        soft_share=soft_share,
        empty_share=empty_share,
        floor_share=float(counts[0]) / total,
        moved_by=moved,
    )


def _peak(inside: Histogram, window: tuple[float, float]) -> float | None:
    if not inside.total:
        return None
    counts, edges = np.histogram(
        inside.values, bins=np.arange(window[0], window[1] + BIN_HU / 2, BIN_HU), weights=inside.counts
    )
    best = int(counts.argmax())
    return float(edges[best] + BIN_HU / 2) if counts[best] >= PEAK_SHARE * inside.total else None


def _moved_by(histogram: Histogram) -> float:
    # By shares and not by peaks: a sharp kernel's noise spreads soft tissue over hundreds of HU.
    as_it_is = _score(histogram, 0.0)
    scores = {offset: _score(histogram, offset) for size in INTERCEPTS for offset in (-size, size)}
    best = max(scores, key=lambda offset: scores[offset])
    return best if scores[best] >= max(LEAST_SHARE, CLEARLY * as_it_is) else 0.0


def _score(histogram: Histogram, offset: float) -> float:
    return min(_shares(histogram.rescaled(1.0, -offset)))


def _shares(histogram: Histogram) -> tuple[float, float]:
    """Of all voxels, soft tissue and (air and lung)."""
    empty = histogram.within(*EMPTY_HU)
    # Air passes over to tissue within a voxel or two; a spike at -1024 with nothing between is padding, and so no air.
    if histogram.within(*BETWEEN_HU) < LEAST_BETWEEN * histogram.total:
        empty -= histogram.within(PADDING_BELOW_HU, PADDING_BELOW_HU)
    return histogram.within(*SOFT_HU) / histogram.total, empty / histogram.total


def _wrong(histogram: Histogram, moved: float) -> str:
    low, high = float(histogram.values[0]), float(histogram.values[-1])
    if low == high:
        return f"every voxel is {low:g}"
    if low >= -1.5 and high <= 1.5:
        return f"values lie in [{low:g}, {high:g}]: normalised intensities, not HU"
    if low >= 0 and high <= 255:
        return f"values lie in [{low:g}, {high:g}]: grey levels of a picture or a label map, not HU"
    if moved:
        twice = f"HU was computed twice (rescale intercept subtracted two times): add {-moved:g}"
        meaning = twice if moved < 0 else f"the rescale intercept was never applied: subtract {moved:g}"
        return f"air and soft tissue lie {moved:+g} HU from where they should: {meaning}"
    inside = histogram.above(PADDING_BELOW_HU).total / histogram.total
    if inside < LEAST_INSIDE_SHARE and low < PADDING_BELOW_HU:
        return f"{1 - inside:.1%} of the voxels are at or below -1024 (range {low:g} to {high:g}): there is nothing but air"
    return ""


def _odd(air: float | None, soft: float | None, padding: float | None, share: float) -> Iterator[str]:
    if soft is None:
        yield f"no soft-tissue peak between {SOFT_HU[0]:g} and {SOFT_HU[1]:g} HU: the values may not be HU"
    if air is None:
        yield f"no air peak between {AIR_HU[0]:g} and {AIR_HU[1]:g} HU: no air in the field of view, or the values are not HU"
    if padding is not None:
        yield f"{share:.1%} of the voxels are below -1024 HU (mostly {padding:g}): field-of-view padding, treated as air"
