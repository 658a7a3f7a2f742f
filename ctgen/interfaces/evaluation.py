"""What scores volumes: metrics, and the feature extractors and banks that they read.

Shapes and conventions: see ctgen.interfaces. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

from ctgen.interfaces.values import Report

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ctgen.volume import Volume

Plane = Literal["xy", "xz", "yz"]
"""Axial, coronal, sagittal: slices along D, along H, along W."""
Which = Literal["real", "generated", "reconstructed"]
"""The volumes of an EvaluationItem."""


@runtime_checkable
class Metric(Protocol):
    """Streaming: update per case, merge across processes, compute once.

    A class variable ``meanings`` (key -> text) may say what each value is. One that begins with "floor:" is not of generated
    volumes, but what to hold them against: it is shown apart and not compared.
    """

    higher_is_better: ClassVar[Mapping[str, bool | None]]
    """For every key that compute() may return; None where neither direction is better."""
    needs: ClassVar[frozenset[str]]
    """Of {"real", "reconstructed", "generated", "features", "report", "labels"}: an item without one of them is passed over."""

    def update(self, item: EvaluationItem) -> None: ...

    def merge(self, other: Metric) -> None: ...

    def compute(self) -> Mapping[str, float]: ...


@dataclass(frozen=True)
class EvaluationItem:
    """One case as the metrics see it. Volumes are canonical; ``boundaries`` are the first voxel slices of blocks 1, 2, ..."""

    id: str
    real: Volume | None = None
    reconstructed: Volume | None = None
    generated: Volume | None = None
    boundaries: tuple[int, ...] = ()
    seconds: float | None = None
    labels: Mapping[str, int] | None = None
    report: Report | None = None
    """What the generated volume was asked to show."""
    features: FeatureBank | None = None
    evaluations: int | None = None
    """How often the denoising network ran for the generated volume; None if unknown."""
    peak_bytes: int | None = None
    """Most memory that the generator held, on its device; None if unknown."""
    seed: int = 0
    """Of the generated volume's draw."""
    group: str = ""
    """Items of one group were generated from one report with several seeds; "" for an item by itself."""


@runtime_checkable
class FeatureExtractor(Protocol):
    """Volume -> features for distribution metrics: deterministic, without gradients, the volume unchanged.

    What it can do beyond ``features`` it shows by the methods of HasLogits, HasText, HasLabels.
    """

    width: int
    unit: Literal["slice", "volume"]
    """One row per slice of a plane, or one row per volume (which then ignores the plane)."""

    def describe(self) -> Mapping[str, Any]:
        """All that defines the numbers, JSON-ready: "network", "weights" (label, source, sha256 as in WeightsInfo; the source
        without the machine's folders), "preprocessing"."""

    def features(self, volume: Volume, plane: Plane = "xy") -> NDArray[np.float32]:
        """(N, width); N = 1 for the unit "volume"."""


@runtime_checkable
class HasLogits(Protocol):
    """An extractor that also classifies, for the inception score."""

    def logits(self, volume: Volume, plane: Plane = "xy") -> NDArray[np.float32]:
        """(N, classes) before the softmax, row by row as in ``features``."""


@runtime_checkable
class HasText(Protocol):
    """An extractor whose space holds reports too."""

    def text(self, reports: Sequence[Report]) -> NDArray[np.float32]:
        """(reports, width): comparable with ``features`` of volumes by their cosine."""


@runtime_checkable
class HasLabels(Protocol):
    """An extractor that also says what is in a volume."""

    def labels(self, volume: Volume) -> Mapping[str, float]:
        """Scores in 0..1 by CT-RATE's label names (ctgen.data.labels.LABELS, or some of them)."""


class StoredFeatures(Protocol):
    """Features that a metric may keep by the thousand: small to hold and to pickle if they lie on disk."""

    def read(self) -> NDArray[np.float32]:
        """(N, width)."""


class FeatureBank(Protocol):
    """Features of one case by the extractors of a run. ``key`` names an extractor; results are computed once.

    DataError, with what there is, for an unknown key, a volume that the case does not have, or an ability that the
    extractor does not have.
    """

    def has(self, which: Which) -> bool:
        """Whether the case has this volume."""

    def can(self, key: str, what: Literal["logits", "text", "labels"]) -> bool:
        """Whether the extractor has this ability."""

    def volume(self, key: str, which: Which, plane: Plane = "xy") -> NDArray[np.float32]:
        """(N, width)."""

    def stored(self, key: str, which: Which, plane: Plane = "xy", *, logits: bool = False) -> StoredFeatures:
        """The same (or the logits), to be read later."""

    def logits(self, key: str, which: Which, plane: Plane = "xy") -> NDArray[np.float32]:
        """(N, classes)."""

    def text(self, key: str, report: Report) -> NDArray[np.float32]:
        """(width,)."""

    def labels(self, key: str, which: Which) -> Mapping[str, float]:
        """Scores in 0..1 by label."""
