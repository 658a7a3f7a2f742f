"""Entry module: declares what the plugin offers and imports nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctgen import hookimpl
from ctgen.host import Registrar
from ctgen_ctflow.configs import FlowMatchingConfig, SliceBlocksConfig, StditConfig
from ctgen_ctflow.ct_clip_config import CtClipConfig
from ctgen_ctflow.ct_clip_features_config import CtClipImageConfig
from ctgen_ctflow.ct_clip_pair_config import CtClipPairConfig
from ctgen_ctflow.flux_vae_config import FluxVaeConfig
from ctgen_ctflow.taef1_config import Taef1Config

if TYPE_CHECKING:
    from ctgen.weights_header import WeightsHeader
    from ctgen.weights_inspect import WeightsDescription

PLUGIN_API = 1


@hookimpl
def ctgen_register(registrar: Registrar) -> None:
    registrar.autoencoder(
        "flux-vae", target="ctgen_ctflow.flux_vae:FluxVae", config=FluxVaeConfig, summary="FLUX.1's autoencoder, slice by slice"
    )
    registrar.autoencoder(
        "taef1",
        target="ctgen_ctflow.taef1:Taef1",
        config=Taef1Config,
        summary="tiny network for FLUX's latents, a fast drop-in for flux-vae",
    )
    registrar.text_encoder(
        "ct-clip", target="ctgen_ctflow.ct_clip_text:CtClipText", config=CtClipConfig, summary="CT-CLIP's text tower (BERT)"
    )
    registrar.text_encoder(
        "ct-clip-pair",
        target="ctgen_ctflow.ct_clip_pair:CtClipPair",
        config=CtClipPairConfig,
        summary="CT-CLIP whole: reports and volumes in one space, for contrastive training",
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
    registrar.feature_extractor(
        "ct-clip-image",
        target="ctgen_ctflow.ct_clip_features:CtClipImage",
        config=CtClipImageConfig,
        summary="CT-CLIP's latent of a volume; reads reports, finds labels",
    )
    registrar.preset(
        "ctflow", package="ctgen_ctflow", resource="presets/ctflow.yaml", summary="CTFlow as published; add data and weights"
    )
    registrar.preset(
        "ctflow-mini",
        package="ctgen_ctflow",
        resource="presets/ctflow-mini.yaml",
        summary="CTFlow at mini scale, with the shipped weights",
    )
    registrar.preset(
        "ctflow-plus",
        package="ctgen_ctflow",
        resource="presets/ctflow-plus.yaml",
        summary="CTFlow's size with what helped at mini scale; untrained",
    )
    registrar.preset(
        "ctflow-plus-mini",
        package="ctgen_ctflow",
        resource="presets/ctflow-plus-mini.yaml",
        summary="mini CTFlow in long blocks, with guidance, in fewer steps",
    )


@hookimpl
def ctgen_inspect_weights(header: WeightsHeader) -> WeightsDescription | None:
    from ctgen_ctflow.recognise import recognise

    return recognise(header)
