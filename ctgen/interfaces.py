"""What crosses the boundary between ctgen and a plugin: small dataclasses and structural Protocols.

Shape legend, used everywhere in ctgen:

=========  =====================================================================
``B``      batch
``C``      channel
``D H W``  voxels of a volume: axial slice (inferior to superior), row (anterior to posterior), column (right to left)
``c``      latent channels
``d h w``  latent cells along D, H, W
``L E``    text tokens, text width
=========  =====================================================================

A volume is in **HU**, canonical orientation LPS, spacing in mm in the order (D, H, W).
Time runs from **t = 1 (noise) to t = 0 (data)**; velocity is noise - data.

This module imports no torch: it is read by ``ctgen ls`` and ``ctgen validate``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from ctgen.volume import Volume

Split = Literal["train", "valid"]
Predicts = Literal["velocity", "noise", "clean"]
Plane = Literal["xy", "xz", "yz"]
"""Axial, coronal, sagittal: slices along D, along H, along W."""
Which = Literal["real", "generated", "reconstructed"]
"""The volumes of an EvaluationItem."""


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


class Denoise(Protocol):
    """Integrates one block from noise to data: context (c, d_ctx, h, w) or None -> block (c, block, h, w).

    ``known`` (c, k, h, w): the block's first k slices, which are there already. They are noised to the time of each evaluation,
    so that the new slices continue them; in the result they are as given, but for the noise that the schedule leaves at t = 0.
    """

    def __call__(
        self,
        *,
        shape: tuple[int, int, int, int],
        context: Tensor | None,
        start: int,
        depth: int | None,
        generator: torch.Generator,
        known: Tensor | None = None,
    ) -> Tensor: ...


@runtime_checkable
class Autoencoder(Protocol):
    """An ``nn.Module`` whose methods are differentiable, so that an objective can train it."""

    latent: LatentSpec
    weights: WeightsInfo
    hu_range: tuple[float, float]
    """HU of black and of tissue's upper end; values outside are clipped."""
    marker_hu: tuple[float, float]
    """HU of the constant slices that mean "before the volume" and "after the volume"."""

    def encode(self, volume: Tensor) -> Posterior:
        """(B, 1, D, H, W) HU -> moments; deterministic."""

    def finalise(self, posterior: Posterior, *, generator: torch.Generator | None) -> Tensor:
        """Draw from the posterior (its mean if ``generator`` is None), shift and scale: (B, c, d, h, w)."""

    def decode(self, latent: Tensor) -> Tensor:
        """Undo shift and scale, decode: (B, c, d, h, w) -> (B, 1, D, H, W) HU."""


@runtime_checkable
class TextEncoder(Protocol):
    text: TextSpec
    weights: WeightsInfo

    def encode(self, prompts: Sequence[Prompt]) -> TextFeatures: ...


@runtime_checkable
class PairEncoder(Protocol):
    """A text encoder, an ``nn.Module``, that also embeds volumes: what the objective ``contrastive`` trains. Differentiable.

    May also have ``lock_text()``: what ``encode`` reads texts with wants no gradients any more (contrastive: lock_text).
    """

    logit_scale: Tensor
    """Factor on cosines, a scalar above 0; it may be learnt."""

    def report_text(self, prompt: Prompt) -> str:
        """The prompt as the encoder reads it."""

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """(B, l) of unit length; texts as they are."""

    def embed_volumes(self, volume: Tensor) -> Tensor:
        """(B, 1, D, H, W) HU on the prepared grid -> (B, l) of unit length."""


class TokenGrid(NamedTuple):
    """Which voxels tokens stand for: ``window`` (slices of D, H, W) is tiled by cells of ``cell`` voxels (D, H, W)."""

    window: tuple[slice, slice, slice]
    cell: tuple[int, int, int]


