"""What a recipe may write beside ``use:`` for CTFlow's components. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PositiveInt, model_validator
from typing_extensions import Self

from ctgen.backbone_checks import TextUse, misfits, undivided
from ctgen.config import ComponentConfig
from ctgen.interfaces import Sizes
from ctgen.weights import NAMED, WeightsRef

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


SIZES: Mapping[str, Mapping[str, int]] = {
    "S": {"layers": 12, "width": 384, "heads": 6},
    "B": {"layers": 12, "width": 768, "heads": 12},
    "L": {"layers": 24, "width": 1024, "heads": 16},
}
"""The paper's three sizes as fields of StditConfig."""


class StditConfig(ComponentConfig):
    """The spatio-temporal diffusion transformer."""

    neutral: ClassVar[frozenset[str]] = frozenset({"gradient_checkpointing", "size", "weights"})

    size: Literal["S", "B", "L"] | None = None
    """The paper's sizes, as layers x width, heads: S 12 x 384, 6; B 12 x 768, 12; L (released) 24 x 1024, 16. It sets
    these three."""
    layers: PositiveInt = 6
    width: PositiveInt = 256
    heads: PositiveInt = 4
    patch: tuple[PositiveInt, PositiveInt, PositiveInt] = (2, 2, 2)
    """Latent cells (d, h, w) per token."""
    mlp_ratio: Annotated[float, Field(gt=0.0)] = 4.0
    attention_transpose: Literal["auto", "correct", "released"] = "auto"
    """"released": heads and tokens are not swapped back after self-attention, as in the published CTFlow weights. "auto": as
    the weights were trained (a message says so if that is "released"), and "correct" for random ones. The other two must agree
    with what the weights say of themselves."""
    text: TextUse = "pooled"
    """"pooled": one vector per report, as in the paper; "tokens": cross-attention over the report's tokens."""
    text_whitening: bool = False
    """Text vectors are made to vary alike in all directions, by the mean and covariance of the reports that training begins
    with. The paper has none: a side or a lobe is then a hundredth of what CT-CLIP's vector holds, and is learnt late."""
    text_modulation: bool = False
    """The report also scales and shifts tokens in every block, together with the time, as a class does in DiT (arXiv
    2212.09748). The paper has attention alone, which with one vector per report adds the same to all tokens."""
    position_input: bool = False
    """Tell the network where the block begins and how long the volume is (Condition.position)."""
    context_level_input: bool = False
    """Tell the network how much noise was added to the context (Condition.context_level), as in GameNGen (arXiv 2408.14837)."""
    temporal_norm: bool = False
    """LayerNorm before attention along the slices. The paper has none: what enters it then grows with the residual stream, and
    small networks trained at high rates break down at times near 0 (gradients of 1e16 by step 2,800 at 1e-3)."""
    time_factor: Annotated[float, Field(gt=0.0)] = 1.0
    """Time in [0, 1] is multiplied by this before its sinusoids; the released model uses 1, most others 1000."""
    skip: Literal["none", "wiener"] = "none"
    """"wiener": the network corrects the best linear guess of the velocity instead of making all of it, as in EDM
    (arXiv 2206.00364), so that a short training starts from something sensible. The paper has "none"."""
    latent_std: tuple[Annotated[float, Field(gt=0.0)], ...] = (1.0,)
    """For the wiener skip and sample.linear_guidance: standard deviation of the finalised latent, one or per channel."""
    target: Literal["velocity", "clean"] = "velocity"
    """What the network makes. "clean": the latent without noise, from which the velocity follows; its error is still what
    training makes small (JiT, arXiv 2511.13720). The paper has "velocity"."""
    detail: Annotated[int, Field(ge=0)] = 0
    """Channels of three-dimensional convolutions after the transformer, which make neighbouring patches agree; 0: none, as in
    the paper."""
    detail_layers: PositiveInt = 3
    gradient_checkpointing: bool = False
    """Recompute each block in the backward pass: less memory, about a third more time."""
    weights: WeightsRef = "random"

    @model_validator(mode="before")
    @classmethod
    def _of_size(cls, written: Any) -> Any:
        """Fill in what ``size`` stands for; a number beside it must be the same."""
        numbers = SIZES.get(str(written.get("size"))) if isinstance(written, dict) else None
        if numbers is None:
            return written
        wrong = [
            f"{name}: size {written['size']} has {number}, the recipe says {written[name]}"
            for name, number in numbers.items()
            if written.get(name) is not None and str(written[name]) != str(number)
        ]
        if wrong:
            raise ValueError("; ".join(wrong) + " (a size of your own: size: null; one of these sizes: leave the numbers out)")
        return {**written, **numbers}

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"heads {self.heads} does not divide width {self.width}")
        if self.width % 4:
            raise ValueError(f"width {self.width} is not a multiple of 4 (two position axes, sine and cosine)")
        if self.target == "clean" and self.skip == "wiener":
            raise ValueError("target: clean and skip: wiener are two answers to one question; write skip: none")
        return self

    def identity(self) -> dict[str, Any]:
        """Weights that ctgen makes or ships have their heads swapped back: "auto" and "correct" are one thing to them."""
        fields = super().identity()
        if self.attention_transpose == "auto" and self.weights in NAMED:
            fields["attention_transpose"] = "correct"
        return fields

    def check(self, sizes: Sizes) -> Iterable[tuple[str, str]]:
        for step, cells in undivided(sizes, self.patch):
            yield "patch", f"patch {step} does not divide the {cells}"
        yield from misfits(sizes, latent_std=self.latent_std, text=self.text)


