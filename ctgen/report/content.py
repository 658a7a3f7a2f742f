"""What a report is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ctgen.interfaces import Skipped


@dataclass(frozen=True)
class Figure:
    """A PNG with its caption; ``note`` stands small beside that, ``text`` (a radiology report) below as a quotation.

    ``alt``: for who does not see it; the caption if that says enough.
    ``section``: "pictures" of patients, "plots" of the evaluation, or the "training" curve.
    """

    path: Path
    caption: str
    text: str = ""
    section: Literal["pictures", "plots", "training"] = "pictures"
    note: str = ""
    alt: str = ""


@dataclass(frozen=True)
class ReportContent:
    """Everything that report.html shows. All text may hold anything; it is escaped.

    ``provenance``: as ctgen.provenance gives it (nested mappings are shown flat); the labels in its ``weights`` are badges.
    ``stages``: as stage.json (stage, seconds, summary; ``skipped`` True if it was done before).
    ``metrics``: EvaluationResult.to_json(), or None if nothing was evaluated.
    """

    title: str
    provenance: Mapping[str, Any] = field(default_factory=dict)
    stages: Sequence[Mapping[str, Any]] = ()
    metrics: Mapping[str, Any] | None = None
    figures: Sequence[Figure] = ()
    skipped: Sequence[Skipped] = ()
    recipe_yaml: str = ""
    warnings: Sequence[str] = ()
