"""Inception score: a classifier sure of each slice, and unsure of all of them together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from ctgen.evaluate.feature_cases import Counts, DistributionMetric
from ctgen.evaluate.feature_configs import InceptionScoreConfig
from ctgen.interfaces import Plane, Which


def inception_scores(logits: NDArray[np.floating], splits: int) -> NDArray[np.float64]:
    """(N, K) -> scores by split: exp of the mean KL(p(y | x) || p(y)); split i is rows [i N // splits, (i + 1) N // splits).

    Splits without rows are left out.
    """
    scores = []
    for split in range(splits):
        part = logits[split * len(logits) // splits : (split + 1) * len(logits) // splits].astype(np.float64)
        if len(part):
            logs = log_softmax(part, axis=1)
            probabilities = np.exp(logs)
            mean = probabilities.mean(axis=0)
            with np.errstate(divide="ignore"):
                marginal = np.log(mean)
            difference = np.where(probabilities > 0, logs - np.where(np.isfinite(marginal), marginal, 0.0), 0.0)
            scores.append(np.exp((probabilities * difference).sum(axis=1).mean()))
    return np.array(scores)


class InceptionScore(DistributionMetric):
    """Mean over splits of the rows in order of case ids; holds the logits (rows x classes) while it computes."""

    higher_is_better: ClassVar[Mapping[str, bool | None]] = {
        "inception_score": True,
        "inception_score_std": None,
        "inception_score_real": None,
    }
    meanings: ClassVar[Mapping[str, str]] = {
        "inception_score": "exp of the mean information that a slice gives on its class, mean over splits",
        "inception_score_std": "its standard deviation over splits",
        "inception_score_real": "floor: the real scans'",
    }
    uses: ClassVar[tuple[Which, ...]] = ("generated", "real")
    logits: ClassVar[bool] = True
    centred: ClassVar[bool] = True
    config: InceptionScoreConfig

    @property
    def key(self) -> str:
        return self.config.features

    @property
    def planes(self) -> tuple[Plane, ...]:
        return (self.config.planes,)

    def compute(self) -> dict[str, float]:
        found = {}
        scores = self._scores("generated", self.ones())
        if len(scores):
            found = {"inception_score": float(scores.mean()), "inception_score_std": float(scores.std())}
        real = self._scores("real", self.ones())
        if len(real):
            found["inception_score_real"] = float(real.mean())
        return found

    def estimate(self, counts: Counts) -> dict[str, float]:
        scores = self._scores("generated", counts)
        return {"inception_score": float(scores.mean())} if len(scores) else {}

    def _scores(self, which: Which, counts: Counts) -> NDArray[np.float64]:
        name = ("logits", which)
        if name not in self._memo:
            self._memo[name] = {place: rows for place, _, rows in self.rows(which, self.planes[0], self.ones())}
        tables = [rows for place, rows in self._memo[name].items() for _ in range(int(counts[place]))]
        return inception_scores(np.concatenate(tables), self.config.splits) if tables else np.zeros(0)
