"""Objective `volume-labels`: a classifier learns which labels a volume has and, from masks, where they are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ctgen.errors import ConfigError, DataError
from ctgen.interfaces import Classifier, PlaceClassifier, TrainingSource
from ctgen.train.places import PlaceHeads
from ctgen.train.volume_labels_config import VolumeLabelsConfig
from ctgen.train.volumes import draw, label_aurocs, labels_cross_entropy, stated, whole_volumes

AT_ONCE = 8
"""Held-out volumes classified at a time."""


class VolumeLabels:
    """See VolumeLabelsConfig. ``extra``: scales and offsets of what each level says of its parts, thrown away."""

    trains: ClassVar[Literal["classifier"]] = "classifier"
    reads: ClassVar[Literal["volumes"]] = "volumes"
    adversary: nn.Module | None = None

    def __init__(
        self, config: VolumeLabelsConfig, *, components: Mapping[str, Any], schedule: Any = None, rollout: Any = None
    ) -> None:
        self.config = config
        self.model: Any = components["classifier"]
        if not isinstance(self.model, Classifier):
            raise ConfigError(f"objective volume-labels trains a classifier; {type(self.model).__name__} is none")
        self.places: PlaceHeads | None = None
        if config.mask_weight > 0:
            if not isinstance(self.model, PlaceClassifier):
                raise ConfigError(
                    f"objective.mask_weight needs a classifier that tells the parts of a volume; "
                    f"{type(self.model).__name__} does not",
                    hint="set objective.mask_weight: 0, or give yours classify_places, token_channels and token_grids",
                )
            self.places = self.extra = PlaceHeads(self.model.token_channels, straight="all")

    def prepare(self, source: TrainingSource) -> None:
        if self.places is not None:
            self.places.measure(source, self.model.token_grids(source.volume(0).shape))

    def batch(self, source: TrainingSource, size: int, generator: torch.Generator) -> Mapping[str, Any]:
        """Different cases with labels, as long as there are ``size`` of them.

        volume (B, 1, D, H, W) HU, moved and noised; labels, known (B, 18) float32, known = 0 where nothing is said of a label.
        With mask_weight also holds, (B, d, h, w, 18) bool by level, and places_known (B, 18) bool.
        """
        cases = draw(source, size, generator, "labels")
        labels, known = stated([record for _, record in cases])
        grids = self.model.token_grids if self.places is not None else None
        found = whole_volumes([index for index, _ in cases], source, self.config, generator, grids)
        return {**found, "labels": labels, "known": known}

    def loss(self, batch: Mapping[str, Any], step: int, generator: torch.Generator) -> Mapping[str, Tensor]:
        """{"loss", "labels" and by level "places0", ... (cross-entropies)}."""
        tokens: Sequence[Tensor] = ()
        if self.places is None:
            logits = self.model(batch["volume"])
        else:
            logits, tokens = self.model.classify_places(batch["volume"])
        loss = labels_cross_entropy(logits.float(), batch["labels"], batch["known"])
        terms = {"labels": loss.detach()}
        if self.places is not None:
            places = torch.stack(self.places(tokens, batch["holds"], batch["places_known"]))
            loss = loss + self.config.mask_weight * places.mean()
            terms |= {f"places{level}": term for level, term in enumerate(places.detach().unbind())}
        return {"loss": loss, **terms}

    def adversary_loss(self, batch: Mapping[str, Any], step: int) -> Mapping[str, Tensor]:
        raise DataError("the objective volume-labels has no adversary")

    @torch.no_grad()
    def validate(self, source: TrainingSource) -> Mapping[str, float]:
        """{"auroc": mean over labels, and one AUROC per label} of whole held-out cases. A label that all cases have or none has
        gives none."""
        known = [(index, source.record(index)) for index in range(len(source.ids))]
        known = [(index, record) for index, record in known if record["labels"]][: self.config.valid_cases]
        if not known:
            return {}
        device = next(self.model.parameters()).device
        parts = []
        for start in range(0, len(known), AT_ONCE):
            volumes = torch.stack([source.volume(index) for index, _ in known[start : start + AT_ONCE]])
            parts.append(self.model(volumes[:, None].to(device)).float().cpu())
        scores = label_aurocs(torch.cat(parts).numpy(), [record for _, record in known])
        return {name: value for name, value in scores.items() if math.isfinite(value)}
