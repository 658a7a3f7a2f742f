"""Config of the adversarial-VAE objective. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ctgen.config import ComponentConfig
from ctgen.interfaces import Sizes

Weight = Annotated[float, Field(ge=0)]


class AVaeConfig(ComponentConfig):
    """Reconstruction + KL + structural similarity + a patch adversary, on random in-plane crops of axial slices.

    Errors are taken on HU mapped so that the autoencoder's window is [0, 1].
    """

    trains: ClassVar[Literal["autoencoder"]] = "autoencoder"
    reads: ClassVar[Literal["volumes"]] = "volumes"
    sections: ClassVar[frozenset[str]] = frozenset({"autoencoder"})

    crop: Annotated[int, Field(ge=16)] = 96
    """Pixels of a square training crop; a multiple of the autoencoder's in-plane stride."""
    l1: Weight = 1.0
    l2: Weight = 10.0
    kl: Weight = 1e-6
    ssim: Weight = 0.1
    adversarial: Weight = 0.0
    """Weight of the hinge adversary's term; 0 builds no adversary."""
    adversary_from: Annotated[int, Field(ge=0)] = 1000
    """First step at which the adversary speaks."""
    zoom: tuple[float, float] = (0.5, 1.25)
    """Range of random magnification: under 1 shows coarser pixels than the prepared grid has."""
    intensity: Weight = 0.1
    """Half-width of a random factor and (in units of the window) offset on HU."""
    noise_hu: Weight = 25.0
    """Upper end of the standard deviation of added white noise."""

    def check(self, sizes: Sizes) -> Iterable[tuple[str, str]]:
        stride = sizes.latent.stride[1:]
        if any(self.crop % step for step in stride):
            yield "crop", f"{self.crop} pixels is not a multiple of the autoencoder's in-plane stride {stride}"
        if not 0 < self.zoom[0] <= self.zoom[1]:
            yield "zoom", f"a range of magnifications is positive and in order, not {self.zoom[0]} .. {self.zoom[1]}"
        if self.intensity >= 1:
            yield "intensity", f"a factor of 1 - {self.intensity} would turn the picture's greys around"
