"""What a recipe may write beside ``use: label-cnn``. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar

from pydantic import Field, PositiveInt, model_validator
from typing_extensions import Self

from ctgen.config import ComponentConfig
from ctgen.interfaces import Sizes
from ctgen.weights import GivenWeights, WeightsRef

GROUPS = 8
Spacing = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Window = tuple[float, float]


class LabelCnnConfig(ComponentConfig):
    """A small 3-D convolutional network that says which of CT-RATE's 18 labels a volume has, and where.

    It knows nothing of reports: what it finds is independent of the text encoder that a generator listens to.
    """

    neutral: ClassVar[frozenset[str]] = frozenset({"weights"})

    windows: tuple[Window, ...] = ((-1000.0, -700.0), (-700.0, -100.0), (-100.0, 200.0), (200.0, 1000.0))
    """HU from -1 to 1 of each channel that the network sees."""
    widths: Annotated[tuple[Annotated[int, Field(ge=GROUPS, multiple_of=GROUPS)], ...], Field(min_length=2)] = (
        16,
        48,
        96,
        128,
    )
    """Channels at strides 2, 4, 8, ...; from stride 4 on the network also says where each label is."""
    residuals: tuple[Annotated[int, Field(ge=0)], ...] = (0, 1, 2, 1)
    """Residual convolutions at each stride."""
    size: tuple[PositiveInt, PositiveInt, PositiveInt] = (96, 112, 112)
    """Voxels (D, H, W) that are read; larger volumes are cropped evenly."""
    spacing_mm: tuple[Spacing, Spacing, Spacing] = (3.0, 3.0, 3.0)
    """Of the voxels that it is trained on; the feature extractor brings volumes to it."""
    weights: WeightsRef = "random"
    """"random", "mini" (recipes/mini/labels.yaml), or a safetensors file of ours."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.residuals) != len(self.widths):
            raise ValueError(f"{len(self.widths)} widths need {len(self.widths)} residuals, found {len(self.residuals)}")
        if any(low >= high for low, high in self.windows) or not self.windows:
            raise ValueError(f"windows are one or more pairs of HU, low before high, not {self.windows}")
        for axis, voxels in zip("DHW", self.size, strict=True):
            if voxels % 2 ** len(self.widths):
                raise ValueError(f"size: {axis} = {voxels} is not a multiple of the stride {2 ** len(self.widths)}")
        # found with torch 2.13: the weights' gradient reads memory that nobody wrote
        if self.size[0] == 2 * 2 ** len(self.widths) and self.residuals[-1]:
            raise ValueError(
                f"size: D = {self.size[0]} leaves 2 slices at the last stride, where gradients of a residual convolution in "
                "bfloat16 are wrong on CPUs; take another D, or no residuals there"
            )
        return self

    def check(self, sizes: Sizes) -> Iterable[tuple[str, str]]:
        for axis, have, want in zip("DHW", sizes.volume, self.size, strict=True):
            if have < want:
                yield "size", f"{want} voxels along {axis} are read, a prepared volume has {have}"


class LabelCnnFeaturesConfig(ComponentConfig):
    """What ``label-cnn`` finds in a volume: a score for each label, and the features that it pools."""

    weights: GivenWeights = "mini"
    """"mini" (recipes/mini/labels.yaml), or a safetensors file of ours, which says its own sizes."""
