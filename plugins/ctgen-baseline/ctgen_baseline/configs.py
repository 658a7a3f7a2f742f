"""What a recipe may write beside ``use:`` for the baselines. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PositiveInt, model_validator
from typing_extensions import Self

from ctgen.backbone_checks import TextUse, misfits, undivided
from ctgen.config import ComponentConfig
from ctgen.interfaces import Sizes
from ctgen.weights import WeightsRef

Stride = tuple[PositiveInt, PositiveInt, PositiveInt]
Components = dict[str, Any]


class Unet3dConfig(ComponentConfig):
    """A U-Net of residual 3-D convolutions over the latent of a whole volume, with attention at its lowest level."""

    neutral: ClassVar[frozenset[str]] = frozenset({"gradient_checkpointing", "weights"})

    widths: tuple[Annotated[int, Field(ge=8, multiple_of=8)], ...] = (32, 64, 128)
    """Channels of each level, the finest first."""
    strides: tuple[Stride, ...] = ((4, 1, 1), (2, 2, 2))
    """Cells (d, h, w) that become one from each level to the next; one fewer than widths. Their product must divide the
    volume's latent."""
    blocks: PositiveInt = 1
    """Residual blocks per level, on the way down and on the way up."""
    middle: PositiveInt = 2
    """Pairs of residual block and attention at the lowest level."""
    heads: PositiveInt = 4
    text: TextUse = "pooled"
    """"pooled": one vector per report shifts and scales every block; "tokens": also attention over the report's tokens at the
    lowest level, and their mean is the vector."""
    text_whitening: bool = False
    """Text vectors are made to vary alike in all directions, by the mean and covariance of the reports that training begins
    with: what sets reports apart (a side, a lobe) is else a hundredth of what CT-CLIP's vector holds."""
    skip: Literal["none", "wiener"] = "none"
    """"wiener": the network corrects the best linear guess of the velocity instead of making all of it, as in EDM
    (arXiv 2206.00364)."""
    latent_std: tuple[Annotated[float, Field(gt=0.0)], ...] = (1.0,)
    """For the wiener skip and sample.linear_guidance: standard deviation of the finalised latent, one or per channel."""
    gradient_checkpointing: bool = False
    """Recompute each block in the backward pass: less memory, about a third more time."""
    weights: WeightsRef = "random"

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.strides) != len(self.widths) - 1:
            raise ValueError(f"{len(self.widths)} widths need {len(self.widths) - 1} strides, found {len(self.strides)}")
        if self.widths[-1] % self.heads:
            raise ValueError(f"heads {self.heads} does not divide the lowest width {self.widths[-1]}")
        return self

    @property
    def stride(self) -> tuple[int, int, int]:
        """Cells (d, h, w) of the input per cell of the lowest level."""
        d, h, w = (math.prod(stride[axis] for stride in self.strides) for axis in range(3))
        return d, h, w

    def check(self, sizes: Sizes) -> Iterable[tuple[str, str]]:
        for _, cells in undivided(sizes, self.stride):
            yield "strides", f"together {self.stride}, which does not divide the {cells}"
        yield from misfits(sizes, latent_std=self.latent_std, text=self.text)


class MeanVolumeConfig(ComponentConfig):
    """The same volume for every report: sharp in nothing, right on average. Nothing to set."""


class NearestTrainConfig(ComponentConfig):
    """A real scan of somebody else: perfect texture, and what a model that memorises would give."""

    copies: PositiveInt = 1
    """The seed chooses among so many nearest training cases."""


class VaeRoundtripConfig(ComponentConfig):
    """The real scan of the case through the autoencoder: the ceiling of everything generated in its latent space."""

    autoencoder: Components = {"use": "flux-vae", "architecture": "mini", "weights": "mini"}
    """``use`` and fields, as in a recipe's section ``autoencoder``."""


class NoiseConfig(ComponentConfig):
    """Volumes without any anatomy: the floor of every quality."""

    space: Literal["hu", "latent"] = "hu"
    """"hu": each voxel is drawn by itself from the training volumes' histogram; "latent": a standard normal latent, decoded, as
    from a model that has learnt nothing."""
    autoencoder: Components = {"use": "flux-vae", "architecture": "mini", "weights": "mini"}
    """For "latent": ``use`` and fields, as in a recipe's section ``autoencoder``."""
