"""What a simulated case is known to show, in the words of data sets: a flat list of findings, and the 18 labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctgen.data.atlas.findings.registry import MODULES
from ctgen.data.labels import LABELS

LABEL_OF = {label.lower().replace(" ", "_"): label for label in LABELS}


def listed(findings: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One JSON-ready mapping per lesion and side: ``name``, ``label``, ``size`` (small, moderate, large), and where they
    apply ``side``, ``lobe``, ``size_mm``, ``severity`` and what is particular to the finding."""
    found = [row for name, facts in findings.items() for row in MODULES[name].rows(dict(facts))]
    return [{"name": row["name"], "label": LABEL_OF[row["name"]], **row} for row in found]


def labels_of(rows: list[dict[str, Any]]) -> dict[str, int]:
    """All 18 labels, 1 for those that a row shows."""
    shown = {row["label"] for row in rows}
    return {label: int(label in shown) for label in LABELS}


def masks_of(masks: Mapping[str, NDArray[np.bool_]], labels: Mapping[str, int]) -> dict[str, NDArray[np.bool_]]:
    """Masks by label, of those that the case has; atelectasis beside an effusion is one."""
    named = {LABEL_OF[name]: mask for name, mask in masks.items()}
    return {label: named[label] for label in LABELS if labels[label] and label in named}
