"""What a recipe or protocol may write beside ``use: ct-clip-image``. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveInt

from ctgen.config import ComponentConfig
from ctgen.weights import GivenWeights


class CtClipImageConfig(ComponentConfig):
    """CT-CLIP's latent of a volume, of unit length; reads reports, and finds labels by the authors' two sentences for each."""

    weights: GivenWeights = "mini"
    """"mini" (shipped: see its card), CT-CLIP_v2.pt, a safetensors file of both towers, or hf:owner/name/file."""
    vocabulary: GivenWeights = "mini"
    """The text tower's: "mini" (shipped), a vocab.txt, a tokenizer.json, the folder of either, or hf:owner/name."""
    text_heads: PositiveInt | None = None
    """Of the text tower where no tensor shows it; None: 64 channels each, or what the file says."""
    rule: Literal["ct-clip", "vlm3d-2025"] = "ct-clip"
    """How volumes are brought to the network's grid: the authors' way, or the challenge's."""
    template: Literal["findings", "findings+impression", "ctflow"] = "findings+impression"
    """Of a report's text; the authors score with findings and impression."""
