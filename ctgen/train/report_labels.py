"""Objective `report-labels`: a text encoder learns to state what a report says, through a linear head that is thrown away."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ctgen.data.labels import LABELS
from ctgen.errors import DataError
from ctgen.interfaces import Prompt, Report, TextFeatures, TrainingSource
from ctgen.train.configs import ReportLabelsConfig

SIDES = {"left": (0,), "right": (1,), "both": (0, 1), "bilateral": (0, 1)}
"""Values of a finding's ``side`` and the targets (left, right) that they set."""
SIZES = {"small": 0, "mild": 0, "moderate": 1, "medium": 1, "large": 2, "severe": 2}
"""Values of a finding's ``size`` and their target."""
FACTS = len(LABELS) * (2 + 3)

MOST_TRIES = 200
PLAUSIBLE_SLICES = (32, 512)


class ReportLabels:
    """See ReportLabelsConfig. ``extra`` is the head: layer norm, then one logit per label, side and size."""

    trains: ClassVar[Literal["text_encoder"]] = "text_encoder"
    reads: ClassVar[Literal["reports"]] = "reports"
    adversary: nn.Module | None = None

    def __init__(
        self, config: ReportLabelsConfig, *, components: Mapping[str, Any], schedule: Any = None, rollout: Any = None
    ) -> None:
        self.config = config
        self.model: nn.Module = components["text_encoder"]
        spec = components["text_encoder"].text
        width = spec.pooled_width or spec.width
        head = nn.Linear(width, len(LABELS) + FACTS)
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        # the norm undoes the unit length that encoders like CT-CLIP give their vector
        self.extra = nn.Sequential(nn.LayerNorm(width, elementwise_affine=False), head)

    def batch(self, source: TrainingSource, size: int, generator: torch.Generator) -> Mapping[str, Any]:
        """Prompts of cases that have a report and labels, drawn with replacement.

        prompts: list of B; targets, known (B, labels + facts) float32, known = 0 where nothing is said. The number of slices
        in a prompt is the case's own, another one, or left out: it must not matter.
        """
        prompts, targets, known = [], [], []
        for _ in range(size):
            record = _draw(source, generator)
            prompts.append(Prompt(Report(**record["report"]), slices=_slices(record, generator)))
            labels = [float(record["labels"].get(name, 0)) for name in LABELS]
            stated = [float(name in record["labels"]) for name in LABELS]
            findings = record.get("meta", {}).get("findings")
            targets.append([*labels, *facts(findings or ())])
            known.append([*stated, *([float(findings is not None)] * FACTS)])
        return {"prompts": prompts, "targets": torch.tensor(targets), "known": torch.tensor(known)}

    def loss(self, batch: Mapping[str, Any], step: int, generator: torch.Generator) -> Mapping[str, Tensor]:
        """{"loss", "labels" and "facts" (cross-entropies), "recall" and "specificity" of the labels (NaN: none here)}."""
        logits = self.extra(_pooled(self.model.encode(batch["prompts"]))).float()  # type: ignore[operator]
        targets, known = batch["targets"], batch["known"]
        errors = F.binary_cross_entropy_with_logits(logits, targets, reduction="none") * known
        count = len(LABELS)
        labels = errors[:, :count].sum() / known[:, :count].sum().clamp_min(1)
        stated = errors[:, count:].sum() / known[:, count:].sum().clamp_min(1)
        says, said = logits[:, :count].detach() > 0, targets[:, :count] > 0.5
        sure = known[:, :count] > 0
        return {
            "loss": labels + self.config.facts * stated,
            "labels": labels,
            "facts": stated,
            "recall": says[sure & said].float().mean(),
            "specificity": (~says)[sure & ~said].float().mean(),
        }

    def adversary_loss(self, batch: Mapping[str, Any], step: int) -> Mapping[str, Tensor]:
        raise DataError("the objective report-labels has no adversary")


def facts(findings: Any) -> list[float]:
    """Targets of sides (left, right per label), then of sizes (small, moderate, large per label), from a case's findings.

    ``findings``: mappings with ``name`` (a label, case and underscores apart), perhaps ``side`` and ``size`` (SIDES, SIZES).
    """
    names = {name.lower(): number for number, name in enumerate(LABELS)}
    values = [0.0] * FACTS
    for finding in findings:
        label = names.get(str(finding.get("name", "")).replace("_", " ").lower())
        if label is None:
            continue
        for side in SIDES.get(str(finding.get("side")), ()):
            values[2 * label + side] = 1.0
        size = SIZES.get(str(finding.get("size")))
        if size is not None:
            values[2 * len(LABELS) + 3 * label + size] = 1.0
    return values


def _pooled(features: TextFeatures) -> Tensor:
    """(B, E): the encoder's pooled vector, or the mean of its tokens."""
    if features.pooled is not None:
        return features.pooled
    mask = features.mask[..., None].to(features.tokens)
    return (features.tokens * mask).sum(1) / mask.sum(1).clamp_min(1)


def _draw(source: TrainingSource, generator: torch.Generator) -> Mapping[str, Any]:
    for _ in range(MOST_TRIES):
        record = source.record(int(torch.randint(len(source.ids), (), generator=generator)))
        if record["report"] and record["labels"] is not None:
            return record
    raise DataError(
        f"none of {MOST_TRIES} cases drawn from {len(source.ids)} has both a report and labels",
        hint="the objective report-labels needs a data set with labels (reports.csv with the label columns)",
    )


def _slices(record: Mapping[str, Any], generator: torch.Generator) -> int | None:
    low, high = PLAUSIBLE_SLICES
    other, choice = torch.randint(low, high, (), generator=generator), torch.randint(3, (), generator=generator)
    return (int(record["shape"][0]), int(other), None)[int(choice)]
