"""Objective `report-labels`: a text encoder learns to state what a report says, through a linear head that is thrown away."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ctgen.data.labels import LABELS
from ctgen.errors import ConfigError, DataError
from ctgen.interfaces import Prompt, Report, TextFeatures, TrainingSource
from ctgen.train.composed_texts import FACTS, composed
from ctgen.train.configs import ReportLabelsConfig

WORDS: Mapping[str, tuple[str, ...]] = {
    "left": ("left",),
    "right": ("right",),
    **dict.fromkeys(("both", "bilateral"), ("left", "right")),
    **dict.fromkeys(("small", "mild", "focal"), ("small",)),
    **dict.fromkeys(("moderate", "segmental"), ("moderate",)),
    **dict.fromkeys(("large", "severe", "marked", "extensive"), ("large",)),
}
"""Values of a finding's ``side``, ``size``, ``severity`` and ``extent``, and the facts that they state."""
SMALL_MM, LARGE_MM = 10, 20
"""A size in mm below the first is small, from the second on large."""

MOST_TRIES = 200
PLAUSIBLE_SLICES = (32, 512)


class ReportLabels:
    """See ReportLabelsConfig. ``extra`` is the head: layer norm, then a logit per label and fact."""

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
        head = nn.Linear(width, len(LABELS) * (1 + len(FACTS)))
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        # the norm undoes the unit length that encoders like CT-CLIP give their vector
        self.extra = nn.Sequential(nn.LayerNorm(width, elementwise_affine=False), head)
        self.asked = [prompt.format(label) for prompt in config.prompts for label in LABELS]
        if (config.plain_text or config.prompt_weight) and not hasattr(self.model, "encode_texts"):
            raise ConfigError(
                f"objective.plain_text and prompt_weight need a text encoder that reads texts as they are; "
                f"{type(self.model).__name__} does not",
                hint="set both to 0, or give yours a method encode_texts",
            )

    def batch(self, source: TrainingSource, size: int, generator: torch.Generator) -> Mapping[str, Any]:
        """Prompts of cases that have a report and labels, drawn with replacement.

        prompts: list of B, some of them (composed, plain_text) as strings; targets, known (B, labels + facts) float32. known is
        0 where nothing is said; facts are known of findings that are there. The number of slices in a prompt is the case's own,
        another one, or left out: it must not matter.
        """
        prompts: list[Prompt | str] = []
        targets, known = [], []
        for _ in range(size):
            # drawn only where it is asked for: batches of other configs stay as they are
            if self.config.composed > 0 and torch.rand((), generator=generator) < self.config.composed:
                text, labels, said = composed(generator)
                prompts.append(text)
                targets.append([*labels, *said])
                known.append([*([1.0] * len(LABELS)), *_of_those_there(labels)])
                continue
            record = _draw(source, generator)
            report = Report(**record["report"])
            prompts.append(Prompt(report, slices=plausible_slices(record, generator)))
            if self.config.plain_text > 0 and torch.rand((), generator=generator) < self.config.plain_text:
                prompts[-1] = f"{report.findings} {report.impressions}".strip()
            labels = [float(record["labels"].get(name, 0)) for name in LABELS]
            stated = [float(name in record["labels"]) for name in LABELS]
            findings = record.get("meta", {}).get("findings")
            targets.append([*labels, *facts(findings or ())])
            known.append([*stated, *_of_those_there(labels if findings is not None else [0.0] * len(LABELS))])
        return {"prompts": prompts, "targets": torch.tensor(targets), "known": torch.tensor(known)}

    def loss(self, batch: Mapping[str, Any], step: int, generator: torch.Generator) -> Mapping[str, Tensor]:
        """{"loss", "labels", "facts" and, with a weight, "prompts" (cross-entropies), "recall" and "specificity" of the labels,
        "right", the share of facts that are told rightly (NaN: none here)}."""
        targets, known = batch["targets"], batch["known"]
        plain = [isinstance(prompt, str) for prompt in batch["prompts"]]
        logits = targets.new_empty(targets.shape)
        for texts, encode in ((False, "encode"), (True, "encode_texts")):
            rows = [place for place, is_text in enumerate(plain) if is_text == texts]
            if rows:
                features = getattr(self.model, encode)([batch["prompts"][row] for row in rows])
                logits[rows] = self.extra(_pooled(features)).float()
        errors = F.binary_cross_entropy_with_logits(logits, targets, reduction="none") * known
        count = len(LABELS)
        labels = errors[:, :count].sum() / known[:, :count].sum().clamp_min(1)
        stated = errors[:, count:].sum() / known[:, count:].sum().clamp_min(1)
        says, said = logits[:, :count].detach() > 0, targets[:, :count] > 0.5
        sure = known[:, :count] > 0
        loss = labels + self.config.facts * stated
        terms = {}
        if self.config.prompt_weight > 0:
            said_of = self.extra(_pooled(self.model.encode_texts(self.asked))).float()[:, :count]  # type: ignore[operator]
            # each prompt speaks of one label
            of_own = torch.cat([part.diagonal() for part in said_of.chunk(2)])
            there = torch.cat([torch.ones_like(of_own[:count]), torch.zeros_like(of_own[count:])])
            asked = F.binary_cross_entropy_with_logits(of_own, there)
            loss, terms = loss + self.config.prompt_weight * asked, {"prompts": asked.detach()}
        return {
            "loss": loss,
            "labels": labels,
            "facts": stated,
            "recall": says[sure & said].float().mean(),
            "specificity": (~says)[sure & ~said].float().mean(),
            "right": ((logits.detach() > 0) == (targets > 0.5))[:, count:][known[:, count:] > 0].float().mean(),
            **terms,
        }

    def adversary_loss(self, batch: Mapping[str, Any], step: int) -> Mapping[str, Tensor]:
        raise DataError("the objective report-labels has no adversary")


