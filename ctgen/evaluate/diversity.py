"""Diversity: do the generated volumes differ among each other as the real ones do?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

from ctgen.evaluate.cases import CaseMetric, Rows, windowed
from ctgen.evaluate.feature_configs import DiversityConfig
from ctgen.evaluate.memorisation import volume_feature
from ctgen.interfaces import EvaluationItem

BETAS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Weights of MS-SSIM's scales, finest first; small pictures have fewer scales, with the weights made to sum to 1."""
KERNEL = 11


class Diversity(CaseMetric):
    """MS-SSIM over fixed pairs of volumes, density and coverage in feature space, and the spread within one report.

    Pairs are of neighbours in order of id; pictures are the volumes' evenly spaced slices, brought to one size. Density and
    coverage: balls around the real volumes reach to their k-th real neighbour. Items of one ``group`` have one report.
    """

    higher_is_better: ClassVar[Mapping[str, bool | None]] = {
        "ms_ssim": None,
        "ms_ssim_real": None,
        "density": True,
        "coverage": True,
        "spread_within_report": None,
    }
    needs: ClassVar[frozenset[str]] = frozenset({"generated", "features"})
    meanings: ClassVar[Mapping[str, str]] = {
        "ms_ssim": "similarity of pairs of generated volumes; above the real scans' value: too alike",
        "ms_ssim_real": "floor: of the same pairs of real scans",
        "density": "how densely generated volumes lie where real ones are; about 1 if alike",
        "coverage": "share of real volumes with a generated one nearby",
        "spread_within_report": "feature distance of volumes of one report over that of different reports",
    }
    config: DiversityConfig

    def __init__(self, config: DiversityConfig) -> None:
        super().__init__(config)
        self._pairs: tuple[int, Rows] | None = None

    def measure(self, item: EvaluationItem) -> Rows | None:
        """Features of both volumes, then the pictures of both; NaN without a real scan."""
        assert item.features is not None
        made = volume_feature(item.features, self.config.features, "generated")
        real = volume_feature(item.features, self.config.features, "real") if item.features.has("real") else made * np.nan
        pictures = [self._picture(item, which) for which in ("generated", "real")]
        self.details[item.id] = item.group
        return np.concatenate([made, real, *(picture.ravel() for picture in pictures)])

    def summarise(self, rows: Rows, counts: NDArray[np.int64]) -> dict[str, float]:
        size = self.config.slices * self.config.pixels**2
        features = rows[:, : rows.shape[1] - 2 * size].reshape(len(rows), 2, -1)
        made, real = features[:, 0], features[:, 1]
        found: dict[str, float] = {}
        first, second, similar = self._similarities(rows, size)
        for place, name in enumerate(("ms_ssim", "ms_ssim_real")):
            weights = (counts[first] * counts[second]).astype(np.float64) * ~np.isnan(similar[:, place])
            if weights.sum():
                found[name] = float(np.nansum(weights * similar[:, place]) / weights.sum())
        found.update(self._density_and_coverage(made, real, counts))
        found.update(self._spread(made, counts))
        return found

    def per_case(self) -> dict[str, dict[str, float]]:
        return {}

    def _picture(self, item: EvaluationItem, which: Literal["generated", "real"]) -> Rows:
        pixels, count = self.config.pixels, self.config.slices
        if getattr(item, which) is None:
            return np.full((count, pixels, pixels), np.nan)
        low, high = self.config.window_hu
        hu = windowed(item, which, self.config.window_hu)
        chosen = ((np.arange(count) + 0.5) / count * len(hu)).astype(int)
        slices = torch.from_numpy((hu[chosen] - low) / (high - low))[:, None]
        small = torch.nn.functional.interpolate(slices, (pixels, pixels), mode="bilinear", antialias=True)
        found: Rows = small[:, 0].double().numpy()
        return found

    def _similarities(self, rows: Rows, size: int) -> tuple[NDArray[np.int64], NDArray[np.int64], Rows]:
        """Places of both ends of each pair, and (pairs, 2) MS-SSIM of generated and of real ones. Computed once."""
        count = len(rows)
        shifts = range(1, min(self.config.pairs, (count - 1) // 2 if count > 2 else count - 1) + 1)
        first = np.concatenate([np.arange(count) for _ in shifts] or [np.zeros(0, np.int64)]).astype(np.int64)
        second = np.concatenate([(np.arange(count) + shift) % count for shift in shifts] or [first]).astype(np.int64)
        if self._pairs is None or self._pairs[0] != count:
            pixels = self.config.pixels
            pictures = rows[:, -2 * size :].reshape(count, 2, self.config.slices, pixels, pixels)
            similar = [
                [ms_ssim(pictures[a, which], pictures[b, which]) for which in range(2)]
                for a, b in zip(first, second, strict=True)
            ]
            self._pairs = (count, np.array(similar).reshape(len(first), 2))
        return first, second, self._pairs[1]

    def _density_and_coverage(self, made: Rows, real: Rows, counts: NDArray[np.int64]) -> dict[str, float]:
        known = ~np.isnan(real).any(axis=1)
        centres, weights = real[known], counts[known]
        k = min(self.config.neighbours, len(centres) - 1)
        if k < 1 or not weights.sum():
            return {}
        radii = np.sort(distances(centres, centres), axis=1)[:, k]
        inside = distances(centres, made) <= radii[:, None]
        reached = inside[:, counts > 0].any(axis=1)
        # a resample has as many real as generated cases: each ball counts as often as its case
        density = float(weights @ inside @ counts) / (k * float(counts.sum())) * len(centres) / float(weights.sum())
        return {"density": density, "coverage": float(np.average(reached, weights=weights))}

    def _spread(self, made: Rows, counts: NDArray[np.int64]) -> dict[str, float]:
        groups = np.array([self.details[case_id] for case_id in self.ids])[: len(made)]
        apart, weights = distances(made, made), np.triu(np.outer(counts, counts), 1).astype(np.float64)
        same = (groups[:, None] == groups[None]) & (groups != "")[:, None]
        within, between = float((weights * same).sum()), float((weights * ~same).sum())
        if not within or not between:
            return {}
        mean_between = float((weights * ~same * apart).sum()) / between
        return {"spread_within_report": float((weights * same * apart).sum()) / within / mean_between} if mean_between else {}


def distances(one: Rows, other: Rows) -> Rows:
    """(N, d), (M, d) -> (N, M) Euclidean."""
    found: Rows = np.sqrt(((one[:, None] - other[None]) ** 2).sum(axis=2))
    return found


def ms_ssim(one: Rows, other: Rows) -> float:
    """Of two stacks of slices (S, P, P) in 0..1, mean over slices; NaN if one is missing."""
    if np.isnan(one).any() or np.isnan(other).any():
        return float("nan")
    scales = 1
    while scales < len(BETAS) and one.shape[-1] > (KERNEL - 1) * 2**scales:
        scales += 1
    betas = tuple(beta / sum(BETAS[:scales]) for beta in BETAS[:scales])
    stacks = (torch.from_numpy(np.ascontiguousarray(stack, np.float32))[:, None] for stack in (one, other))
    found = multiscale_structural_similarity_index_measure(
        *stacks, data_range=1.0, betas=betas, kernel_size=KERNEL, normalize="relu"
    )
    return float(found)
