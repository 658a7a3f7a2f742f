"""What configs of objectives over whole volumes share. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from pydantic import Field

from ctgen.config import ComponentConfig
from ctgen.interfaces import Sizes

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Steps = Annotated[int, Field(ge=0)]


class WholeVolumesConfig(ComponentConfig):
    """How training volumes are varied."""

    shift_voxels: tuple[Steps, Steps, Steps] = (0, 0, 0)
    """Volumes are moved by up to this many voxels (D, H, W) either way; air moves in. Left stays left."""
    noise_hu: Weight = 0.0
    """Upper end of the standard deviation of added white noise."""
    offset_hu: Weight = 0.0
    """Standard deviation of a constant added to a whole volume."""

    def check(self, sizes: Sizes) -> Iterable[tuple[str, str]]:
        for axis, shift, size in zip("DHW", self.shift_voxels, sizes.volume, strict=True):
            if shift >= size:
                yield "shift_voxels", f"{shift} voxels along {axis} move the whole volume of {size} away"
