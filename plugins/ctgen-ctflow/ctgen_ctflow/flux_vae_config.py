"""Config of the FLUX-layout autoencoder. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ctgen.config import ComponentConfig
from ctgen.interfaces import LatentSpec, Sizes
from ctgen.weights import WeightsRef

Architecture = Literal["flux", "mini"]

_WIDTHS: dict[str, tuple[int, ...]] = {"flux": (128, 256, 512, 512), "mini": (16, 32, 96, 144)}
_LAYERS: dict[str, int] = {"flux": 2, "mini": 1}
_GROUPS: dict[str, int] = {"flux": 32, "mini": 4}


class FluxVaeConfig(ComponentConfig):
    """FLUX.1's autoencoder layout at any width: slices go one by one through a 2-D AutoencoderKL.

    ``range`` is where the window's two ends land in the network's input: CTFlow's release uses [0, 0.8333], so that white (1)
    stays free to mean "after the volume"; FLUX itself was trained on [-1, 1].
    """

    neutral: ClassVar[frozenset[str]] = frozenset({"chunk", "weights"})

    weights: WeightsRef
    architecture: Architecture = "flux"
    widths: tuple[int, ...] | None = None
    """Channels per level, overriding the architecture's; each level after the first halves H and W."""
    layers: Annotated[int, Field(ge=1)] | None = None
    groups: Annotated[int, Field(ge=1)] | None = None
    latent_channels: Annotated[int, Field(ge=1)] = 16
    image_channels: Literal[1, 3] = 3
    mid_attention: bool = True
    window_hu: tuple[float, float] = (-1000.0, 1000.0)
    range: tuple[float, float] = (0.0, 0.8333)
    start: Literal["default", "linear"] = "default"
    """How random weights begin: as diffusers makes them, or as a linear transform codec (see linear_start), from which small
    networks train much faster."""
    scale: float | None = None
    """Latents are (raw - shift) * scale. None: from the weights file's metadata, else FLUX's 0.3611 (random weights: 1)."""
    shift: float | None = None
    chunk: Annotated[int, Field(ge=1)] = 16
    """Slices per pass through the network."""

    @property
    def channels(self) -> tuple[int, ...]:
        return self.widths or _WIDTHS[self.architecture]

    @property
    def layers_per_level(self) -> int:
        return self.layers or _LAYERS[self.architecture]

    @property
    def norm_groups(self) -> int:
        return self.groups or _GROUPS[self.architecture]

    def latent_spec(self) -> LatentSpec:
        stride = 2 ** (len(self.channels) - 1)
        return LatentSpec(self.latent_channels, (1, stride, stride))

    def check(self, sizes: Sizes) -> Iterable[tuple[str, str]]:
        for width in self.channels:
            if width % self.norm_groups:
                yield "groups", f"{self.norm_groups} normalisation groups do not divide a level of {width} channels"
        if not self.window_hu[0] < self.window_hu[1]:
            yield "window_hu", f"the window's ends are out of order: {self.window_hu[0]} .. {self.window_hu[1]} HU"
        if not self.range[0] < self.range[1]:
            yield "range", f"the range's ends are out of order: {self.range[0]} .. {self.range[1]}"
        if self.range[1] > 1:
            yield "range", f"the range ends at {self.range[1]}, but white (1) is the most that the network is given"
