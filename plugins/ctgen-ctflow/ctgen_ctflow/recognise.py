"""What a checkpoint is, by the names and shapes of its tensors: STDiT, FLUX's autoencoder, TAEF1, CT-CLIP. Imports no torch."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ctgen.weights_header import WeightsHeader
from ctgen.weights_inspect import Loads, WeightsDescription
from ctgen_ctflow.configs import SIZES, StditConfig
from ctgen_ctflow.flux_vae_config import FluxVaeConfig
from ctgen_ctflow.stdit_description import POSITIONS, PREFIX, describe

SHIPPED = Path(__file__).parent / "weights" / "mini"
BERT_HEAD_WIDTH = 64
"""Channels per head of every published BERT; tensors do not show it."""


def recognise(header: WeightsHeader) -> WeightsDescription | None:
    """None if the tensors are not of this plugin's components; CheckpointError if they are, and damaged."""
    for kind in (_stdit, _flux_vae, _taef1, _ct_clip):
        found = kind(header)
        if found is not None:
            return found
    return None


def _stdit(header: WeightsHeader) -> WeightsDescription | None:
    names = {name.removeprefix(PREFIX): name for name in header.tensors}
    if not {"x_embedder.proj.weight", "blocks.0.attn_temp.qkv.weight", "blocks.0.mlp.fc1.weight"} <= names.keys():
        return None

    def shape(name: str) -> tuple[int, ...]:
        return header.shape(names.get(name, ""))

    if len(shape("x_embedder.proj.weight")) != 5 or len(shape("blocks.0.mlp.fc1.weight")) != 2:
        return None
    width, inputs, *patch = shape("x_embedder.proj.weight")
    layers = _count(names, "blocks.")
    released = any(name.startswith(PREFIX) or name in POSITIONS for name in header.tensors)
    described = describe(header.file, header.metadata, header.tensors)
    told = {key: value for key, value in described.fields.items() if value is not None}
    heads, layout = told.get("heads"), told.get("attention_transpose")
    buffers = {*POSITIONS, "y_embedder.y_embedding"}
    spec: dict[str, Any] = {
        "layers x width, heads": f"{layers} x {width}, {heads or 'unknown'}" + _size_name(layers, width, heads),
        "patch": patch,
        "latent channels": inputs // 2,
        "text width": (shape("y_embedder.y_proj.fc1.weight") or (0, 0))[-1],
        "parameters": sum(header.tensors[full].values for name, full in names.items() if name not in buffers),
    }
    if layout:
        spec["head layout"] = f"{layout} ({described.reason})"
    notes = []
    if layout == "released":
        notes.append("trained without the head transpose, and computed so with attention_transpose auto or released")
    if not heads:
        notes.append("the number of heads is written nowhere; give the one it was trained with")
    fields: dict[str, Any] = {"layers": layers, "width": width} | ({"heads": heads} if heads else {})
    size = next((name for name, numbers in SIZES.items() if numbers == fields), None)
    fields = {"size": size} if size else fields
    fields |= {"patch": patch, "mlp_ratio": shape("blocks.0.mlp.fc1.weight")[0] / width, **told}
    fields["position_input"] = "position_embedder.mlp.0.weight" in names
    fields["context_level_input"] = "level_embedder.mlp.0.weight" in names
    if "detail.first.weight" in names:
        fields |= {"detail": shape("detail.first.weight")[0], "detail_layers": _count(names, "detail.layers.")}
    kind = "STDiT in CTFlow's released layout" if released else "STDiT in ctgen's layout"
    return WeightsDescription(
        kind, spec, tuple(notes), (Loads("backbone", "stdit", _written(StditConfig, fields, header, size)),)
    )


def _size_name(layers: int, width: int, heads: object) -> str:
    wanted = {"layers": layers, "width": width, "heads": heads}
    return next((f" (size {name})" for name, numbers in SIZES.items() if numbers == wanted), "")


