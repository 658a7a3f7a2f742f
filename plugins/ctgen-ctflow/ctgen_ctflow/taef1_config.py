"""Config of TAEF1. Imports no torch."""

from __future__ import annotations

from ctgen.interfaces import LatentSpec
from ctgen_ctflow.flux_vae_pixels import SliceCodecConfig


class Taef1Config(SliceCodecConfig):
    """TAEF1 (madebyollin, MIT): a tiny network distilled from FLUX's autoencoder, with the same latents, scaled already.

    ``weights``: hf:madebyollin/taef1, a diffusers folder or file, or a folder with taef1_encoder.safetensors and
    taef1_decoder.safetensors.
    """

    def latent_spec(self) -> LatentSpec:
        return LatentSpec(16, (1, 8, 8))
