"""Names of CT-CLIP's tensors: the published ones, ours, and what the published file holds that nothing reads."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from torch import Tensor

from ctgen.errors import CheckpointError

HOW_TO_GET = (
    "CT-CLIP_v2.pt is in the folder models/ of the Hugging Face data set ibrahimhamamci/CT-RATE (gated: ask for access)"
)
MINI_PAIR = Path(__file__).parent / "weights" / "mini" / "ct_clip_pair.safetensors"
"""Both towers at mini scale: what "mini" is for CtClip and ct-clip-pair."""
TEXT, IMAGE, PUBLISHED_IMAGE = "text_transformer.", "image_transformer.", "visual_transformer."

_UNUSED = (
    (r"text_transformer\.embeddings\.position_ids", "0, 1, 2, ...: today's transformers makes them itself"),
    (r"text_transformer\.pooler\.dense\.(weight|bias)", "CT-CLIP reads token 0, not the pooler"),
    (r"to_(text|visual)_latent_extra\.weight", "unused copy of a projection"),
    (r"visual_transformer\.to_patch_emb_first_frame\..+", "CT-CLIP gives the first slices no embedding of their own"),
    (r"visual_transformer\.to_pixels(_first_frame)?\..+", "decoder to pixels"),
    (r"visual_transformer\.vq\._codebook\.(initted|cluster_size|embed_avg)", "statistics of the codebook's training"),
    (r"visual_transformer\..+\.context_norm\.(gamma|beta)", "for cross-attention, which there is none of"),
    (r"visual_transformer\..+\.null_kv", "an empty tensor"),
)
_WORDS = (
    (r"^to_visual_latent\.", "to_image_latent."),
    (r"^visual_transformer\.", IMAGE),
    (r"\.to_patch_emb\.1\.", ".patch_embedding.norm_in."),
    (r"\.to_patch_emb\.2\.", ".patch_embedding.project."),
    (r"\.to_patch_emb\.3\.", ".patch_embedding.norm_out."),
    (r"\.spatial_rel_pos_bias\.net\.(\d)\.(?:0\.)?", r".position_bias.layers.\1."),
    (r"\.enc_(spatial|temporal)_transformer\.", r".\1."),
    (r"\.layers\.(\d+)\.0\.dsconv\.", r".blocks.\1.position."),
    (r"\.layers\.(\d+)\.1\.", r".blocks.\1.attention."),
    (r"\.layers\.(\d+)\.3\.0\.", r".blocks.\1.feed_forward.norm."),
    (r"\.layers\.(\d+)\.3\.1\.", r".blocks.\1.feed_forward.up."),
    (r"\.layers\.(\d+)\.3\.4\.", r".blocks.\1.feed_forward.down."),
    (r"\.attention\.to_kv\.", ".attention.key_value."),
    (r"\.attention\.to_q\.", ".attention.query."),
    (r"\.attention\.to_out\.", ".attention.out."),
    (r"\.attention\.([qk])_scale$", lambda found: ".attention." + {"q": "query", "k": "key"}[found[1]] + "_scale"),
    (r"\.vq\._codebook\.embed$", ".codebook"),
    (r"\.gamma$", ".weight"),
    (r"\.beta$", ".bias"),
)
_KINDS = (
    ("text_transformer.embeddings.", "CT-CLIP's text tower"),
    ("visual_transformer.", "CT-CLIP's image tower"),
    ("image_transformer.", "CT-CLIP's image tower in ctgen's layout"),
    ("module.text_transformer.", "CT-CLIP saved from DistributedDataParallel (names begin with 'module.')"),
    ("bert.embeddings.", "a BERT of Hugging Face with a head (CXR-BERT itself, not CT-CLIP)"),
    ("embeddings.word_embeddings.", "a plain BERT (names lack 'text_transformer.')"),
    ("encoder.down_blocks.", "an autoencoder in diffusers' layout"),
    ("encoder.down.0.", "FLUX's autoencoder"),
    ("vae.", "ctgen's flux-vae"),
    ("model.x_embedder.", "CTFlow's released backbone"),
    ("x_embedder.", "ctgen's stdit"),
    ("model.", "a whole training checkpoint or a fine-tuned wrapper (names begin with 'model.')"),
)


def looks_like(names: Iterable[str]) -> str:
    """What a file with such tensor names seems to be, in words."""
    found = list(names)
    kinds = [kind for mark, kind in _KINDS if any(name.startswith(mark) for name in found)]
    if {"CT-CLIP's text tower", "CT-CLIP's image tower"} <= set(kinds):
        return "CT-CLIP, both towers (published layout)"
    if "CT-CLIP's image tower in ctgen's layout" in kinds:
        return "CT-CLIP, both towers (ctgen's layout)" if len(kinds) > 1 else kinds[0]
    return kinds[0] if kinds else f"nothing known: {', '.join(sorted(found)[:3]) or 'no tensors'}"


def ours(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors by our names, and what is left out with the reason why nothing reads it."""
    state: dict[str, Tensor] = {}
    skipped: dict[str, str] = {}
    for name, value in tensors.items():
        reason = next((reason for pattern, reason in _UNUSED if re.fullmatch(pattern, name)), None)
        if reason is None:
            value = value[0] if name.endswith("._codebook.embed") and value.ndim == 3 and len(value) == 1 else value
            state[_renamed(name)] = value
        elif name.endswith(".null_kv") and value.numel():
            raise CheckpointError(f"ct-clip: {name} has shape {tuple(value.shape)}: attention with null keys is not CT-CLIP's")
        else:
            skipped[name] = reason
    return state, skipped


def _renamed(name: str) -> str:
    if not name.startswith((PUBLISHED_IMAGE, "to_visual_latent.")):
        return name
    for pattern, replacement in _WORDS:
        name = re.sub(pattern, replacement, name)
    return name


def differences(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    """One line for every tensor that is missing, not expected, or of another shape."""

    def shape(tensors: Mapping[str, Tensor], name: str) -> str:
        return "x".join(map(str, tensors[name].shape)) or "one number" if name in tensors else "absent"

    return [
        f"{name}: file {shape(found, name)}, config {shape(wanted, name)}"
        for name in sorted(found.keys() | wanted.keys())
        if name not in found or name not in wanted or found[name].shape != wanted[name].shape
    ]