def _flux_vae(header: WeightsHeader) -> WeightsDescription | None:
    marks = (("vae.encoder.down_blocks.", "ctgen's"), ("encoder.down_blocks.", "diffusers'"), ("encoder.down.0.", "BFL's"))
    layout = next((name for mark, name in marks if any(key.startswith(mark) for key in header.tensors)), None)
    if layout is None:
        return None
    start = "vae." if layout == "ctgen's" else ""
    levels, blocks = ("down", "block") if layout == "BFL's" else ("down_blocks", "resnets")
    count = _count(header.tensors, f"{start}encoder.{levels}.")
    widths = [(header.shape(f"{start}encoder.{levels}.{level}.{blocks}.0.conv1.weight") or (0,))[0] for level in range(count)]
    layers = _count(header.tensors, f"{start}encoder.{levels}.0.{blocks}.")
    into, out = (header.shape(f"{start}encoder.{name}.weight") for name in ("conv_in", "conv_out"))
    attention = any(".mid.attn_1." in key or ".mid_block.attentions." in key for key in header.tensors)
    told = _component(header)
    config = header.beside.get("config.json", {})
    plain = FluxVaeConfig.model_validate({"weights": "random", "architecture": told.get("architecture", "flux")})
    groups: Any = 32 if layout == "BFL's" else config.get("norm_num_groups")
    if told:
        groups = told.get("groups") or plain.norm_groups
    scale, shift = (
        header.metadata.get(ours, config.get(theirs))
        for ours, theirs in (("scale", "scaling_factor"), ("shift", "shift_factor"))
    )
    fields: dict[str, Any] = {"architecture": plain.architecture, "widths": widths, "layers": layers}
    fields |= {"groups": groups, "latent_channels": (out or (0,))[0] // 2, "image_channels": (into or (0, 0))[1]}
    fields["mid_attention"] = attention
    if told.get("range"):
        fields["range"] = told["range"]
    spec: dict[str, Any] = {
        "widths, layers": f"{widths}, {layers} per level",
        "latent channels": fields["latent_channels"],
        "norm groups": groups or "unknown (not in the file)",
        "latent scale, shift": f"{scale or 'not in the file'}, {shift or 'not in the file'}",
        "parameters": sum(entry.values for entry in header.tensors.values()),
    }
    # What the architecture implies need not be written.
    implied = {"widths": list(plain.channels), "layers": plain.layers_per_level, "groups": plain.norm_groups}
    fields = {key: value for key, value in fields.items() if value not in (None, implied.get(key))}
    notes = () if told else ("released CTFlow feeds it range [0, 0.8333], FLUX itself [-1, 1]",)
    loads = (Loads("autoencoder", "flux-vae", _written(FluxVaeConfig, fields, header)),)
    return WeightsDescription(f"FLUX autoencoder in {layout} layout", spec, notes, loads)


def _taef1(header: WeightsHeader) -> WeightsDescription | None:
    """TAESD's file of one half, or diffusers' AutoencoderTiny with both."""
    layers = {name for name in header.tensors if re.match(r"((en|de)coder\.layers\.)?\d+\.(conv\.\d+\.)?(weight|bias)$", name)}
    if not layers or len(layers) < len(header.tensors) or not any(".conv." in name for name in layers):
        return None
    both = any(name.startswith("decoder.") for name in layers) and any(name.startswith("encoder.") for name in layers)
    shapes = [header.shape(name) for name in ("0.weight", "encoder.layers.0.weight") if name in layers]
    half = "both halves" if both else "encoder" if any(len(shape) == 4 and shape[1] == 3 for shape in shapes) else "decoder"
    spec = {"part": half, "parameters": sum(entry.values for entry in header.tensors.values())}
    notes = () if both else ("give taef1 the folder that holds the encoder and the decoder",)
    folder = {} if both else {"weights": str(header.file.absolute().parent)}
    return WeightsDescription("tiny autoencoder (TAESD, TAEF1)", spec, notes, (Loads("autoencoder", "taef1", folder),))


def _ct_clip(header: WeightsHeader) -> WeightsDescription | None:
    text, image = "text_transformer.", ("visual_transformer.", "image_transformer.")
    words = header.shape(f"{text}embeddings.word_embeddings.weight")
    towers = [name for name in header.tensors if name.startswith((text, *image))]
    if len(words) != 2:
        return None
    width = words[1]
    told = _component(header)
    heads = told.get("heads") or (width // BERT_HEAD_WIDTH if width % BERT_HEAD_WIDTH == 0 else None)
    layers = _count(header.tensors, f"{text}encoder.layer.")
    feed_forward = (header.shape(f"{text}encoder.layer.0.intermediate.dense.weight") or (0,))[0]
    positions = (header.shape(f"{text}embeddings.position_embeddings.weight") or (0,))[0]
    latent = (header.shape("to_text_latent.weight") or (None,))[0]
    has_image = any(name.startswith(image) for name in towers)
    how = "the file says so" if told.get("heads") else f"{BERT_HEAD_WIDTH} channels each, as in every published BERT"
    spec: dict[str, Any] = {
        "text tower": f"{layers} x {width}, {heads or 'unknown'} heads ({how if heads else 'not in the file'}), "
        f"feed-forward {feed_forward}, {positions} positions, {words[0]} tokens in its vocabulary",
        "image tower": "yes" if has_image else "no",
        "latent width": latent or "no projection in the file",
        "parameters": sum(entry.values for entry in header.tensors.values()),
    }
    fields: dict[str, Any] = {"layers": layers, "width": width, "heads": heads, "feed_forward": feed_forward}
    fields |= {"max_tokens": positions, "vocabulary": told.get("vocabulary"), "template": told.get("template")}
    fields = {key: value for key, value in fields.items() if value}
    notes = [] if "vocabulary" in fields else ["its vocabulary is a file of its own: microsoft/BiomedVLP-CXR-BERT-specialized"]
    if not heads:
        notes.append("the number of heads is written nowhere; give the one it was trained with")
    kind = "CT-CLIP" + (", both towers" if has_image else ", text tower")
    written = {**fields, **_shipped(header)}
    return WeightsDescription(kind, spec, tuple(notes), (Loads("text_encoder", "ct-clip", written),))


def _component(header: WeightsHeader) -> Mapping[str, Any]:
    """The config that ctgen stores with weights that it ships or trains, if it is there."""
    try:
        found = json.loads(header.metadata.get("component", "{}"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _written(
    config: type[StditConfig] | type[FluxVaeConfig], fields: Mapping[str, Any], header: WeightsHeader, size: str | None = None
) -> dict[str, Any]:
    """The fields that a recipe has to name: those of ``config`` that are not its defaults."""
    implied = {**(SIZES[size] if size else {})}
    kept = {}
    for name, value in fields.items():
        known = config.model_fields.get(name)
        if known is None or name in implied or name == "attention_transpose":
            continue
        plain = list(known.default) if isinstance(known.default, tuple) else known.default
        if value != plain or name in ("layers", "width", "heads", "architecture"):
            kept[name] = int(value) if isinstance(value, float) and math.isclose(value, int(value)) else value
    return {**kept, **_shipped(header)}


def _shipped(header: WeightsHeader) -> dict[str, str]:
    return {"weights": "mini"} if header.file.resolve().parent == SHIPPED else {}


def _count(names: Mapping[str, Any], prefix: str) -> int:
    """How many numbers follow ``prefix``."""
    return len({name[len(prefix) :].partition(".")[0] for name in names if name.startswith(prefix)})
