"""Components, cases and features that have shapes and no data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from ctgen.config import ComponentConfig
from ctgen.data.labels import LABELS
from ctgen.interfaces import Posterior, Report, Sizes, TextFeatures
from ctgen.recipe import Recipe


def unreal(recipe: Recipe, section: str, *, config: ComponentConfig | None = None) -> Any:
    """A component of the recipe on the meta device, with random weights in place of files; ``config`` replaces the recipe's."""
    use = recipe.use(section)
    context: dict[str, Any] = {}
    if section == "backbone":
        sizes = recipe.sizes()
        context = {"latent": sizes.latent, "text": sizes.text}
    with torch.device("meta"):
        return recipe.host.build(use.kind, use.name, (config or use.config).without_files(), **context)


def on(module: nn.Module, mode: FakeTensorMode, device: torch.device) -> None:
    """Put a module's parameters and buffers on ``device``, as far as they are anywhere: kernels are chosen as there."""
    known: dict[int, Any] = {}
    with mode:
        for part in module.modules():
            for name, parameter in part._parameters.items():
                if parameter is not None:
                    if id(parameter) not in known:
                        like = torch.empty_like(parameter, device=device)
                        known[id(parameter)] = nn.Parameter(like, requires_grad=parameter.requires_grad)
                    part._parameters[name] = known[id(parameter)]
            for name, buffer in part._buffers.items():
                if buffer is not None:
                    part._buffers[name] = torch.empty_like(buffer, device=device)


def nbytes(module: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))


class UnrealCases:
    """A TrainingSource of one case of the recipe's sizes."""

    ids: Sequence[str] = ("case",)

    def __init__(self, sizes: Sizes, spacing_mm: Sequence[float], mode: FakeTensorMode, *, has_logvar: bool) -> None:
        self.sizes, self.spacing_mm, self.mode, self.has_logvar = sizes, spacing_mm, mode, has_logvar

    def volume(self, index: int, slices: slice | None = None) -> Tensor:
        with self.mode:
            volume = torch.zeros(self.sizes.volume)
        return volume if slices is None else volume[slices]

    def posterior(self, index: int, slices: slice | None = None) -> Posterior:
        channels, depth, height, width = self.latent_shape(index)
        shape = (1, channels, len(range(depth)[slices or slice(None)]), height, width)
        with self.mode:
            return Posterior(torch.zeros(shape), torch.zeros(shape) if self.has_logvar else None)

    def latent_shape(self, index: int) -> tuple[int, int, int, int]:
        return (self.sizes.latent.channels, *self.sizes.grid)

    def text(self, index: int, *, impressions: bool = False) -> TextFeatures:
        """As long as the text encoder allows."""
        return features(self.sizes, self.mode)

    def masks(self, index: int) -> tuple[Tensor, Tensor] | None:
        """No finding anywhere; of numbers, since they are counted and not computed with."""
        return torch.zeros(self.sizes.volume, dtype=torch.int32), torch.ones(len(LABELS), dtype=torch.bool)

    def record(self, index: int) -> Mapping[str, Any]:
        report = Report("No finding.")
        return {
            "id": self.ids[index],
            "shape": list(self.sizes.volume),
            "spacing_mm": list(self.spacing_mm),
            "report": {"findings": report.findings, "impressions": "", "clinical_information": "", "technique": ""},
            "labels": dict.fromkeys(LABELS, 0),
            "split": "train",
            "meta": {},
        }


def features(sizes: Sizes, mode: FakeTensorMode, *, batch: int = 1, device: torch.device | None = None) -> TextFeatures:
    text = sizes.text
    with mode:
        pooled = None if text.pooled_width is None else torch.zeros(batch, text.pooled_width, device=device)
        mask = torch.ones(batch, text.max_tokens, dtype=torch.bool, device=device)
        return TextFeatures(torch.zeros(batch, text.max_tokens, text.width, device=device), mask, pooled)
