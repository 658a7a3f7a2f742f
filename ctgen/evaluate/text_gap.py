"""Does the text matter? A model that ignores its report scores the same against any other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ctgen.data.labels import LABELS
from ctgen.evaluate.auroc import auroc
from ctgen.evaluate.cases import CaseMetric, Rows, mean_of
from ctgen.evaluate.clip_score import whole
from ctgen.evaluate.feature_configs import TextGapConfig
from ctgen.evaluate.label_faithfulness import asked_labels, found_labels
from ctgen.interfaces import EvaluationItem, Report

EMPTY = Report("")
COUNT = len(LABELS)


def derangements(count: int, shuffles: int, seed: int) -> NDArray[np.int64]:
    """(S, count): for 0 .. count - 1 other places, none of them its own; S is ``shuffles``, or fewer if count is small."""
    order = np.random.default_rng(seed).permutation(count)
    found = np.empty((min(shuffles, max(count - 1, 0)), count), np.int64)
    for shift in range(len(found)):
        found[shift, order] = np.roll(order, -(shift + 1))
    return found


class TextGap(CaseMetric):
    """All gaps are of the same volumes: only the report that they are compared with changes.

    CLIP scores are 100 x cosine, not clipped. The AUROC gap compares the labels asked for with those of other cases; the
    empty report asks for nothing, so that it has no AUROC. An extractor that finds labels and reads no reports has no other
    gap than AUROC's.
    """

    higher_is_better: ClassVar[Mapping[str, bool | None]] = {
        "clip_shuffled": True,
        "clip_empty": True,
        "auroc_shuffled": True,
        "clip_shuffled_real": None,
        "clip_empty_real": None,
        "auroc_shuffled_real": None,
    }
    needs: ClassVar[frozenset[str]] = frozenset({"generated", "features", "report"})
    meanings: ClassVar[Mapping[str, str]] = {
        "clip_shuffled": "CLIP score with its own report less that with other cases' reports; 0: the text does not matter",
        "clip_empty": "CLIP score with its own report less that with the empty report",
        "auroc_shuffled": "AUROC of the labels asked for less that of other cases' labels",
        "clip_shuffled_real": "floor: the real scans' gap",
        "clip_empty_real": "floor: the real scans' gap",
        "auroc_shuffled_real": "floor: the real scans' gap",
    }
    config: TextGapConfig

    def measure(self, item: EvaluationItem) -> Rows | None:
        """Labels found in both volumes, labels asked for, then unit vectors: generated, real, own report, empty report."""
        bank, key = item.features, self.config.features
        assert bank is not None and item.report is not None
        finds = bank.can(key, "labels")
        labels = [np.full(COUNT, np.nan)] * 3
        if item.labels is not None and finds:
            found = [found_labels(bank, key, which) for which in ("generated", "real")]
            labels = [*found, asked_labels(item.labels)]
        if finds and not bank.can(key, "text"):
            return np.concatenate(labels)
        made = whole(bank, key, "generated", item.id)
        real = whole(bank, key, "real", item.id) if bank.has("real") else np.full(len(made), np.nan)
        texts = [bank.text(key, report) for report in (item.report, EMPTY)]
        return np.concatenate([*labels, *(_unit(vector) for vector in (made, real, *texts))])

    def summarise(self, rows: Rows, counts: NDArray[np.int64]) -> dict[str, float]:
        found, vectors = rows[:, : 3 * COUNT].reshape(-1, 3, COUNT), rows[:, 3 * COUNT :].reshape(len(rows), 4, -1)
        made, real, own, empty = (vectors[:, place] for place in range(4))
        others = derangements(len(rows), self.config.shuffles, self.config.seed)
        values: dict[str, float | None] = {}
        reads = vectors.shape[-1] > 0
        for suffix, images, labels in (("", made, found[:, 0]), ("_real", real, found[:, 1])):
            matched = np.einsum("nd,nd->n", images, own)
            if reads:
                values[f"clip_empty{suffix}"] = mean_of(100 * (matched - np.einsum("nd,nd->n", images, empty)), counts)
            if len(others):
                if reads:
                    against = np.mean([np.einsum("nd,nd->n", images, own[other]) for other in others], axis=0)
                    values[f"clip_shuffled{suffix}"] = mean_of(100 * (matched - against), counts)
                values[f"auroc_shuffled{suffix}"] = _label_gap(labels, found[:, 2], others, counts)
        return {key: values[key] for key in self.higher_is_better if values.get(key) is not None}  # type: ignore[misc]

    def per_case(self) -> dict[str, dict[str, float]]:
        """Gaps of the CLIP score; a case by itself has no other reports, so they are taken among all."""
        found = {}
        for place, case_id in enumerate(self.ids):
            alone = np.zeros(len(self.rows), np.int64)
            alone[place] = 1
            found[case_id] = self.estimate(alone)
        return found


def _label_gap(found: Rows, asked: Rows, others: NDArray[np.int64], counts: NDArray[np.int64]) -> float | None:
    """Mean over labels and shuffles of AUROC(own labels) - AUROC(another case's)."""
    gaps = []
    for place in range(COUNT):
        own = auroc(found[:, place], asked[:, place], counts)
        if own is not None:
            shuffled = [auroc(found[:, place], asked[other, place], counts) for other in others]
            gaps += [own - value for value in shuffled if value is not None]
    return float(np.mean(gaps)) if gaps else None


def _unit(vector: NDArray[np.floating]) -> Rows:
    found: Rows = vector.astype(np.float64) / max(float(np.linalg.norm(vector)), 1e-12)
    return found
