"""HU realism: distances between the pooled HU histograms of real and generated volumes, overall and by tissue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ctgen.evaluate.cases import CaseMetric, Rows, windowed
from ctgen.evaluate.configs import HuHistogramConfig
from ctgen.interfaces import EvaluationItem

RANGES_HU: Mapping[str, tuple[float, float]] = {
    "air": (-np.inf, -950.0),
    "lung": (-950.0, -500.0),
    "fat": (-150.0, -30.0),
    "soft": (-30.0, 150.0),
    "bone": (150.0, np.inf),
}
"""Half-open [low, high). Between lung and fat lies partial volume, which is no tissue."""

VOLUMES: tuple[Literal["real", "generated", "reconstructed"], ...] = ("real", "generated", "reconstructed")


def bin_centres(window_hu: tuple[float, float], bin_hu: float) -> Rows:
    """HU of the bins' middles; the first lies on the window's lower end, the last at or above its upper end."""
    low, high = window_hu
    return low + bin_hu * np.arange(int(np.ceil((high - low) / bin_hu)) + 1, dtype=np.float64)


def histogram(hu: NDArray[np.floating], window_hu: tuple[float, float], bin_hu: float) -> Rows:
    """Voxels per bin of bin_centres; ``hu`` must lie in the window."""
    counts = np.zeros(len(bin_centres(window_hu, bin_hu)), np.int64)
    for plane in hu:
        index = np.floor((plane - window_hu[0]) / bin_hu + 0.5).astype(np.int64)
        counts += np.bincount(index.ravel(), minlength=len(counts))
    return counts.astype(np.float64)


def wasserstein_hu(one: Rows, other: Rows, bin_hu: float) -> float | None:
    """Earth mover's distance in HU of two histograms on one grid, each normalised; None if one is empty."""
    if not one.sum() or not other.sum():
        return None
    return float(np.abs(np.cumsum(one / one.sum() - other / other.sum())).sum() * bin_hu)


def jensen_shannon(one: Rows, other: Rows) -> float | None:
    """Jensen-Shannon distance (root of the divergence in bits): 0 equal, 1 disjoint; None if one is empty."""
    if not one.sum() or not other.sum():
        return None
    p, q = one / one.sum(), other / other.sum()
    middle = (p + q) / 2
    divergence = 0.0
    for part in (p, q):
        some = part > 0
        divergence += 0.5 * float((part[some] * np.log2(part[some] / middle[some])).sum())
    return float(np.sqrt(max(divergence, 0.0)))


def _range_text(name: str) -> str:
    low, high = RANGES_HU[name]
    if low == -np.inf:
        return f"below {high:g} HU"
    return f"from {low:g} HU" if high == np.inf else f"{low:g} to {high:g} HU"


class HuHistogram(CaseMetric):
    """Pooled over cases. ``*.TISSUE``: Wasserstein between the voxels inside the tissue's range, and how its share differs.

    Floors: the reconstructions of the same cases, and one half of the real cases (in order of id) against the other.
    """

    higher_is_better: ClassVar[Mapping[str, bool | None]] = {
        "wasserstein_hu": False,
        "jensen_shannon": False,
        **{f"wasserstein_hu.{name}": False for name in RANGES_HU},
        **{f"share_error.{name}": False for name in RANGES_HU},
        "wasserstein_hu_reconstructed": None,
        "wasserstein_hu_real_halves": None,
    }
    needs: ClassVar[frozenset[str]] = frozenset({"real", "generated"})
    meanings: ClassVar[Mapping[str, str]] = {
        "wasserstein_hu": "how far voxels must move from generated to real histogram, HU; 0 is perfect",
        "jensen_shannon": "Jensen-Shannon distance of the histograms; 0 equal, 1 disjoint",
        **{f"wasserstein_hu.{name}": f"the same among {name} voxels ({_range_text(name)})" for name in RANGES_HU},
        **{f"share_error.{name}": f"|difference| of the share of voxels that are {name}" for name in RANGES_HU},
        "wasserstein_hu_reconstructed": "floor: reconstructed against real, HU",
        "wasserstein_hu_real_halves": "floor: half of the real cases against the other half, HU",
    }
    config: HuHistogramConfig

    def measure(self, item: EvaluationItem) -> Rows:
        """The histograms of VOLUMES one after another; zeros for a volume that is not there."""
        window, width = self.config.window_hu, self.config.bin_hu
        bins = len(bin_centres(window, width))
        present = [getattr(item, which) is not None for which in VOLUMES]
        parts = [
            histogram(windowed(item, which, window), window, width) if there else np.zeros(bins)
            for which, there in zip(VOLUMES, present, strict=True)
        ]
        return np.concatenate(parts)

    def summarise(self, rows: Rows, counts: NDArray[np.int64]) -> dict[str, float]:
        width, centres = self.config.bin_hu, bin_centres(self.config.window_hu, self.config.bin_hu)
        by_case = rows.reshape(len(rows), len(VOLUMES), len(centres))
        real, made, reconstructed = np.tensordot(counts.astype(np.float64), by_case, axes=1)
        found: dict[str, float | None] = {
            "wasserstein_hu": wasserstein_hu(real, made, width),
            "jensen_shannon": jensen_shannon(real, made),
        }
        for name, (low, high) in RANGES_HU.items():
            inside = (centres >= low) & (centres < high)
            found[f"wasserstein_hu.{name}"] = wasserstein_hu(real[inside], made[inside], width)
            found[f"share_error.{name}"] = float(abs(real[inside].sum() / real.sum() - made[inside].sum() / made.sum()))
        paired = counts * (by_case[:, 2].sum(axis=1) > 0)
        paired_real = np.tensordot(paired.astype(np.float64), by_case[:, 0], axes=1)
        found["wasserstein_hu_reconstructed"] = wasserstein_hu(paired_real, reconstructed, width)
        even, odd = (np.tensordot(counts[start::2].astype(np.float64), by_case[start::2, 0], axes=1) for start in (0, 1))
        found["wasserstein_hu_real_halves"] = wasserstein_hu(even, odd, width)
        return {key: value for key, value in found.items() if value is not None}
