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
from typing import Literal

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ctgen.atomic import read_json
from ctgen.errors import CheckpointError
from ctgen_ctflow.flux_vae_config import FluxVaeConfig

Layout = Literal["ctgen", "diffusers", "bfl"]
HOW_TO_GET = (
    "FLUX.1's autoencoder is the folder `vae` of black-forest-labs/FLUX.1-schnell on the Hugging Face hub (Apache-2.0): "
    "accept its terms there, then `hf download black-forest-labs/FLUX.1-schnell --include 'vae/*' --local-dir flux`, "
    "and set autoencoder.weights=flux/vae"
)
FILES = ("diffusion_pytorch_model.safetensors", "ae.safetensors")
"""Names looked for in a folder, in this order."""
BFL_GROUPS = 32
"""Groups of every norm in Black Forest Labs' code; shapes do not show them."""
_MARKS: tuple[tuple[Layout, str], ...] = (
    ("ctgen", "vae.encoder.down_blocks."),
    ("diffusers", "encoder.down_blocks."),
    ("bfl", "encoder.down.0."),
)
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
LISTED = 8


def read(path: Path, config: FluxVaeConfig, wanted: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """State dict in float32 with the names and shapes of ``wanted``, and what the file says of latent scale and shift.

    CheckpointError names the layout and lists what does not fit ``config``.
    """
    file = _file(path)
    state, metadata = _tensors(file)
    layout = layout_of(state, file)
    groups = _groups(metadata)
    if layout == "bfl":
        state, groups = dict(_from_bfl(state)), BFL_GROUPS
    elif layout == "diffusers":
        state = {f"vae.{key}": value for key, value in state.items()}
        if (file.parent / "config.json").is_file():
            stored = read_json(file.parent / "config.json")
            groups = stored.get("norm_num_groups")
            names = (("scale", "scaling_factor"), ("shift", "shift_factor"))
            metadata = {ours: str(stored[theirs]) for ours, theirs in names if stored.get(theirs) is not None}
    problems = _differences(state, wanted)
    if groups not in (None, config.norm_groups):
        problems.insert(0, f"norm groups: file {groups}, config {config.norm_groups}")
    if problems:
        shown = problems[:LISTED] + ([f"... and {len(problems) - LISTED} more"] if len(problems) > LISTED else [])
        raise CheckpointError(
            f"flux-vae: {file} ({layout} layout) does not fit architecture {config.architecture!r} with widths "
            f"{config.channels}; {len(problems)} differences:\n  " + "\n  ".join(shown),
            hint=_fields(state, groups),
        )
    return {key: value.float() for key, value in state.items()}, metadata


def layout_of(names: Mapping[str, object], file: Path) -> Layout:
    """By the names alone; CheckpointError if they are none of ours."""
    for layout, mark in _MARKS:
        if any(name.startswith(mark) for name in names):
            return layout
    some = ", ".join(sorted(names)[:3]) or "no tensors"
    raise CheckpointError(
        f"flux-vae: {file} is in none of the layouts of diffusers (encoder.down_blocks.*), Black Forest Labs (encoder.down.*) "
        f"and ctgen (vae.*); it holds {some}" + (" ..." if len(names) > 3 else ""),
        hint=HOW_TO_GET,
    )


def _file(path: Path) -> Path:
    if path.is_file():
        return path
    for name in FILES:
        if (path / name).is_file():
            return path / name
    raise CheckpointError(f"flux-vae: {path} holds neither {' nor '.join(FILES)}", hint=HOW_TO_GET)


def _tensors(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(str(file), framework="pt") as handle:
            return {key: handle.get_tensor(key) for key in handle.keys()}, dict(handle.metadata() or {})  # noqa: SIM118 - no dict
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"flux-vae: {file} is not a readable safetensors file: {error}", hint=HOW_TO_GET) from error


def _from_bfl(state: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Names and shapes of diffusers; up levels count the other way round, attention is linear and not a 1 x 1 convolution."""
    ups = 1 + max((int(found[1]) for key in state if (found := re.match(r"decoder\.up\.(\d+)\.", key))), default=0)
    for key, value in state.items():
        name = re.sub(r"^decoder\.up\.(\d+)\.", lambda found: f"decoder.up.{ups - 1 - int(found[1])}.", key)
        for pattern, replacement in _BFL_WORDS:
            name = re.sub(pattern, replacement, name)
        linear = ".attentions.0.to_" in name and value.ndim == 4
        yield f"vae.{name}", value[:, :, 0, 0] if linear else value


def _groups(metadata: Mapping[str, str]) -> int | None:
    """Norm groups of the component that a file of ours was made with, if it says so."""
    fields = json.loads(metadata.get("component", "{}"))
    known = {name: fields[name] for name in ("architecture", "groups") if name in fields}
    return FluxVaeConfig.model_validate({"weights": "random", **known}).norm_groups if known else None


def _differences(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    def shape(tensors: Mapping[str, Tensor], key: str) -> str:
        return "x".join(map(str, tensors[key].shape)) if key in tensors else "absent"

    keys = sorted(state.keys() | wanted.keys())
    return [
        f"{key}: file {shape(state, key)}, config {shape(wanted, key)}"
        for key in keys
        if shape(state, key) != shape(wanted, key)
    ]


def _fields(state: Mapping[str, Tensor], groups: int | None) -> str:
    """The config fields that the file's own shapes call for."""
    widths: list[int] = []
    while (key := f"vae.encoder.down_blocks.{len(widths)}.resnets.0.conv1.weight") in state:
        widths.append(state[key].shape[0])
    first, last = (state.get(f"vae.encoder.{name}.weight", torch.empty(0, 0)) for name in ("conv_in", "conv_out"))
    layers = sum(re.fullmatch(r"vae\.encoder\.down_blocks\.0\.resnets\.\d+\.conv1\.weight", key) is not None for key in state)
    attention = any(".mid_block.attentions." in key for key in state)
    return (
        f"the file was made with widths {widths}, layers {layers}, latent_channels {last.shape[0] // 2}, "
        f"image_channels {first.shape[1]}, mid_attention {str(attention).lower()}"
        + (f", groups {groups}" if groups is not None else "")
    )
