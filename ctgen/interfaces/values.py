"""What components hand to each other: cases, prompts, specs, posteriors, conditions.

Shapes and conventions: see ctgen.interfaces. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from ctgen.volume import Volume

Split = Literal["train", "valid"]
Predicts = Literal["velocity", "noise", "clean"]


@dataclass(frozen=True)
class LatentSpec:
    """Size of an autoencoder's latent space; known from its config, without weights."""

    channels: int
    stride: tuple[int, int, int]
    """Voxels per latent cell along (D, H, W)."""

    def grid(self, size: Sequence[int]) -> tuple[int, int, int]:
        """Latent cells (d, h, w) of a volume of ``size`` (D, H, W) voxels; raises ValueError if it does not divide."""
        for axis, voxels, stride in zip("DHW", size, self.stride, strict=True):
            if voxels % stride:
                raise ValueError(f"{axis} = {voxels} voxels is not a multiple of the latent stride {stride}")
        d, h, w = (voxels // stride for voxels, stride in zip(size, self.stride, strict=True))
        return d, h, w


@dataclass(frozen=True)
class TextSpec:
    """Size of a text encoder's output; known from its config, without weights."""

    width: int
    max_tokens: int
    pooled_width: int | None = None


@dataclass(frozen=True)
class Sizes:
    """Everything a config's ``check`` may compare with: derived once by the recipe, typed nowhere twice."""

    volume: tuple[int, int, int]
    """Voxels (D, H, W) of a prepared volume."""
    latent: LatentSpec
    text: TextSpec
    grid: tuple[int, int, int]
    """Latent cells (d, h, w) of a whole prepared volume."""
    block: int
    """Latent slices that the backbone sees at a time."""


@dataclass(frozen=True)
class Report:
    """A radiology report in CT-RATE's four parts; a missing part is the empty string."""

    findings: str
    impressions: str = ""
    clinical_information: str = ""
    technique: str = ""

    @property
    def short(self) -> Report:
        """The impressions alone, as somebody's own few words are read: as findings. The whole report if it has none."""
        return Report(findings=self.impressions) if self.impressions else self


@dataclass(frozen=True)
class Prompt:
    """What a text encoder reads: a report and, for templates that state it, the number of axial slices wanted."""

    report: Report
    slices: int | None = None


@dataclass(frozen=True)
class Case:
    """One scan with its report. ``labels`` maps CT-RATE's 18 names (ctgen.data.labels.LABELS) to 0 or 1; None if unknown."""

    id: str
    volume: Volume
    report: Report | None = None
    labels: Mapping[str, int] | None = None
    split: Split = "train"
    meta: Mapping[str, Any] = field(default_factory=dict)
    """JSON-ready facts about the case: source file, seed, findings with side and size, ..."""
    masks: Mapping[str, NDArray[np.bool_]] | None = None
    """Where findings are: (D, H, W) bool on the volume's grid, by label; None if unknown. The mask of a label that the case has
    but that is not here is unknown; a label that the case does not have needs none, so that {} is a case without findings."""


@dataclass(frozen=True)
class Skipped:
    """A case that a dataset leaves out, and why (shown to the user, kept in the manifest)."""

    id: str
    reason: str


@dataclass(frozen=True)
class Origin:
    """What decides a case, known without reading its voxels. Equal facts and equal bytes of ``files`` mean an equal case.

    ``facts`` (JSON-ready): all that is not in the files: how their numbers are read, the report, labels, split.
    """

    files: tuple[Path, ...]
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Posterior:
    """Moments of q(latent | volume), (B, c, d, h, w) float32 in the autoencoder's raw latent units; what the cache stores."""

    mean: Tensor
    logvar: Tensor | None = None


@dataclass(frozen=True)
class TextFeatures:
    """``tokens`` (B, L, E), ``mask`` (B, L) bool with True = token, ``pooled`` (B, E') or None."""

    tokens: Tensor
    mask: Tensor
    pooled: Tensor | None = None


@dataclass(frozen=True)
class Condition:
    """All that a backbone may condition on; what it does not use it ignores.

    ``context`` (B, c, d_ctx, h, w) latent slices just below the block; ``position`` (B, 2) block start and volume
    length in latent slices; ``spacing`` (B, 3) mm; ``drop`` (B,) bool, True = this element's text is dropped (null text);
    ``context_level`` (B,) standard deviation of the noise that was added to the context, negative where there is no context.
    """

    text: TextFeatures
    context: Tensor | None = None
    position: Tensor | None = None
    spacing: Tensor | None = None
    drop: Tensor | None = None
    context_level: Tensor | None = None


@dataclass(frozen=True)
class BlockExample:
    """One training example cut from a volume's latent by a rollout: (c, block, h, w), context (c, d_ctx, h, w)."""

    target: Tensor
    context: Tensor | None
    start: int
    """First latent slice of the block; 0 = the lowest slice of the volume."""
    depth: int
    """Latent slices of the whole volume."""


@dataclass(frozen=True)
class Markers:
    """Latents of the constant slices that mark the ends of a volume, each (c, 1, h, w), finalised (the backbone's units)."""

    start: Tensor
    end: Tensor


@dataclass(frozen=True)
class RolloutResult:
    """``latent`` (c, d, h, w); ``boundaries``: latent slices where a new block begins; ``note``: how it stopped."""

    latent: Tensor
    boundaries: tuple[int, ...]
    stopped_by: Literal["length", "end-marker", "limit"]
    note: str = ""


@dataclass(frozen=True)
class WeightsInfo:
    """Provenance of a component's weights. ``label`` is MINI, RANDOM, TRAINED or FILE and is printed with every result."""

    label: Literal["MINI", "RANDOM", "TRAINED", "FILE", "NONE"]
    source: str = ""
    sha256: str = ""
