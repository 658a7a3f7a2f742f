"""Slice continuity: do the seams between generated blocks show?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ctgen.evaluate.cases import CaseMetric, Rows, mean_of, windowed
from ctgen.evaluate.configs import ContinuityConfig
from ctgen.evaluate.hu_histogram import histogram, wasserstein_hu
from ctgen.interfaces import EvaluationItem

UNDEFINED = float("nan")
BIN_HU = 2.0


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


def blocks(boundaries: Iterable[int], slices: int) -> list[slice]:
    """Slices of blocks 0, 1, ...; ``boundaries`` are the first slices of blocks 1, 2, ..."""
    ends = [0, *sorted(start for start in set(boundaries) if 0 < start < slices), slices]
    return [slice(first, end) for first, end in pairwise(ends)]


def block_distances(hu: NDArray[np.floating], real: NDArray[np.floating], boundaries: Iterable[int]) -> list[float]:
    """HU by which the voxels of each block must move to get the real scan's histogram at the same heights (Wasserstein)."""
    window = float(min(hu.min(), real.min())), float(max(hu.max(), real.max())) + BIN_HU
    found = []
    for part in blocks(boundaries, len(hu)):
        one, other = (histogram(volume[part], window, BIN_HU) for volume in (hu, real))
        found.append(wasserstein_hu(one, other, BIN_HU) or 0.0)
    return found


def slope(values: Sequence[float]) -> float:
    """Least-squares rise per place; NaN of fewer than two."""
    places = np.arange(len(values)) - (len(values) - 1) / 2
    return float(places @ np.asarray(values) / (places @ places)) if len(values) > 1 else UNDEFINED


class Continuity(CaseMetric):
    """Means over cases of each volume's ratios; beside them those of the real scan at the same heights, where there is one.

    Drift: how fast a volume's blocks, from the lowest up, depart from the real scan's HU; the scan must have as many slices.
    """

    higher_is_better: ClassVar[Mapping[str, bool | None]] = {
        "boundary_ratio": None,
        "boundary_ratio_2nd": None,
        "boundary_ratio_real": None,
        "boundary_ratio_2nd_real": None,
        "drift_hu_per_block": None,
    }
    needs: ClassVar[frozenset[str]] = frozenset({"generated"})
    meanings: ClassVar[Mapping[str, str]] = {
        "boundary_ratio": "|dz| at block boundaries over |dz| inside blocks; 1.0 is perfect",
        "boundary_ratio_2nd": "the same with second differences; 1.0 is perfect",
        "boundary_ratio_real": "floor: the real scans, cut at the same heights",
        "boundary_ratio_2nd_real": "floor: the real scans, second differences",
        "drift_hu_per_block": "rise of the HU distance to the real scan from block to block; 0: no drift, below: worst first",
    }
    config: ContinuityConfig

    def measure(self, item: EvaluationItem) -> Rows | None:
        window = self.config.window_hu
        hu = windowed(item, "generated", window)
        made = seam_ratios(hu, item.boundaries)
        if np.isnan(made).all():
            return None
        if item.real is None:
            return np.array([*made, UNDEFINED, UNDEFINED, UNDEFINED])
        real = windowed(item, "real", window)
        drift = UNDEFINED
        if len(real) == len(hu):
            curve = block_distances(hu, real, item.boundaries)
            self.details[item.id] = [round(value, 4) for value in curve]
            drift = slope(curve)
        return np.array([*made, *seam_ratios(real, item.boundaries), drift])

    def summarise(self, rows: Rows, counts: NDArray[np.int64]) -> dict[str, float]:
        means = {key: mean_of(rows[:, index], counts) for index, key in enumerate(self.higher_is_better)}
        return {key: value for key, value in means.items() if value is not None}

    def extra(self) -> dict[str, Any]:
        """Case -> HU distance to the real scan of blocks 0, 1, ..."""
        return {"hu_distance_by_block": {case_id: self.details[case_id] for case_id in sorted(self.details)}}
