"""Entry module: declares what the plugin offers and imports nothing heavy."""

from __future__ import annotations

from ctgen import hookimpl
from ctgen.host import Registrar
from ctgen_ctflow.configs import FlowMatchingConfig, SliceBlocksConfig, StditConfig
from ctgen_ctflow.ct_clip_config import CtClipConfig
from ctgen_ctflow.flux_vae_config import FluxVaeConfig

PLUGIN_API = 1


@hookimpl
def ctgen_register(registrar: Registrar) -> None:
    registrar.autoencoder(
        "flux-vae", target="ctgen_ctflow.flux_vae:FluxVae", config=FluxVaeConfig, summary="FLUX.1's autoencoder, slice by slice"
    )
    registrar.text_encoder(
        "ct-clip", target="ctgen_ctflow.ct_clip_text:CtClipText", config=CtClipConfig, summary="CT-CLIP's text tower (BERT)"
    )
    registrar.backbone(
        "stdit", target="ctgen_ctflow.stdit:Stdit", config=StditConfig, summary="spatio-temporal diffusion transformer"
    )
    registrar.schedule(
        "flow-matching",
        target="ctgen_ctflow.flow_matching:FlowMatching",
        config=FlowMatchingConfig,
        summary="straight path from data to noise",
    )
    registrar.rollout(
        "slice-blocks",
        target="ctgen_ctflow.slice_blocks:SliceBlocks",
        config=SliceBlocksConfig,
        summary="blocks of slices, each conditioned on the one before",
    )
    registrar.preset(
        "ctflow", package="ctgen_ctflow", resource="presets/ctflow.yaml", summary="CTFlow as published; add data and weights"
    )
