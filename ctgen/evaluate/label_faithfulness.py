"""Label faithfulness: the labels that were asked for against those found in the volume."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ctgen.data.labels import LABELS
from ctgen.evaluate.auroc import auroc, f1
from ctgen.evaluate.cases import CaseMetric, Rows
from ctgen.evaluate.feature_configs import LabelFaithfulnessConfig
from ctgen.interfaces import EvaluationItem, FeatureBank, Which

NONE = float("nan")
COUNT = len(LABELS)


def found_labels(bank: FeatureBank | None, key: str, which: Which) -> Rows:
    """(18,) scores in the order of LABELS; NaN where the extractor says nothing or there is no such volume."""
    if bank is None or not bank.has(which):
        return np.full(COUNT, NONE)
    scores = bank.labels(key, which)
    return np.array([scores.get(label, NONE) for label in LABELS])


def asked_labels(labels: Mapping[str, int] | None) -> Rows:
    """(18,) 0 or 1; NaN where unknown."""
    return np.array([float((labels or {}).get(label, NONE)) for label in LABELS])


class LabelFaithfulness(CaseMetric):
    """Per label over cases, and the mean over labels that have both kinds of case."""

    higher_is_better: ClassVar[Mapping[str, bool | None]] = {
        "auroc": True,
        "f1": True,
        "auroc_real": None,
        "f1_real": None,
        **{f"auroc.{label}": True for label in LABELS},
        **{f"f1.{label}": True for label in LABELS},
    }
    needs: ClassVar[frozenset[str]] = frozenset({"generated", "features", "labels"})
    meanings: ClassVar[Mapping[str, str]] = {
        "auroc": "labels asked for against labels found, mean over labels; 0.5 is chance",
        "f1": "F1 of the labels found at the threshold, mean over labels",
        "auroc_real": "floor: the same on the real scans",
        "f1_real": "floor: the same on the real scans",
    }
    config: LabelFaithfulnessConfig

    def measure(self, item: EvaluationItem) -> Rows | None:
        """Found in the generated volume, asked for, found in the real scan."""
        key = self.config.features
        made, real = (found_labels(item.features, key, which) for which in ("generated", "real"))
        return np.concatenate([made, asked_labels(item.labels), real])

    def summarise(self, rows: Rows, counts: NDArray[np.int64]) -> dict[str, float]:
        made, asked, real = (rows[:, start * COUNT : (start + 1) * COUNT] for start in range(3))
        threshold = self.config.threshold
        scores: dict[str, Callable[[Rows, Rows], float | None]] = {
            "auroc": lambda found, truth: auroc(found, truth, counts),
            "f1": lambda found, truth: f1(found, truth, counts, threshold),
        }
        values: dict[str, float] = {}
        for name, score in scores.items():
            for suffix, found in (("", made), ("_real", real)):
                by_label = {label: score(found[:, place], asked[:, place]) for place, label in enumerate(LABELS)}
                known = {label: value for label, value in by_label.items() if value is not None}
                if known:
                    values[f"{name}{suffix}"] = float(np.mean(list(known.values())))
                if not suffix:
                    values.update({f"{name}.{label}": value for label, value in known.items()})
        return values

    def per_case(self) -> dict[str, dict[str, float]]:
        # an AUROC of one case is nothing; its scores are in extra()
        return {}

    def extra(self) -> dict[str, Any]:
        """Case -> label -> [asked, found]."""
        table = {}
        for case_id in self.ids:
            made, asked = self.rows[case_id][:COUNT], self.rows[case_id][COUNT : 2 * COUNT]
            known = ~np.isnan(made) & ~np.isnan(asked)
            table[case_id] = {
                label: [int(asked[place]), round(float(made[place]), 4)] for place, label in enumerate(LABELS) if known[place]
            }
        return {"asked_and_found": table}
