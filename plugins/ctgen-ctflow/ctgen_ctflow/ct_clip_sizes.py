"""Sizes of CT-CLIP's two towers, and how they are read off a checkpoint's tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isqrt
from typing import TYPE_CHECKING, Any, Literal

from ctgen.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

HEAD_WIDTH = 64
"""Channels per attention head of every published BERT; the tensors do not show it."""


@dataclass(frozen=True)
class TextSizes:
    layers: int
    width: int
    heads: int
    """0: not known, no tensor shows it."""
    feed_forward: int
    positions: int
    vocabulary: int


@dataclass(frozen=True)
class ImageSizes:
    width: int
    spatial_layers: int
    temporal_layers: int
    heads: int
    head_width: int
    feed_forward: int
    codes: int
    patch: int
    """Pixels along each side of a patch."""
    patch_slices: int
    """Slices of a patch."""
    grid: int
    """Patches along each side of a slice."""
    slices: int = 240
    """Slices of a volume that is prepared for it; the network itself takes any multiple of ``patch_slices``."""
    spacing_mm: tuple[float, float, float] = (1.5, 0.75, 0.75)
    """Of the voxels that it reads, along z, x, y."""
    windows: tuple[tuple[float, float], ...] = ()
    """Not CT-CLIP's: HU (low, high), each spread over [-1, 1] as a channel of its own. (): one channel, HU / 1000."""
    stem: tuple[int, ...] = ()
    """Not CT-CLIP's: channels of convolutions before the patches, of stride 2 (the first: ``stem_start``). (): none."""
    stem_start: int = 2
    """Stride of the stem's first convolution: 2, 3 x 3 x 3 wide; or 4, of cells of 4 x 4 x 4 voxels that do not overlap."""
    stem_first_residuals: int = 0
    """Not CT-CLIP's: convolutions of stride 1 after the stem's first (of 3 x 3 x 3), at half resolution."""
    stem_residuals: int = 0
    """Convolutions of stride 1, each added to what it reads, after each of the stem's but the first."""
    quantised: bool = True
    """False, which is not CT-CLIP's: tokens are as the transformers leave them, and gradients reach them."""
    pool: Literal["slices", "slices+max", "levels+max", "places"] = "slices"
    """How tokens become one vector: the mean along the slices; or, which is not CT-CLIP's, with it the maximum over all; or the
    maxima of what the stem's convolutions after the first make as well; or, at each of these levels, the maximum over all and
    the maximum and the mean of each quarter (upper or lower, left or right), when every level has heard from coarser ones."""

    @property
    def pixels(self) -> int:
        """Pixels along each side of a slice."""
        return self.grid * self.patch

    @property
    def channels(self) -> int:
        """Of a volume as the network first sees it."""
        return len(self.windows) or 1

    @property
    def patch_values(self) -> int:
        """Numbers in a patch: of voxels, or of what the stem makes of them."""
        step = self.stem_stride
        channels = self.stem[-1] if self.stem else self.channels
        return channels * (self.patch_slices // step) * (self.patch // step) ** 2

    @property
    def stem_stride(self) -> int:
        """Voxels per cell of what the stem makes."""
        return self.stem_start << (len(self.stem) - 1) if self.stem else 1

    @property
    def pooled(self) -> int:
        """Width of what is projected to the common space."""
        levels = self.width + sum(self.stem[1:])
        if self.pool == "places":
            return (1 + 4 + 4) * levels
        return self.grid**2 * self.width + {"slices": 0, "slices+max": self.width, "levels+max": levels}[self.pool]


@dataclass(frozen=True)
class CtClipSizes:
    """``latent``: width of the space that both towers project to."""

    text: TextSizes
    image: ImageSizes
    latent: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> CtClipSizes:
        image = dict(fields["image"])
        for name in ("spacing_mm", "stem"):
            if name in image:
                image[name] = tuple(image[name])
        image["windows"] = tuple((low, high) for low, high in image.get("windows", ()))
        return cls(TextSizes(**fields["text"]), ImageSizes(**image), fields["latent"])


PUBLISHED = CtClipSizes(
    text=TextSizes(layers=12, width=768, heads=12, feed_forward=3072, positions=512, vocabulary=30522),
    image=ImageSizes(
        width=512, spatial_layers=4, temporal_layers=4, heads=8, head_width=32, feed_forward=1365, codes=8192, patch=20,
        patch_slices=10, grid=24,
    ),
    latent=512,
)  # fmt: skip
"""CT-CLIP_v2.pt: volumes of 240 x 480 x 480 voxels, 442,360,474 values in 361 entries (362 with ``position_ids``); 287,901,001
of them are read (27,621,192 in CTViT, 150,994,944 in the projection of its tokens). Tests count them from these sizes."""


def text_sizes(names: Mapping[str, Tensor], heads: int | None) -> TextSizes:
    """From the entries of ``text_transformer`` (our names). ``heads``: None = width / 64; 0 results if that is not whole."""
    words = names["text_transformer.embeddings.word_embeddings.weight"]
    width = words.shape[1]
    heads = heads or (0 if width % HEAD_WIDTH else width // HEAD_WIDTH)
    if heads and width % heads:
        raise CheckpointError(f"ct-clip: {heads} heads do not divide the text tower's width {width}")
    return TextSizes(
        layers=_count(names, "text_transformer.encoder.layer."),
        width=width,
        heads=heads,
        feed_forward=names["text_transformer.encoder.layer.0.intermediate.dense.weight"].shape[0],
        positions=names["text_transformer.embeddings.position_embeddings.weight"].shape[0],
        vocabulary=words.shape[0],
    )


def image_sizes(names: Mapping[str, Tensor], first_frame: int) -> ImageSizes:
    """From the entries of ``image_transformer`` (our names); ``first_frame``: values of one slice's patch (one channel)."""
    width, patch_values = names["image_transformer.patch_embedding.project.weight"].shape
    patch = isqrt(first_frame)
    cells = names["to_image_latent.weight"].shape[1] // width
    query = names["image_transformer.spatial.blocks.0.attention.query.weight"].shape[0]
    head_width = names["image_transformer.spatial.blocks.0.attention.query_scale"].shape[0]
    if patch * patch != first_frame or patch_values % first_frame or isqrt(cells) ** 2 != cells:
        raise CheckpointError(
            f"ct-clip: the image tower is not made for square one-channel slices: {first_frame} values in a slice's patch, "
            f"{patch_values} in a patch, {cells} patches in a slice"
        )
    return ImageSizes(
        width=width,
        spatial_layers=_count(names, "image_transformer.spatial.blocks."),
        temporal_layers=_count(names, "image_transformer.temporal.blocks."),
        heads=query // head_width,
        head_width=head_width,
        feed_forward=names["image_transformer.spatial.blocks.0.feed_forward.down.weight"].shape[1],
        codes=names["image_transformer.codebook"].shape[0],
        patch=patch,
        patch_slices=patch_values // first_frame,
        grid=isqrt(cells),
    )


def _count(names: Mapping[str, Tensor], prefix: str) -> int:
    return len({name.removeprefix(prefix).split(".")[0] for name in names if name.startswith(prefix)})
