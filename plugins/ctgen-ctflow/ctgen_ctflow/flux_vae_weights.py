"""Weights of FLUX's autoencoder from any layout in use, told apart by the names of their tensors.

- ``diffusers``: a folder with config.json, or its safetensors file alone;
- ``bfl``: ``ae.safetensors`` as Black Forest Labs publishes it;
- ``ctgen``: diffusers' names behind ``vae.``, with metadata in the file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ctgen.errors import CheckpointError
from ctgen_ctflow.flux_vae_config import FluxVaeConfig
from ctgen_ctflow.flux_vae_files import Stored, differences, read_stored, some

Layout = Literal["ctgen", "diffusers", "bfl"]
HOW_TO_GET = (
    "FLUX.1's autoencoder is the folder `vae` of black-forest-labs/FLUX.1-schnell on the Hugging Face hub (Apache-2.0): "
    "accept its terms there, then `hf download black-forest-labs/FLUX.1-schnell --include 'vae/*' --local-dir flux`, "
    "and set autoencoder.weights=flux/vae"
)
BFL_FILE = "ae.safetensors"
BFL_GROUPS = 32
"""Groups of every norm in Black Forest Labs' code; shapes do not show them."""
_MARKS: dict[Layout, re.Pattern[str]] = {
    "ctgen": re.compile(r"vae\.(en|de)coder\.(down|up)_blocks\."),
    "diffusers": re.compile(r"(en|de)coder\.(down|up)_blocks\."),
    "bfl": re.compile(r"(en|de)coder\.(down|up)\.\d+\."),
}
_BFL_WORDS = (
    (r"\.mid\.block_1\.", ".mid_block.resnets.0."),
    (r"\.mid\.block_2\.", ".mid_block.resnets.1."),
    (r"\.mid\.attn_1\.norm\.", ".mid_block.attentions.0.group_norm."),
    (r"\.mid\.attn_1\.([qkv])\.", r".mid_block.attentions.0.to_\1."),
    (r"\.mid\.attn_1\.proj_out\.", ".mid_block.attentions.0.to_out.0."),
    (r"\.down\.(\d+)\.block\.", r".down_blocks.\1.resnets."),
    (r"\.down\.(\d+)\.downsample\.", r".down_blocks.\1.downsamplers.0."),
    (r"\.up\.(\d+)\.block\.", r".up_blocks.\1.resnets."),
    (r"\.up\.(\d+)\.upsample\.", r".up_blocks.\1.upsamplers.0."),
    (r"\.nin_shortcut\.", ".conv_shortcut."),
    (r"\.norm_out\.", ".conv_norm_out."),
)


