"""What an STDiT checkpoint says of the config it was made with: its metadata, or the JSON beside it. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ctgen.atomic import read_json
from ctgen.errors import CheckpointError

HOW_TO_GET = (
    "the published folder is hf:EnyaWoooo/CTFlow/checkpoint-680000/denoiser_ema: write that, or download it and give its path"
)
RELEASED_FILE = "diffusion_pytorch_model.safetensors"
PREFIX = "model."
POSITIONS = ("pos_embed", "pos_embed_temporal")
OWN = "stdit"
"""Metadata entry of our own files: a JSON object of FIELDS, channels and text_width."""
FIELDS = (
    *("layers", "width", "heads", "patch", "mlp_ratio", "attention_transpose", "text", "position_input", "context_level_input"),
    *("temporal_norm", "text_whitening", "text_modulation"),
    *("time_factor", "skip", "latent_std", "target", "detail"),
)
"""Fields of the config that the weights were trained with and cannot do without."""


class Description(NamedTuple):
    """``fields`` of our config that a checkpoint was made with (as far as it is known), and how that is known."""

    fields: Mapping[str, Any]
    reason: str


def weights_file(path: Path) -> Path:
    """``path`` itself, or the file in a folder; the averaged weights of a training checkpoint."""
    if path.is_file():
        return path
    names = (RELEASED_FILE, "ema.safetensors", "model.safetensors")
    for name in names:
        if (path / name).is_file():
            return path / name
    raise CheckpointError(f"stdit: {path} holds none of {', '.join(names)}", hint=HOW_TO_GET)


def describe(file: Path, metadata: Mapping[str, str], names: Iterable[str]) -> Description:
    """What ``file`` and what lies beside it say of the config it needs.

    CheckpointError: a file in the released layout without its config.json, or with a damaged one.
    """
    if any(name.startswith(PREFIX) or name in POSITIONS for name in names):
        return _released_description(file)
    own = own_description(metadata)
    return own if own.fields else _checkpoint_description(file)


def own_description(metadata: Mapping[str, str]) -> Description:
    """From the metadata of a file in our own layout; empty if it does not say.

    Shipped weights also carry the whole config that they were trained with, under "component".
    """
    found: dict[str, Any] = {}
    for entry in ("component", OWN):
        try:
            fields = json.loads(metadata.get(entry, "{}"))
        except (ValueError, RecursionError):
            fields = None
        if not isinstance(fields, dict):
            raise CheckpointError(
                f"stdit: the metadata entry {entry!r} of the weights file is damaged: {metadata[entry][:80]!r}"
            )
        wanted = FIELDS if entry == "component" else (*FIELDS, "channels", "text_width")
        found |= {key: fields[key] for key in wanted if key in fields and fields[key] != "auto"}
    if found.get("skip") == "none":
        found.pop("latent_std", None)
    if found:
        # files from before there was the choice do not name it
        found = (
            {name: False for name in ("temporal_norm", "text_whitening", "text_modulation")} | {"target": "velocity"} | found
        )
    return Description(found, "the file says so" if found else "")


def _released_description(file: Path) -> Description:
    """Fields of our config, from the config.json beside a released file; what it says of EMA is ignored."""
    path = file.with_name("config.json")
    if not path.is_file():
        raise CheckpointError(
            f"stdit: {file} is in the released layout, but {path} is missing: the number of heads is written nowhere else",
            hint="put the config.json of the checkpoint beside it",
        )
    try:
        settings = dict(read_json(path))
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"stdit: {path} is not a JSON object: {error}") from error
    names = {"depth": "layers", "hidden_size": "width", "num_heads": "heads", "patch_size": "patch", "mlp_ratio": "mlp_ratio"}
    fields = {ours: settings[theirs] for theirs, ours in names.items() if theirs in settings}
    fields |= {"channels": settings.get("out_channels"), "text_width": settings.get("caption_channels"), "time_factor": 1.0}
    told = settings.get("attention_transpose")
    if told not in (None, "correct", "released"):
        raise CheckpointError(f"stdit: {path}: attention_transpose is {told!r}, not 'correct' or 'released'")
    # CTFlow's code writes no such entry, and it never swaps heads and tokens back.
    reason = f"{path.name} says so" if told else f"CTFlow's own layout, whose {path.name} does not name attention_transpose"
    return Description(fields | {"attention_transpose": told or "released"}, reason)


def _checkpoint_description(file: Path) -> Description:
    """From the spec.json of a training checkpoint that says nothing in the file itself."""
    path = file.with_name("spec.json")
    if not path.is_file():
        return Description({}, "")
    try:
        component = dict(read_json(path)["spec"]["component"])
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"stdit: {path} beside the weights is damaged: {error!r}") from error
    fields = {key: component[key] for key in FIELDS if key in component and component[key] != "auto"}
    if fields.get("skip") == "none":
        fields.pop("latent_std", None)
    return Description(fields, f"{path.name} says so")
