"""Slice continuity: do the seams between generated blocks show?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ctgen.evaluate.cases import CaseMetric, Rows, mean_of, windowed
from ctgen.evaluate.configs import ContinuityConfig
from ctgen.interfaces import EvaluationItem

UNDEFINED = float("nan")


def slice_differences(hu: NDArray[np.floating]) -> Rows:
    """(D, H, W) -> (D - 1,): mean |hu[k + 1] - hu[k]| of neighbouring axial slices."""
    return np.array([np.abs(hu[k + 1] - hu[k]).mean(dtype=np.float64) for k in range(len(hu) - 1)])


def second_differences(hu: NDArray[np.floating]) -> Rows:
    """(D, H, W) -> (D - 2,): mean |hu[k] - 2 hu[k + 1] + hu[k + 2]|; entry k is centred on slice k + 1."""
    return np.array([np.abs(hu[k] - 2 * hu[k + 1] + hu[k + 2]).mean(dtype=np.float64) for k in range(len(hu) - 2)])


def seam_ratio(differences: Rows, seams: Iterable[int]) -> float:
    """Mean of ``differences`` at the indices ``seams`` over the mean of the others; 1.0 where both are zero.

    NaN without a seam or without anything else; inf where only the seams differ.
    """
    at_seam = np.zeros(len(differences), bool)
    at_seam[[index for index in seams if 0 <= index < len(differences)]] = True
    if not at_seam.any() or at_seam.all():
        return UNDEFINED
    seam, inside = float(differences[at_seam].mean()), float(differences[~at_seam].mean())
    if inside == 0:
        return 1.0 if seam == 0 else float("inf")
    return seam / inside


def seam_ratios(hu: NDArray[np.floating], boundaries: Iterable[int]) -> tuple[float, float]:
    """Ratios of first and of second differences; ``boundaries`` are the first slices of blocks 1, 2, ..."""
    starts = [start for start in boundaries if 0 < start < len(hu)]
    first = seam_ratio(slice_differences(hu), [start - 1 for start in starts])
    # a step between slices start - 1 and start bends the course at both of them
    second = seam_ratio(second_differences(hu), [centre - 1 for start in starts for centre in (start - 1, start)])
    return first, second


class Continuity(CaseMetric):
    """Means over cases of each volume's ratios; beside them those of the real scan at the same heights, where there is one."""

    higher_is_better: ClassVar[Mapping[str, bool | None]] = {
        "boundary_ratio": None,
        "boundary_ratio_2nd": None,
        "boundary_ratio_real": None,
        "boundary_ratio_2nd_real": None,
    }
    needs: ClassVar[frozenset[str]] = frozenset({"generated"})
    meanings: ClassVar[Mapping[str, str]] = {
        "boundary_ratio": "|dz| at block boundaries over |dz| inside blocks; 1.0 is perfect",
        "boundary_ratio_2nd": "the same with second differences; 1.0 is perfect",
        "boundary_ratio_real": "floor: the real scans, cut at the same heights",
        "boundary_ratio_2nd_real": "floor: the real scans, second differences",
    }
    config: ContinuityConfig

    def measure(self, item: EvaluationItem) -> Rows | None:
        window = self.config.window_hu
        made = seam_ratios(windowed(item, "generated", window), item.boundaries)
        if np.isnan(made).all():
            return None
        real = seam_ratios(windowed(item, "real", window), item.boundaries) if item.real else (UNDEFINED, UNDEFINED)
        return np.array([*made, *real])

    def summarise(self, rows: Rows, counts: NDArray[np.int64]) -> dict[str, float]:
        means = {key: mean_of(rows[:, index], counts) for index, key in enumerate(self.higher_is_better)}
        return {key: value for key, value in means.items() if value is not None}