@runtime_checkable
class PlaceEncoder(PairEncoder, Protocol):
    """A PairEncoder that also gives a vector for each part of a volume: what ``contrastive`` needs to learn from masks.

    Parts may be told at several levels of the network, the finest first; the last are what its vector is made of. If the maxima
    of all levels go into the vector, it may say so by ``pools_levels``: True; then each level's channels are the labels.
    """

    token_channels: Sequence[int]
    """C of each level."""

    def embed_places(self, volume: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        """As ``embed_volumes``, and tokens (B, d, h, w, C) of each level, in the order of D, H, W."""

    def token_grids(self, shape: Sequence[int]) -> Sequence[TokenGrid]:
        """Of each level, for volumes of ``shape`` (D, H, W)."""


@runtime_checkable
class Classifier(Protocol):
    """An ``nn.Module`` that says which labels a volume has: what the objective ``volume-labels`` trains. Differentiable."""

    weights: WeightsInfo

    def forward(self, volume: Tensor) -> Tensor:
        """(B, 1, D, H, W) HU on the prepared grid -> logits (B, 18) in the order of ctgen.data.labels.LABELS."""


@runtime_checkable
class PlaceClassifier(Classifier, Protocol):
    """A Classifier that also says where: what ``volume-labels`` needs to learn from masks. Levels as of PlaceEncoder."""

    token_channels: Sequence[int]
    """C of each level, at least 18: channel k rises with label k."""

    def classify_places(self, volume: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        """As ``forward``, and tokens (B, d, h, w, C) of each level, in the order of D, H, W."""

    def token_grids(self, shape: Sequence[int]) -> Sequence[TokenGrid]:
        """Of each level, for volumes of ``shape`` (D, H, W)."""


@runtime_checkable
class Backbone(Protocol):
    """An ``nn.Module``; ``target(config, *, latent, text)`` builds it.

    May also have ``fit_texts(texts)``, called once before training with an iterator over the TextFeatures (batch of 1 each)
    of reports that it will see, for what it wants to know of them all; also when a training is resumed.
    """

    predicts: Predicts
    weights: WeightsInfo

    def forward(self, noisy: Tensor, time: Tensor, condition: Condition) -> Tensor:
        """(B, c, d, h, w), (B,) in [0, 1] -> (B, c, d, h, w)."""


@runtime_checkable
class TokenBackbone(Backbone, Protocol):
    """A Backbone that also tells its hidden tokens: what ``latent-flow`` needs for its ``finding_head``."""

    hidden_width: int
    """C of a token."""
    token_cells: tuple[int, int, int]
    """Latent cells (d, h, w) that a token stands for; tokens tile the block."""

    def forward_hidden(self, noisy: Tensor, time: Tensor, condition: Condition) -> tuple[Tensor, Tensor]:
        """As ``forward``, and tokens (B, d, h, w, C) from within the network, where what is generated takes shape."""


@dataclass(frozen=True)
class Coefficients:
    """z_t = alpha x + sigma eps, and the derivatives of both by t; float64 tensors of time's shape."""

    alpha: Tensor
    sigma: Tensor
    d_alpha: Tensor
    d_sigma: Tensor


@runtime_checkable
class Schedule(Protocol):
    def coefficients(self, time: Tensor) -> Coefficients: ...

    def training_times(self, batch: int, generator: torch.Generator) -> Tensor:
        """(B,) float64 in [0, 1]."""

    def sampling_times(self, steps: int, cells: int) -> Tensor:
        """(steps + 1,) float64, strictly decreasing from 1 to 0; ``cells`` = latent cells per block, for resolution shifts."""


@runtime_checkable
class SteppingSchedule(Protocol):
    """A Schedule that also steps by itself, in place of ctgen's solvers.

    Its config's ClassVar ``solvers``, a frozenset of names of sample.solver, says which it stands for; the rest are refused.
    """

    def integrate(
        self, velocity: Callable[[Tensor, float], Tensor], z: Tensor, times: Tensor, *, generator: torch.Generator
    ) -> Tensor:
        """z (1, c, d, h, w) at times[0] -> at times[-1]; ``times`` are sampling_times, or their last ones."""


@runtime_checkable
class Rollout(Protocol):
    """Owns block length, context, overlap, padding and the stop rule, for training and for sampling.

    May also have ``example_from(read, depth, markers, generator) -> BlockExample``, what ``example`` does for a latent of
    ``depth`` slices that is not in memory: ``read(first, end)`` gives its slices (c, end - first, h, w), 0 <= first <= end <=
    depth. To be called once: a second call would give another draw from the posterior. With it, training reads blocks and not
    whole volumes.

    And ``for_batch(size, generator) -> (Rollout, int)``: which rollout cuts a batch for which ``size`` examples were asked, and
    how many it is to cut. So batches may have blocks of different lengths, but all blocks of a batch the same.
    """

    def example(self, latent: Tensor, markers: Markers, generator: torch.Generator) -> BlockExample:
        """Cut one training block from a finalised volume latent (c, d, h, w)."""

    def generate(
        self,
        denoise: Denoise,
        *,
        shape: tuple[int, int, int],
        depth: int | None,
        markers: Markers,
        head: Tensor | None,
        generator: torch.Generator,
        progress: Callable[[int, int], None] | None = None,
    ) -> RolloutResult:
        """Compose a volume of ``depth`` latent slices (None: until the stop rule fires) of ``shape`` (c, h, w).

        ``head`` (c, d_head, h, w) is kept as the first slices and continued. ``progress(slices done, slices expected)``.
        A rollout with a block-wise mode also takes ``teacher`` (c, d, h, w) or None: a real volume whose slices, and not the
        generated ones, are the context of every block; its length is the result's if ``depth`` is None.
        """


@runtime_checkable
class Dataset(Protocol):
    """Cases by index. ``ids`` and ``skipped`` are cheap; ``__getitem__`` reads or makes the volume.

    May also have ``origin(index) -> Origin``: when scans are added later, the prepared cases whose origin is unchanged are
    taken over; without it every case is prepared again.
    """

    ids: Sequence[str]
    skipped: Sequence[Skipped]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Case: ...


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


@runtime_checkable
class Exporter(Protocol):
    suffix: str
    """File suffix with its dot, such as ".nii.gz"."""

    def write(self, volume: Volume, path: Path) -> Path:
        """Write atomically; returns the path written."""


@dataclass(frozen=True)
class CaseRequest:
    """What a generator is asked for: ``slices`` of the result (None: the model decides), spacing (D, H, W) in mm (None: the
    model's own), ``head``, a scan whose first block is kept and continued, or ``teacher``, a scan whose real slices are the
    context of every block (block-wise; not together with a head)."""

    id: str
    report: Report
    slices: int | None = None
    spacing_mm: tuple[float, float, float] | None = None
    head: Volume | None = None
    teacher: Volume | None = None


@runtime_checkable
class Generator(Protocol):
    """A whole report-to-volume system. The draw depends on ``seed`` and ``request.id`` alone."""

    def generate(self, request: CaseRequest, seed: int) -> Volume: ...


@runtime_checkable
class NeedsData(Protocol):
    """A Generator that looks at real cases, such as the mean of the training volumes.

    Whoever runs it calls ``prepare`` once, before the first ``generate``; ``generate`` before that is a DataError. It then
    answers for any request, with volumes on the grid of the cases it was shown, and draws as every Generator does.
    """

    def prepare(self, train: Dataset, held_out: Dataset) -> None:
        """``train``: what a model may learn from. ``held_out``: the cases whose reports will be asked for, by the same ids
        (CaseRequest.id); only a generator that by its nature must see the real scan (a reconstruction) may read them.

        Volumes are canonical and prepared, all of one grid. Both may be large: cases are read one at a time, each as often as
        wanted, and the data sets outlive the generator. An empty ``train`` is a DataError if it is needed.
        """


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

    def text(self, index: int) -> TextFeatures:
        """Features from the cache, batch of 1."""

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
