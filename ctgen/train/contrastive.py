"""Objective `contrastive`: reports and volumes in one space, each nearest to its own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ctgen.data.labels import LABELS
from ctgen.errors import ConfigError, DataError
from ctgen.evaluate.retrieval import retrieved
from ctgen.interfaces import PairEncoder, PlaceEncoder, Prompt, Report, TrainingSource
from ctgen.train.contrastive_config import ContrastiveConfig
from ctgen.train.places import PlaceHeads
from ctgen.train.report_labels import plausible_slices
from ctgen.train.volumes import draw, label_aurocs, labels_cross_entropy, stated, whole_volumes

AT_ONCE = 16
"""Held-out volumes embedded at a time."""


class Contrastive:
    """See ContrastiveConfig. Similarities are cosines times the encoder's ``logit_scale``."""

    trains: ClassVar[Literal["text_encoder"]] = "text_encoder"
    reads: ClassVar[Literal["volumes"]] = "volumes"
    adversary: nn.Module | None = None

    def __init__(
        self, config: ContrastiveConfig, *, components: Mapping[str, Any], schedule: Any = None, rollout: Any = None
    ) -> None:
        self.config = config
        self.model: Any = components["text_encoder"]
        if not isinstance(self.model, PairEncoder):
            raise ConfigError(
                f"objective contrastive trains a text encoder that also embeds volumes; {type(self.model).__name__} does not",
                hint="write text_encoder: {use: ct-clip-pair}, or give yours embed_texts and embed_volumes",
            )
        if config.lock_text:
            if not hasattr(self.model, "lock_text"):
                raise ConfigError(
                    f"objective.lock_text: {type(self.model).__name__} cannot lock its text tower",
                    hint="set objective.lock_text: false, or give yours a method lock_text",
                )
            self.model.lock_text()
        self.places: PlaceHeads | None = None
        self.head: nn.Linear | None = None
        if config.mask_weight > 0:
            if not isinstance(self.model, PlaceEncoder):
                raise ConfigError(
                    f"objective.mask_weight needs an encoder that tells the parts of a volume; "
                    f"{type(self.model).__name__} does not",
                    hint="set objective.mask_weight: 0, or give yours embed_places, token_channels and token_grids",
                )
            straight: Literal["all", "last"] = "all" if getattr(self.model, "pools_levels", False) else "last"
            self.places = PlaceHeads(self.model.token_channels, straight=straight)
        self.asked = [prompt.format(label) for prompt in config.prompts for label in LABELS]
        if config.head_weight > 0:
            with torch.no_grad():
                width = self.model.embed_texts(self.asked[:1]).shape[1]
            self.head = nn.Linear(width, len(LABELS))
        thrown_away = {"places": self.places, "head": self.head}
        if any(part is not None for part in thrown_away.values()):
            self.extra = nn.ModuleDict({name: part for name, part in thrown_away.items() if part is not None})

    def prepare(self, source: TrainingSource) -> None:
        if self.places is not None:
            self.places.measure(source, self.model.token_grids(source.volume(0).shape))

    def batch(self, source: TrainingSource, size: int, generator: torch.Generator) -> Mapping[str, Any]:
        """Different cases with a report, as long as there are ``size`` of them.

        volume (B, 1, D, H, W) HU, moved and noised; texts: list of B; labels, known (B, 18) float32, known = 0 where nothing is
        said of a label. With mask_weight also holds, (B, d, h, w, 18) bool by level, and places_known (B, 18) bool.
        """
        cases = draw(source, size, generator, "report")
        texts = [self._text(record, generator) for _, record in cases]
        labels, known = stated([record for _, record in cases])
        grids = self.model.token_grids if self.places is not None else None
        found = whole_volumes([index for index, _ in cases], source, self.config, generator, grids)
        return {**found, "texts": texts, "labels": labels, "known": known}

    def loss(self, batch: Mapping[str, Any], step: int, generator: torch.Generator) -> Mapping[str, Tensor]:
        """{"loss", "pairs" (InfoNCE), "found": share of reports found, "scale", and, where they have a weight, cross-entropies:
        "labels", "text_labels" (by prompts), "head_volumes", "head_texts", "head_prompts", and by level "places0", ..."""
        count = len(batch["texts"])
        weighs = self.config.label_weight > 0
        tokens: Sequence[Tensor] = ()
        if self.places is None:
            volumes = self.model.embed_volumes(batch["volume"])
        else:
            volumes, tokens = self.model.embed_places(batch["volume"])
        texts = self.model.embed_texts(batch["texts"])
        scale = self.model.logit_scale
        # Under autocast these products would be bfloat16, which differences of young latents drown in.
        autocast = torch.autocast(volumes.device.type, enabled=False)
        with autocast:
            logits = volumes.float() @ texts.float().T * scale
        own = torch.arange(count, device=logits.device)
        pairs = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
        terms = {"pairs": pairs.detach(), "found": (logits.argmax(1) == own).float().mean(), "scale": scale.detach()}
        loss = pairs
        if weighs or self.head is not None:
            labels, known = batch["labels"], batch["known"]
            asked = self.model.embed_texts(self.asked)
            present, absent = asked.chunk(2)
            for name, latents in (("labels", volumes), ("text_labels", texts)) if weighs else ():
                with autocast:
                    said = latents.float() @ (present - absent).float().T * scale
                terms[name] = labels_cross_entropy(said, labels, known)
                loss = loss + self.config.label_weight * terms[name]
                terms[name] = terms[name].detach()
            if self.head is not None:
                own_label = torch.eye(len(LABELS), device=labels.device)
                read = [
                    labels_cross_entropy(self._read(volumes), labels, known),
                    labels_cross_entropy(self._read(texts), labels, known),
                    labels_cross_entropy(self._read(asked), torch.cat([own_label, 0 * own_label]), own_label.repeat(2, 1)),
                ]
                loss = loss + self.config.head_weight * torch.stack(read).sum()
                terms |= {
                    f"head_{name}": term.detach() for name, term in zip(("volumes", "texts", "prompts"), read, strict=True)
                }
        if self.places is not None:
            places = torch.stack(self.places(tokens, batch["holds"], batch["places_known"]))
            loss = loss + self.config.mask_weight * places.mean()
            terms |= {f"places{level}": term for level, term in enumerate(places.detach().unbind())}
        return {"loss": loss, **terms}

    def adversary_loss(self, batch: Mapping[str, Any], step: int) -> Mapping[str, Tensor]:
        raise DataError("the objective contrastive has no adversary")

    @torch.no_grad()
    def validate(self, source: TrainingSource) -> Mapping[str, float]:
        """Scores on whole held-out cases: {"retrieval", "text_retrieval", "auroc", and one AUROC per label, by name}.

        retrieval: share of volumes whose report is the most similar of ``candidates``; text_retrieval: of reports whose volume
        is. A label that all cases have or none has gives no AUROC.
        """
        indices = [index for index in range(len(source.ids)) if source.record(index)["report"]]
        indices = indices[: 2 * self.config.candidates]
        if len(indices) < 2:
            return {}
        records = [source.record(index) for index in indices]
        device = self.model.logit_scale.device
        texts = self.model.embed_texts([self.model.report_text(Prompt(Report(**record["report"]))) for record in records])
        parts = []
        for start in range(0, len(indices), AT_ONCE):
            volumes = torch.stack([source.volume(index) for index in indices[start : start + AT_ONCE]])
            parts.append(self.model.embed_volumes(volumes[:, None].to(device)))
        present, absent = self.model.embed_texts(self.asked).float().chunk(2)
        # Under autocast these products would be bfloat16: equal scores, and nothing that NumPy knows.
        with torch.autocast(device.type, enabled=False):
            found = torch.cat(parts).float()
            similar = (found @ texts.float().T).cpu().numpy()
            said = (found @ (present - absent).T).cpu().numpy()
        scores = {
            "retrieval": retrieved(similar, self.config.candidates),
            "text_retrieval": retrieved(similar.T, self.config.candidates),
            **label_aurocs(said, records),
        }
        return {name: value for name, value in scores.items() if math.isfinite(value)}

    def _read(self, latents: Tensor) -> Tensor:
        """Logits (B, 18) of latents (B, l) of unit length, which are brought to a variance of about one."""
        assert self.head is not None
        with torch.autocast(latents.device.type, enabled=False):
            return self.head(latents.float() * math.sqrt(latents.shape[1]))  # type: ignore[no-any-return]

    def _text(self, record: Mapping[str, Any], generator: torch.Generator) -> str:
        report = Report(**record["report"])
        # Drawn only where it is asked for: batches of other configs stay as they are.
        short = self.config.impressions_only > 0 and torch.rand((), generator=generator) < self.config.impressions_only
        if short and report.impressions:
            return report.impressions
        if torch.rand((), generator=generator) < self.config.plain_text:
            return f"{report.findings} {report.impressions}".strip()
        text: str = self.model.report_text(Prompt(report, slices=plausible_slices(record, generator)))
        return text
