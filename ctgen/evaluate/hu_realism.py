"""HU realism case by case: shares, means and spreads of tissues, and the spectrum of the fine texture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ctgen.evaluate.cases import CaseMetric, Rows, mean_of, windowed
from ctgen.evaluate.feature_configs import HuRealismConfig
from ctgen.interfaces import EvaluationItem

TISSUES_HU: Mapping[str, tuple[float, float]] = {
    "air": (-np.inf, -950.0),
    "lung": (-950.0, -500.0),
    "fat": (-150.0, -30.0),
    "water": (-30.0, 100.0),
    "bone": (150.0, np.inf),
}
"""Half-open [low, high). "water": blood, muscle, fluid."""
BAND = (0.5, 0.9)
"""Part of the spectrum that is called fine texture, in units of Nyquist's frequency."""
RINGS = 12


def tissue_numbers(hu: NDArray[np.floating]) -> Rows:
    """(tissues, 3): share of the volume, mean and standard deviation in HU; NaN for a tissue that is not there."""
    found = np.full((len(TISSUES_HU), 3), np.nan)
    for place, (low, high) in enumerate(TISSUES_HU.values()):
        inside = hu[(hu >= low) & (hu < high)]
        found[place, 0] = inside.size / hu.size
        if inside.size:
            found[place, 1:] = inside.mean(dtype=np.float64), inside.std(dtype=np.float64)
    return found


def spectrum_slope(hu: NDArray[np.floating]) -> float:
    """Slope of log power over log frequency in BAND, mean over axial slices: about -3 for anatomy, near 0 for white noise."""
    side = min(hu.shape[1:])
    top, left = (hu.shape[1] - side) // 2, (hu.shape[2] - side) // 2
    window = np.outer(np.hanning(side), np.hanning(side))
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side) * 2, np.fft.rfftfreq(side) * 2, indexing="ij"))
    edges = np.geomspace(*BAND, RINGS + 1)
    ring = np.digitize(frequency, edges) - 1
    inside = (ring >= 0) & (ring < RINGS)
    number = np.bincount(ring[inside], minlength=RINGS)
    power = np.zeros(RINGS)
    for plane in hu[:, top : top + side, left : left + side]:
        values = np.abs(np.fft.rfft2((plane - plane.mean(dtype=np.float64)) * window)) ** 2
        power += np.bincount(ring[inside], values[inside], minlength=RINGS)
    known = (number > 0) & (power > 0)
    if known.sum() < 3:
        return float("nan")
    x, y = np.log(np.sqrt(edges[:-1] * edges[1:])[known]), np.log(power[known] / number[known])
    x = x - x.mean()
    return float(x @ y / (x @ x))


class HuRealism(CaseMetric):
    """Mean absolute differences between each generated volume and its real scan; hu-histogram compares the pooled voxels."""

    higher_is_better: ClassVar[Mapping[str, bool | None]] = {
        **{f"share_error.{name}": False for name in TISSUES_HU},
        **{f"mean_error_hu.{name}": False for name in TISSUES_HU},
        **{f"spread_error_hu.{name}": False for name in TISSUES_HU},
        "spectrum_slope": None,
        "spectrum_slope_real": None,
        "spectrum_slope_error": False,
    }
    needs: ClassVar[frozenset[str]] = frozenset({"real", "generated"})
    meanings: ClassVar[Mapping[str, str]] = {
        **{f"share_error.{name}": f"|difference| of the share of {name} voxels, mean over cases" for name in TISSUES_HU},
        **{f"mean_error_hu.{name}": f"|difference| of the mean of {name} voxels, HU" for name in TISSUES_HU},
        **{f"spread_error_hu.{name}": f"|difference| of the standard deviation of {name} voxels, HU" for name in TISSUES_HU},
        "spectrum_slope": "log power over log frequency of the fine texture; flatter (nearer 0) is noisier, steeper is blurred",
        "spectrum_slope_real": "floor: the real scans'",
        "spectrum_slope_error": "|difference| of the slopes, mean over cases",
    }
    config: HuRealismConfig

    def measure(self, item: EvaluationItem) -> Rows:
        made, real = windowed(item, "generated", self.config.window_hu), windowed(item, "real", self.config.window_hu)
        errors = np.abs(tissue_numbers(made) - tissue_numbers(real)).T.ravel()
        slopes = spectrum_slope(made), spectrum_slope(real)
        return np.array([*errors, *slopes, abs(slopes[0] - slopes[1])])

    def summarise(self, rows: Rows, counts: NDArray[np.int64]) -> dict[str, float]:
        means = {key: mean_of(rows[:, index], counts) for index, key in enumerate(self.higher_is_better)}
        return {key: value for key, value in means.items() if value is not None}
