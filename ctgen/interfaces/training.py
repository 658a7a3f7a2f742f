"""What a training run reads and optimises, and how a config says what does not fit.

Shapes and conventions: see ctgen.interfaces. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

from ctgen.interfaces.values import Posterior, Sizes, TextFeatures

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


class TrainingSource(Protocol):
    """What an objective draws from: the prepared cases of one split, by index; every read is lazy."""

    @property
    def ids(self) -> Sequence[str]: ...

    def volume(self, index: int, slices: slice | None = None) -> Tensor:
        """(D, H, W) float32 HU on the prepared grid (or just ``slices`` of D)."""

    def posterior(self, index: int, slices: slice | None = None) -> Posterior:
        """(1, c, d, h, w) moments from the latent cache (or just ``slices`` of d, the only ones that are then read)."""

    def latent_shape(self, index: int) -> tuple[int, int, int, int]:
        """(c, d, h, w) of a whole case, without reading it."""

    def text(self, index: int, *, impressions: bool = False) -> TextFeatures:
        """Features from the cache, batch of 1; with ``impressions`` of the report's impressions alone, where the cache has them
        (encode.impressions) and the report has any, else of the whole report."""

    def record(self, index: int) -> Mapping[str, Any]:
        """id, report (mapping), labels (mapping or None), spacing_mm, meta; where there are masks, masks (their labels)."""

    def masks(self, index: int) -> tuple[Tensor, Tensor] | None:
        """Where findings are: (D, H, W) int32 on the grid of ``volume``, whose bit k is ctgen.data.labels.LABELS[k]; and (18,)
        bool, which labels are known: those with a mask, and those that the case does not have (no voxel has the bit). None if
        the case has no masks."""


@runtime_checkable
class Objective(Protocol):
    """What a training run optimises. ``target(config, *, components, schedule, rollout)`` builds it.

    ``trains`` names the recipe section whose component is trained; ``reads`` which store the batches come from.
    May also have ``extra: nn.Module`` (trained and saved beside the model, not averaged), ``prepare(source)`` (called before
    the first batch), ``finish(source, generator) -> Mapping[str, str]`` (metadata kept with the final weights),
    ``validate(source) -> Mapping[str, float]`` (scores on held-out cases, logged as valid_<name>). A logged NaN means "nothing
    to say this step" and is left out of means.
    """

    trains: ClassVar[Literal["backbone", "autoencoder", "text_encoder", "classifier"]]
    reads: ClassVar[Literal["latents", "volumes", "reports"]]
    model: nn.Module
    """What is trained, averaged (EMA) and saved."""
    adversary: nn.Module | None
    """A second network with an optimiser of its own, or None."""

    def batch(self, source: TrainingSource, size: int, generator: torch.Generator) -> Mapping[str, Any]:
        """Draw a batch on the CPU; the draw depends on ``generator`` alone."""

    def loss(self, batch: Mapping[str, Any], step: int, generator: torch.Generator) -> Mapping[str, Tensor]:
        """{"loss": scalar to minimise, other names: scalars to log}; runs ``self.model`` forward."""

    def adversary_loss(self, batch: Mapping[str, Any], step: int) -> Mapping[str, Tensor]:
        """{"loss": ..., ...} for the adversary; called after the model's step, only if there is one."""


class SupportsCheck(Protocol):
    """A config may offer ``check``: (field, message) for each thing that does not fit, before anything is built."""

    def check(self, sizes: Sizes) -> Iterable[tuple[str, str]]: ...
