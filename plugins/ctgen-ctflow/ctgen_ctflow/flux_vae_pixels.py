"""What codecs of single CT slices share: the pixel mapping and the config fields around it. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, TypeVar

from pydantic import Field

from ctgen.config import ComponentConfig
from ctgen.interfaces import Sizes
from ctgen.weights import WeightsRef

if TYPE_CHECKING:
    from torch import Tensor

Precision = Literal["float32", "bfloat16"]
Number = TypeVar("Number", float, "Tensor")
WHITE = 1.0
"""The brightest pixel that a network is given; above a window that ends lower, it means "after the volume"."""


@dataclass(frozen=True)
class PixelMap:
    """HU <-> a network's pixels: ``window_hu``'s ends land on ``range``'s.

    Below the window HU are clipped; above it they are kept as far as white (1). Between black and white ``to_hu`` inverts
    ``to_pixels``: to within 2**-22 of the window's width in float32, so that whole HU come back exactly when rounded.
    """

    window_hu: tuple[float, float]
    range: tuple[float, float]

    def to_pixels(self, hu: Tensor) -> Tensor:
        """HU, any shape -> pixels from ``range[0]`` to 1."""
        (low, high), (start, end) = self.window_hu, self.range
        return ((hu - low) / (high - low) * (end - start) + start).clamp(start, WHITE)

    def to_hu(self, pixels: Number) -> Number:
        """Pixels, any shape, beyond the range too -> HU; not clipped."""
        (low, high), (start, end) = self.window_hu, self.range
        return (pixels - start) / (end - start) * (high - low) + low

    @property
    def markers_hu(self) -> tuple[float, float]:
        """HU that become black (the range's start, 0 in CTFlow) and white (1)."""
        return self.to_hu(self.range[0]), self.to_hu(WHITE)


class SliceCodecConfig(ComponentConfig):
    """Fields of every autoencoder that sends slices one by one through a 2-D network for images."""

    neutral: ClassVar[frozenset[str]] = frozenset({"chunk", "weights"})

    weights: WeightsRef = Field(
        description='"random", a path, or hf:owner/name[/folder]; "mini" where mini weights are shipped'
    )
    window_hu: tuple[float, float] = Field((-1000.0, 1000.0), description="HU that land on the ends of ``range``")
    range: tuple[float, float] = Field(
        (0.0, 0.8333),
        description="pixels at the window's ends: [0, 0.8333] in CTFlow's release, where white (1) stays free to mean "
        '"after the volume"; [-1, 1] is what FLUX itself was trained on',
    )
    precision: Precision = Field(
        "float32",
        description="bfloat16: faster, half the memory; moments and pixels stay float32. There is no automatic choice: "
        "results must not depend on the machine",
    )
    chunk: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        "auto", description="slices per pass through the network; auto: from free memory, at most 16"
    )

    scale: float | None = Field(
        None, description="latents are (raw - shift) * scale; null: as stored with the weights, else the network's own"
    )
    shift: float | None = Field(None, description="null: as stored with the weights, else the network's own")

    @property
    def pixels(self) -> PixelMap:
        return PixelMap(self.window_hu, self.range)

    def check(self, sizes: Sizes) -> Iterable[tuple[str, str]]:
        if not self.window_hu[0] < self.window_hu[1]:
            yield "window_hu", f"the window's ends are out of order: {self.window_hu[0]} .. {self.window_hu[1]} HU"
        if not self.range[0] < self.range[1]:
            yield "range", f"the range's ends are out of order: {self.range[0]} .. {self.range[1]}"
        if self.range[1] > WHITE:
            yield "range", f"the range ends at {self.range[1]}, but white (1) is the most that the network is given"
