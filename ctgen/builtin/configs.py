"""Configs of the built-in components. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar

from pydantic import Field

from ctgen.config import ComponentConfig
from ctgen.interfaces import LatentSpec, Sizes, TextSpec
from ctgen.weights import WeightsRef

Count = Annotated[int, Field(ge=1)]


class TinyAeConfig(ComponentConfig):
    """A linear codec of square pixel blocks in each slice, starting as the discrete cosine transform."""

    neutral: ClassVar[frozenset[str]] = frozenset({"weights"})

    cell: Annotated[int, Field(ge=2, le=32)] = 8
    """Pixels per latent cell along H and W; D is kept."""
    channels: Count = 16
    """Coefficients kept per cell, lowest frequencies first; at most cell * cell, which is lossless."""
    window_hu: tuple[float, float] = (-1000.0, 1000.0)
    """HU that become -1 and 1."""
    weights: WeightsRef | None = None
    """A trained codec (safetensors); None: the cosine transform, which needs none."""

    def latent_spec(self) -> LatentSpec:
        return LatentSpec(self.channels, (1, self.cell, self.cell))

    def check(self, sizes: Sizes) -> Iterable[tuple[str, str]]:
        if self.channels > self.cell**2:
            yield "channels", f"{self.channels} coefficients from a cell of {self.cell} x {self.cell} = {self.cell**2} pixels"
        if not self.window_hu[0] < self.window_hu[1]:
            yield "window_hu", f"the window's ends are out of order: {self.window_hu[0]} .. {self.window_hu[1]} HU"


class HashTextConfig(ComponentConfig):
    """Each word becomes a fixed pseudo-random vector; nothing is learnt and nothing is downloaded."""

    width: Count = 64
    max_tokens: Count = 96
    """Words beyond this are cut off."""

    def text_spec(self) -> TextSpec:
        return TextSpec(self.width, self.max_tokens, self.width)


class TinyConvConfig(ComponentConfig):
    """A few residual 3D convolutions, modulated by time and text."""

    neutral: ClassVar[frozenset[str]] = frozenset({"weights"})

    width: Annotated[int, Field(ge=4, multiple_of=4)] = 32
    layers: Count = 3
    weights: WeightsRef = "random"


class LinearFlowConfig(ComponentConfig):
    """Rectified flow: a straight line from data to noise, uniform times, equal steps. Nothing to set."""


class WholeVolumeConfig(ComponentConfig):
    """The whole volume is one block: no context, no seams."""

    depth: Count | None = None
    """Latent slices of every block: shorter volumes are filled with end markers, longer ones cropped at random.
    None: each volume as it is, which asks for equal depths within a batch and an explicit length in sampling."""
    stop_tolerance: Annotated[float, Field(gt=0)] = 0.25
    """Mean absolute difference from the end marker under which a trailing slice counts as "after the volume"."""

    def block_length(self, depth: int) -> int:
        return self.depth or depth
