"""FVD in chunks, a quirk of one evaluator: with 4 rows it sees hardly more than means, and rewards too little variety."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from ctgen.bench.frechet_chunks_config import FrechetChunksConfig
from ctgen.evaluate.feature_cases import Counts, DistributionMetric
from ctgen.evaluate.frechet import frechet_of_rows
from ctgen.interfaces import Plane, Which


class FrechetChunks(DistributionMetric):
    """Mean over chunks of ``chunk`` pairs, sorted by id, of the distance of their real and generated features."""

    higher_is_better: ClassVar[Mapping[str, bool | None]] = {"frechet_chunks": False}
    meanings: ClassVar[Mapping[str, str]] = {
        "frechet_chunks": "mean Frechet distance over chunks of pairs; LOWER FOR MODELS OF TOO LITTLE VARIETY"
    }
    uses: ClassVar[tuple[Which, ...]] = ("real", "generated")
    centred: ClassVar[bool] = True
    config: FrechetChunksConfig

    @property
    def key(self) -> str:
        return self.config.features

    @property
    def planes(self) -> tuple[Plane, ...]:
        return ("xy",)

    @property
    def resamples(self) -> int:
        return self.config.resamples

    def compute(self) -> dict[str, float]:
        return self.estimate(np.ones(len(self.ids), np.int64))

    def estimate(self, counts: Counts) -> dict[str, float]:
        pairs = [self.cases[case_id] for case_id, count in zip(self.ids, counts, strict=True) for _ in range(int(count))]
        both = [kept for kept in pairs if ("real", "xy") in kept and ("generated", "xy") in kept]
        size = self.config.chunk
        distances = []
        for start in range(0, len(both), size):
            chunk = both[start : start + size]
            if len(chunk) < 2:
                continue
            real, made = (np.concatenate([kept[(which, "xy")].read() for kept in chunk]) for which in self.uses)
            distances.append(max(0.0, frechet_of_rows(real, made)))
        return {"frechet_chunks": float(np.mean(distances))} if distances else {}
