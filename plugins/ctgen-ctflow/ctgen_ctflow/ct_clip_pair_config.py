"""What a recipe may write beside ``use: ct-clip-pair``. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveInt, model_validator
from typing_extensions import Self

from ctgen.config import ComponentConfig
from ctgen.interfaces import Sizes
from ctgen.weights import WeightsRef
from ctgen_ctflow.ct_clip_config import CtClipConfig
from ctgen_ctflow.ct_clip_sizes import ImageSizes

Layers = Annotated[int, Field(ge=1)]
Spacing = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class ImageTowerConfig(ComponentConfig):
    """CT-CLIP's image tower. The published one: 4 + 4 layers x 512, 8 heads x 32, 8192 codes, 24 x 24 patches of 10 x 20 x 20.

    ``windows``, ``stem``, ``quantised: false`` and ``pool: ...+max`` are not CT-CLIP's: they let a small network learn from
    thousands of scans and not from tens of thousands.
    """

    width: PositiveInt = 128
    spatial_layers: Layers = 2
    temporal_layers: Layers = 1
    heads: PositiveInt = 4
    head_width: PositiveInt = 32
    feed_forward: PositiveInt = 256
    codes: PositiveInt = 512
    """Rows of the codebook, where tokens are quantised."""
    patch: PositiveInt = 16
    """Voxels along each side of a patch in plane."""
    patch_slices: PositiveInt = 8
    grid: PositiveInt = 7
    """Patches along each side of a slice; a slice has grid x patch voxels along each side."""
    slices: PositiveInt = 96
    spacing_mm: tuple[Spacing, Spacing, Spacing] = (3.0, 3.0, 3.0)
    """(D, H, W), as in prepare.spacing_mm."""
    windows: tuple[tuple[float, float], ...] = ()
    """HU (low, high), each a channel of its own; (): one channel, -1000 .. 1000."""
    stem: tuple[PositiveInt, ...] = ()
    """Channels of convolutions before the patches, 3 x 3 x 3 wide and of stride 2 (the first: see stem_start)."""
    stem_start: Literal[2, 4] = 2
    """Stride of the stem's first convolution. 4: cells of 4 x 4 x 4 voxels that do not overlap, several times faster."""
    stem_first_residuals: Annotated[int, Field(ge=0)] = 0
    """Convolutions of stride 1, each added to what it reads, after the stem's first, at half resolution (stem_start: 2)."""
    stem_residuals: Annotated[int, Field(ge=0)] = 0
    """Convolutions of stride 1, each added to what it reads, after each of the stem's but the first."""
    quantised: bool = True
    """Tokens are rows of a codebook. Training needs gradients, and therefore false."""
    pool: Literal["slices", "slices+max", "levels+max", "places"] = "slices"
    """The mean along the slices; or with it the maximum over all tokens; or also those of what each of the stem's convolutions
    after the first makes, for findings that are smaller than a patch. "places": at these levels, each of which hears from the
    coarser ones, maxima and means over all and over quarters: fewer numbers than the mean at each place of a slice, which a
    thousand scans are too few for."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        step = self.stem_start << (len(self.stem) - 1) if self.stem else 1
        for name in ("patch", "patch_slices"):
            if getattr(self, name) % step:
                raise ValueError(f"{name} {getattr(self, name)} is not a multiple of the stem's stride {step}")
        if self.stem_first_residuals and (not self.stem or self.stem_start != 2):
            raise ValueError("stem_first_residuals need a stem that starts with stride 2")
        if self.pool == "places" and not self.stem:
            raise ValueError("pool: places needs a stem, whose convolutions see what is smaller than a patch")
        if self.slices % self.patch_slices:
            raise ValueError(f"patch_slices {self.patch_slices} does not divide slices {self.slices}")
        if self.pool == "places" and (self.grid < 2 or self.slices < 2 * self.patch_slices):
            raise ValueError("pool: places needs two patches or more along slices and in plane, to tell quarters")
        for low, high in self.windows:
            if not -1000 <= low < high <= 1000:
                raise ValueError(f"a window lies in -1000 .. 1000 HU, low before high, not [{low:g}, {high:g}]")
        return self

    def sizes(self) -> ImageSizes:
        """z, x, y are D, W, H."""
        deep, high, wide = self.spacing_mm
        fields = self.model_dump(exclude={"spacing_mm"})
        return ImageSizes(**fields, spacing_mm=(deep, wide, high))


class CtClipPairConfig(CtClipConfig):
    """CT-CLIP whole, as a text encoder that also embeds volumes; the objective ``contrastive`` trains it.

    Its weights file serves ``ct-clip`` as well, which reads the text tower alone.
    """

    neutral: ClassVar[frozenset[str]] = CtClipConfig.neutral | {"text_weights"}

    latent: PositiveInt | None = 128
    """Width of the space of reports and volumes."""
    image: ImageTowerConfig = ImageTowerConfig()
    """The image tower."""
    weights: WeightsRef = "random"
    """"random", "mini" (shipped; recipes/mini/clip.yaml and the two after it), CT-CLIP_v2.pt, or a safetensors file of ours."""
    text_weights: WeightsRef | None = None
    """Where the text tower and its projection come from, if the image tower is to start from random ``weights``."""

    @model_validator(mode="after")
    def _has_space(self) -> Self:
        if self.latent is None:
            raise ValueError("latent: reports and volumes need a common space; give its width")
        if self.text_weights is not None and self.weights != "random":
            raise ValueError(f"text_weights are for weights: random; {self.weights} has a text tower of its own")
        return self

    def check(self, sizes: Sizes) -> Iterable[tuple[str, str]]:
        image = self.image
        wanted = (image.slices, image.grid * image.patch, image.grid * image.patch)
        if any(have < want for have, want in zip(sizes.volume, wanted, strict=True)):
            yield "image", f"it reads {wanted} voxels (D, H, W), prepare.size gives {sizes.volume}"
