"""CT-CLIP whole as a component: a text encoder that also embeds volumes, for contrastive training."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from ctgen.errors import ConfigError
from ctgen.interfaces import Prompt, TokenGrid
from ctgen.weights import info, locate
from ctgen_ctflow import ct_clip_layout, ct_clip_weights
from ctgen_ctflow.ct_clip_config import CtClipConfig
from ctgen_ctflow.ct_clip_pair_config import CtClipPairConfig
from ctgen_ctflow.ct_clip_preprocess import HU_RANGE
from ctgen_ctflow.ct_clip_sizes import CtClipSizes
from ctgen_ctflow.ct_clip_text import CtClipText, to_latent
from ctgen_ctflow.ct_vit import CtVit
from ctgen_ctflow.prompt_template import render

SHIPPED = {"mini": ct_clip_layout.MINI_PAIR}
FIRST_SCALE = 1 / 0.07
"""Of a random network's cosines (CLIP's)."""
FIRST_PROJECTION = 0.1
"""Times what is usual, of volumes that are pooled by places."""


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
        if self.image.pool == "places":
            # cosines do not see the scale: what is learned then soon outweighs what was drawn
            with torch.no_grad():
                self.to_image_latent.weight.mul_(FIRST_PROJECTION)
        self.temperature = nn.Parameter(torch.tensor(math.log(FIRST_SCALE)))
        if path is not None:
            self.skipped = ct_clip_weights.load_text(self, path, config.heads)
        self.weights = info(config.weights, path)
        if config.text_weights is not None:
            self._take_text(config.text_weights)
        self.eval()

    def _take_text(self, ref: str) -> None:
        fields = {name: getattr(self.config, name) for name in CtClipConfig.model_fields}
        text = CtClipText(CtClipConfig(**{**fields, "weights": ref}))
        self.load_state_dict(text.state_dict(), strict=False)
        self.weights = replace(text.weights, source=f"text tower {ref}, image tower RANDOM")

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
        return self._latents(*self._counted(texts))

    def embed_volumes(self, volume: Tensor) -> Tensor:
        """(B, 1, D, H, W) HU -> (B, latent); a larger one is cropped evenly, ConfigError for a smaller one."""
        return self.embed_places(volume)[0]

    def embed_places(self, volume: Tensor) -> tuple[Tensor, list[Tensor]]:
        """As ``embed_volumes``, and the tokens (B, d, h, w, C) of the parts that ``token_grids`` tells."""
        window = self.token_grids(volume.shape[2:])[-1].window
        voxels = volume[(slice(None), slice(None), *window)].to(self.temperature.device)
        # CT-CLIP reads (z, x, y)
        scaled = voxels.clamp(*HU_RANGE).mul_(0.001).transpose(3, 4)
        pooled, levels = self.image_transformer.embed(scaled)
        return to_latent(self.to_image_latent, pooled), [level.transpose(2, 3) for level in levels]

    @property
    def token_channels(self) -> tuple[int, ...]:
        return (*self.image.stem[1:], self.image.width)

    @property
    def pools_levels(self) -> bool:
        return self.image.pool in ("levels+max", "places")

    def lock_text(self) -> None:
        self.text_transformer.requires_grad_(False)

    def token_grids(self, shape: Sequence[int]) -> list[TokenGrid]:
        """Of the stem's convolutions after its first, and of the tokens."""
        image = self.image
        wanted = (image.slices, image.pixels, image.pixels)
        if any(have < want for have, want in zip(shape, wanted, strict=True)):
            raise ConfigError(f"ct-clip-pair: it reads {wanted} voxels (D, H, W), the volume has {tuple(shape)}")
        deep, high, wide = (
            slice((have - want) // 2, (have - want) // 2 + want) for have, want in zip(shape, wanted, strict=True)
        )
        window = (deep, high, wide)
        strides = [image.stem_stride >> back for back in reversed(range(len(image.stem) - 1))]
        inner = [TokenGrid(window, (step, step, step)) for step in strides]
        return [*inner, TokenGrid(window, (image.patch_slices, image.patch, image.patch))]
