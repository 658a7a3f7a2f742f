"""What a recipe may write beside ``use: ct-clip``. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, PositiveInt, model_validator
from typing_extensions import Self

from ctgen.config import ComponentConfig
from ctgen.interfaces import TextSpec
from ctgen.weights import WeightsRef


def _vocabulary(ref: str) -> str:
    if ref == "random":
        raise ValueError("a vocabulary cannot be random; write mini, a path or hf:owner/name")
    return ref


class CtClipConfig(ComponentConfig):
    """CT-CLIP's text tower (a BERT). The published one is 12 x 768, 12 heads, 3072, 512 tokens with CXR-BERT's vocabulary."""

    neutral: ClassVar[frozenset[str]] = frozenset({"weights"})

    layers: PositiveInt = 3
    width: PositiveInt = 128
    heads: PositiveInt = 4
    feed_forward: PositiveInt = 512
    max_tokens: Annotated[int, Field(ge=8)] = 384
    """Longer prompts are cut here, and counted; also the number of positions, unless ``positions`` says otherwise."""
    positions: PositiveInt | None = None
    """Size of the position table; None: max_tokens."""
    position_table: Literal["normal", "waves"] = "normal"
    """How it starts from random weights. "waves": as sines and cosines, which tell neighbours apart from the first step on."""
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """While the encoder itself is trained."""
    template: Literal["findings", "findings+impression", "ctflow"] = "ctflow"
    output: Literal["both", "vector", "tokens"] = "both"
    """"vector": token 0 alone, as in the paper (a small text cache); "tokens": the sequence, no pooled vector; or both."""
    latent: PositiveInt | None = None
    """Width of the CLIP latent (published: 512): also loads ``to_text_latent``, for scores. None: no projection."""
    vocabulary: Annotated[WeightsRef, AfterValidator(_vocabulary)] = "mini"
    """WordPiece vocabulary: "mini" (shipped), a vocab.txt, a tokenizer.json, the folder of either, or hf:owner/name."""
    vocabulary_size: PositiveInt | None = None
    """Rows of the word table; None: as many as the vocabulary has words."""
    weights: WeightsRef = "mini"
    """"mini" (shipped), "random", CT-CLIP_v2.pt, or a safetensors file of ours."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"heads {self.heads} does not divide width {self.width}")
        if self.positions is not None and self.positions < self.max_tokens:
            raise ValueError(f"positions {self.positions} is less than max_tokens {self.max_tokens}")
        return self

    def identity(self) -> dict[str, Any]:
        """Without the table's start where weights bring a table."""
        found = super().identity()
        if self.weights != "random":
            del found["position_table"]
        return found

    def without_files(self) -> Self:
        """Another vocabulary has the same sizes only if ``vocabulary_size`` states them."""
        update = {"weights": "random", **({"vocabulary": "mini"} if self.vocabulary_size else {})}
        return self.model_copy(update=update)

    def text_spec(self) -> TextSpec:
        return TextSpec(
            width=self.width,
            max_tokens=1 if self.output == "vector" else self.max_tokens,
            pooled_width=None if self.output == "tokens" else self.width,
        )
