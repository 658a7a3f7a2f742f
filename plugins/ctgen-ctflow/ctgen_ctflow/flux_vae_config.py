"""Config of the FLUX-layout autoencoder. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field

from ctgen.interfaces import LatentSpec, Sizes
from ctgen_ctflow.flux_vae_pixels import SliceCodecConfig

Architecture = Literal["flux", "mini"]

_WIDTHS: dict[str, tuple[int, ...]] = {"flux": (128, 256, 512, 512), "mini": (16, 32, 96, 144)}
_LAYERS: dict[str, int] = {"flux": 2, "mini": 1}
_GROUPS: dict[str, int] = {"flux": 32, "mini": 4}


class FluxVaeConfig(SliceCodecConfig):
    """FLUX.1's autoencoder layout at any width: slices go one by one through a 2-D AutoencoderKL.

    Its own ``scale`` and ``shift``: those of config.json or of the file's metadata, else FLUX's 0.3611 and 0.1159; random
    weights: 1 and 0.
    """

    architecture: Architecture = "flux"
    widths: tuple[int, ...] | None = Field(
        None,
        min_length=1,
        description="channels per level, overriding the architecture's; each level after the first halves H and W",
    )
    layers: Annotated[int, Field(ge=1)] | None = Field(None, description="residual blocks per level; null: the architecture's")
    groups: Annotated[int, Field(ge=1)] | None = Field(None, description="groups of every norm; null: the architecture's")
    latent_channels: Annotated[int, Field(ge=1)] = 16
    image_channels: Literal[1, 3] = 3
    mid_attention: bool = Field(True, description="attention over the whole slice at the lowest resolution")
    start: Literal["default", "linear"] = Field(
        "default",
        description="how random weights begin: as diffusers makes them, or as a linear transform codec, from which small "
        "networks train much faster",
    )

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
        yield from super().check(sizes)
