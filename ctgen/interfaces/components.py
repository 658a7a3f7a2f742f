"""The parts of a recipe that compute: autoencoders, text encoders, classifiers, backbones, schedules, rollouts.

Shapes and conventions: see ctgen.interfaces. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

from ctgen.interfaces.values import (
    BlockExample,
    Condition,
    LatentSpec,
    Markers,
    Posterior,
    Predicts,
    Prompt,
    RolloutResult,
    TextFeatures,
    TextSpec,
    WeightsInfo,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor


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
    of reports that it will see, for what it wants to know of them all; also when a training is resumed. Its config may have
    ``latent_std``, a tuple: the standard deviation of the data it was made for, one number or one per channel, which
    ``sample.linear_guidance`` needs. Training compares it with the latents if that is on, or the config's ``skip`` is "wiener".
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