def _of_those_there(labels: Sequence[float]) -> list[float]:
    """1 for the facts of labels that are there. Those of all others are no: nearly all would be that, and easily learnt."""
    return [float(label > 0.5) for label in labels for _ in FACTS]


def facts(findings: Any) -> list[float]:
    """1 for every stated fact, label by label in the order of FACTS; 0 elsewhere.

    ``findings``: mappings, or a mapping of them, with ``name`` (a label, but for case and underscores) and perhaps ``side``,
    ``size``, ``severity``, ``extent`` (see WORDS), ``lobe``, ``size_mm``, or lists of parts that have these.
    """
    names = {name.lower(): number for number, name in enumerate(LABELS)}
    values = [0.0] * (len(LABELS) * len(FACTS))
    for finding in findings.values() if isinstance(findings, Mapping) else findings:
        label = names.get(str(finding.get("name")).replace("_", " ").lower())
        if label is not None:
            for fact in _stated(finding):
                values[label * len(FACTS) + FACTS.index(fact)] = 1.0
    return values


def _stated(finding: Mapping[str, Any]) -> Iterator[str]:
    """The facts that a finding and its parts state."""
    yield from WORDS.get(str(finding.get("side")), ())
    degrees = [fact for key in ("size", "severity", "extent") for fact in WORDS.get(str(finding.get(key)), ())]
    if not degrees and "size_mm" in finding:
        size_mm = float(finding["size_mm"])
        degrees = ["small" if size_mm < SMALL_MM else "moderate" if size_mm < LARGE_MM else "large"]
    yield from degrees
    yield from (level for level in FACTS[5:] if str(finding.get("lobe", "")).startswith(level))
    for parts in finding.values():
        if isinstance(parts, list):
            for part in parts:
                if isinstance(part, Mapping):
                    yield from _stated(part)


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


def plausible_slices(record: Mapping[str, Any], generator: torch.Generator) -> int | None:
    """The number of slices that a prompt states: the case's own, another one, or none."""
    low, high = PLAUSIBLE_SLICES
    other, choice = torch.randint(low, high, (), generator=generator), torch.randint(3, (), generator=generator)
    return (int(record["shape"][0]), int(other), None)[int(choice)]