class FlowMatchingConfig(ComponentConfig):
    """The straight path from data to noise: z_t = (1 - t) x + (sigma_min + (1 - sigma_min) t) eps."""

    sigma_min: Annotated[float, Field(ge=0.0, lt=0.5)] = 1e-5
    times: Literal["uniform", "logit-normal"] = "uniform"
    """How training times are drawn."""
    mean: float = 0.0
    """Of the logit of t, for logit-normal times; above 0 favours noise."""
    std: Annotated[float, Field(gt=0.0)] = 1.0
    shift: Annotated[float, Field(gt=0.0)] = 1.0
    """t becomes shift t / (1 + (shift - 1) t), in training and sampling; above 1 spends more time near noise."""
    reference_cells: Annotated[int, Field(ge=0)] = 0
    """Latent cells per block at which ``shift`` is right; sampling scales it by sqrt(cells / reference_cells). 0: never."""


class SliceBlocksConfig(ComponentConfig):
    """A volume as a chain of blocks of slices, each conditioned on the slices just below it."""

    block: PositiveInt = 16
    """Latent slices that are generated at a time."""
    train_blocks: tuple[PositiveInt, ...] = ()
    """Training cuts blocks of these lengths, one of them drawn for each batch, which has the more blocks the shorter they are
    (batch x block slices, as near as may be). Weights so trained make blocks of any of them. Empty: ``block`` alone."""
    context: PositiveInt | None = None
    """Latent slices below the block that condition it; None: as many as the block has."""
    overlap: Annotated[int, Field(ge=0)] = 0
    """Latent slices that a block shares with the one before it."""
    overlap_mode: Literal["blend", "renoise"] = "blend"
    """What happens to shared slices. "blend": made twice, and mixed linearly. "renoise": kept; while the new block is made they
    are shown to the network at each step's noise, so that the new slices continue them (a head's and real ones likewise)."""
    start_probability: Fraction = 0.5
    """Share of training blocks that start at the volume's first slice (the paper's StartBoost)."""
    stop_tolerance: Annotated[float, Field(gt=0.0)] = 0.1
    """A latent value this near to the end marker's counts as equal to it."""
    stop_fraction: Fraction = 0.9
    """A slice with more than this share of equal values is an end slice."""
    end_redraws: Annotated[int, Field(ge=0)] = 0
    """How often a block with end slices before the length that was asked for is drawn anew. 0: never, those slices are white
    and a note says so. Each costs the evaluations of a block."""
    max_blocks: PositiveInt = 20
    """Limit when the model decides on the length; an explicit length is not limited."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for block in (self.block, *self.train_blocks):
            if self.overlap >= block:
                raise ValueError(f"overlap {self.overlap} must be smaller than block {block}")
        return self

    @property
    def context_slices(self) -> int:
        return self.context or self.block

    @property
    def step(self) -> int:
        """Latent slices by which each block takes the volume further."""
        return self.block - self.overlap

    def block_length(self, depth: int) -> int:
        """Latent slices per block for a volume of ``depth``: always ``block``, short volumes are padded with end slices."""
        return self.block
