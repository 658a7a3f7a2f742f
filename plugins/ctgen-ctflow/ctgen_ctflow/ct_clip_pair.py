"""CT-CLIP whole as a component: a text encoder that also embeds volumes, for contrastive training."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ctgen.errors import ConfigError
from ctgen.interfaces import Prompt, TokenGrid
from ctgen.weights import info, locate
from ctgen_ctflow import ct_clip_layout, ct_clip_weights
from ctgen_ctflow.ct_clip_pair_config import CtClipPairConfig
from ctgen_ctflow.ct_clip_preprocess import HU_RANGE
from ctgen_ctflow.ct_clip_sizes import CtClipSizes
from ctgen_ctflow.ct_clip_text import CtClipText, to_latent, warn_cut
from ctgen_ctflow.ct_vit import CtVit
from ctgen_ctflow.prompt_template import render

SHIPPED = {"mini": ct_clip_layout.MINI_PAIR}
FIRST_SCALE = 1 / 0.07
"""Of a random network's cosines (CLIP's)."""


class CtClipPair(CtClipText):
    """A PlaceEncoder whose tensors have CtClip's names: ``CtClip.load`` and ``ct-clip`` read its weights file."""

    config: CtClipPairConfig

    def __init__(self, config: CtClipPairConfig) -> None:
        super().__init__(config.model_copy(update={"weights": "random"}))
        self.config = config
        path = locate(config.weights, component="ct-clip-pair", shipped=SHIPPED, how_to_get=ct_clip_layout.HOW_TO_GET)
        self.image = config.image.sizes()
        self.image_transformer = CtVit(self.image)
        self.to_image_latent = nn.Linear(self.image.pooled, self._latent, bias=False)
        self.temperature = nn.Parameter(torch.tensor(math.log(FIRST_SCALE)))
        if path is not None:
            self.skipped = ct_clip_weights.load_text(self, path, config.heads)
        self.weights = info(config.weights, path)
        self.eval()

    @property
    def _latent(self) -> int:
        assert self.config.latent is not None
        return self.config.latent

    @property
    def logit_scale(self) -> Tensor:
        # as in CLIP: beyond 100 training is unstable
        return self.temperature.clamp(max=math.log(100.0)).exp()

    def file_metadata(self) -> dict[str, str]:
        """The header of its weights: sizes that no tensor shows."""
        sizes = CtClipSizes(self.sizes, self.image, self._latent)
        return {"ct-clip": json.dumps(sizes.as_dict(), sort_keys=True)}

    def report_text(self, prompt: Prompt) -> str:
        return render(prompt, self.config.template)

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        ids, mask, counts = self.tokeniser.encode(texts)
        if counts.cut and not self.counts.cut:
            warn_cut(counts, self.config.max_tokens)
        self.counts += counts
        return self._latents(ids, mask)

    def embed_volumes(self, volume: Tensor) -> Tensor:
        """(B, 1, D, H, W) HU -> (B, latent); a larger one is cropped evenly, ConfigError for a smaller one."""
        return self.embed_places(volume)[0]

    def embed_places(self, volume: Tensor) -> tuple[Tensor, Tensor]:
        """As ``embed_volumes``, and the tokens (B, d, h, w, C) of the parts that ``token_grid`` tells."""
        window = self.token_grid(volume.shape[2:]).window
        voxels = volume[(slice(None), slice(None), *window)].to(self.temperature.device)
        # CT-CLIP reads (z, x, y)
        scaled = voxels.clamp(*HU_RANGE).mul_(0.001).transpose(3, 4)
        tokens = self.image_transformer(scaled)
        return to_latent(self.to_image_latent, self.image_transformer.pooled(tokens)), tokens.transpose(2, 3)

    def token_grid(self, shape: Sequence[int]) -> TokenGrid:
        image = self.image
        wanted = (image.slices, image.pixels, image.pixels)
        if any(have < want for have, want in zip(shape, wanted, strict=True)):
            raise ConfigError(f"ct-clip-pair: it reads {wanted} voxels (D, H, W), the volume has {tuple(shape)}")
        deep, high, wide = (
            slice((have - want) // 2, (have - want) // 2 + want) for have, want in zip(shape, wanted, strict=True)
        )
        return TokenGrid((deep, high, wide), (image.patch_slices, image.patch, image.patch))