def read(path: Path, config: FluxVaeConfig, wanted: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """State dict in float32 with the names and shapes of ``wanted``, and what the file says of latent scale and shift.

    CheckpointError names the layout and lists what does not fit ``config``.
    """
    stored = read_stored(path, "flux-vae", also=(BFL_FILE,), how_to_get=HOW_TO_GET)
    layout = layout_of(stored.tensors, stored.path, wanted)
    state = in_our_names(stored.tensors, layout)
    metadata, groups = dict(stored.metadata), _groups(stored.metadata)
    problems: list[str] = []
    if layout == "bfl":
        groups = BFL_GROUPS
    elif layout == "diffusers" and stored.settings:
        groups = stored.settings.get("norm_num_groups")
        names = (("scale", "scaling_factor"), ("shift", "shift_factor"))
        metadata = {ours: str(stored.settings[theirs]) for ours, theirs in names if stored.settings.get(theirs) is not None}
        problems += _unlike(stored)
    if groups not in (None, config.norm_groups):
        problems.append(f"norm groups: file {groups}, config {config.norm_groups}")
    problems += differences(state, wanted)
    if problems:
        raise CheckpointError(
            f"flux-vae: {stored.path} ({layout} layout, {len(state)} tensors) does not fit architecture "
            f"{config.architecture!r} with widths {config.channels}, which has {len(wanted)}:\n  " + "\n  ".join(problems),
            hint=_fields(state, groups),
        )
    return {key: value.float() for key, value in state.items()}, metadata


def layout_of(tensors: Mapping[str, Tensor], path: Path, wanted: Mapping[str, Tensor]) -> Layout:
    """By the names alone; CheckpointError, with the layout that comes nearest, unless they are those of exactly one."""
    found = [layout for layout, mark in _MARKS.items() if any(mark.match(name) for name in tensors)]
    if len(found) == 1:
        return found[0]
    what = f"mixes the layouts {' and '.join(found)}" if found else "is in none of the layouts that flux-vae reads"
    shared = {layout: in_our_names(tensors, layout).keys() & wanted.keys() for layout in _MARKS}
    nearest = max(shared, key=lambda layout: len(shared[layout]))
    count = len(shared[nearest])
    raise CheckpointError(
        f"flux-vae: {path} {what}:\n"
        "  expected the names of diffusers (encoder.down_blocks.*), Black Forest Labs (encoder.down.*) or ctgen "
        "(vae.encoder.down_blocks.*)\n"
        f"  found {len(tensors)} tensors: {some(sorted(tensors)) or 'none'}\n"
        f"  nearest is {nearest}: {count} of {len(wanted)} names found, {len(wanted) - count} missing, "
        f"{len(tensors) - count} unexpected",
        hint=HOW_TO_GET,
    )


def in_our_names(tensors: Mapping[str, Tensor], layout: Layout) -> dict[str, Tensor]:
    """Names and shapes of our state dict: diffusers' behind ``vae.``."""
    if layout == "bfl":
        return dict(_from_bfl(tensors))
    prefix = "vae." if layout == "diffusers" else ""
    return {prefix + key: value for key, value in tensors.items()}


def _from_bfl(state: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Up levels count the other way round, attention is linear and not a 1 x 1 convolution."""
    ups = 1 + max((int(found[1]) for key in state if (found := re.match(r"decoder\.up\.(\d+)\.", key))), default=0)
    for key, value in state.items():
        name = re.sub(r"^decoder\.up\.(\d+)\.", lambda found: f"decoder.up.{ups - 1 - int(found[1])}.", key)
        for pattern, replacement in _BFL_WORDS:
            name = re.sub(pattern, replacement, name)
        linear = ".attentions.0.to_" in name and value.ndim == 4
        yield f"vae.{name}", value[:, :, 0, 0] if linear else value


def _unlike(stored: Stored) -> Iterator[str]:
    """What config.json says that tensors do not show."""
    same: dict[str, tuple[Any, ...]] = {"_class_name": (None, "AutoencoderKL"), "act_fn": (None, "silu", "swish")}
    for key, accepted in same.items():
        if (value := stored.settings.get(key)) not in accepted:
            yield f"{key}: config.json {value!r}, flux-vae {accepted[1]!r}"


def _groups(metadata: Mapping[str, str]) -> int | None:
    """Norm groups of a ctgen file: its metadata hold the component's config."""
    try:
        fields = json.loads(metadata.get("component", "{}"))
    except ValueError:
        return None
    known = {name: fields[name] for name in ("architecture", "groups") if name in fields} if isinstance(fields, dict) else {}
    return FluxVaeConfig.model_validate({"weights": "random", **known}).norm_groups if known else None


def _fields(state: Mapping[str, Tensor], groups: int | None) -> str:
    """The config fields that the file's own shapes call for."""
    widths: list[int] = []
    while (key := f"vae.encoder.down_blocks.{len(widths)}.resnets.0.conv1.weight") in state:
        widths.append(state[key].shape[0])
    ends = [state.get(f"vae.encoder.{name}.weight", torch.empty(0, 0)) for name in ("conv_in", "conv_out")]
    if not widths or any(end.ndim < 2 or not end.numel() for end in ends):
        return f"the file is not a whole autoencoder\n{HOW_TO_GET}"
    layers = sum(re.fullmatch(r"vae\.encoder\.down_blocks\.0\.resnets\.\d+\.conv1\.weight", key) is not None for key in state)
    attention = any(".mid_block.attentions." in key for key in state)
    return (
        f"the file was made with widths {widths}, layers {layers}, latent_channels {ends[1].shape[0] // 2}, "
        f"image_channels {ends[0].shape[1]}, mid_attention {str(attention).lower()}"
        + (f", groups {groups}" if groups is not None else "")
    )
