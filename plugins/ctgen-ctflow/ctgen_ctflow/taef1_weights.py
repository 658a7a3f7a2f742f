"""Weights of TAEF1 from any layout in use, told apart by the names of their tensors.

- ``diffusers``: a folder with config.json, or its safetensors file alone;
- ``original``: taef1_encoder.safetensors and taef1_decoder.safetensors, whose layers are numbered;
- ``ctgen``: diffusers' names behind ``net.``, with metadata in the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor

from ctgen.errors import CheckpointError
from ctgen_ctflow.flux_vae_files import differences, read_stored, some

HOW_TO_GET = (
    "TAEF1 is madebyollin/taef1 on the Hugging Face hub (MIT): set autoencoder.weights=hf:madebyollin/taef1, or "
    "`hf download madebyollin/taef1 --local-dir taef1` and autoencoder.weights=taef1"
)
HALVES = ("taef1_encoder.safetensors", "taef1_decoder.safetensors")


def read(path: Path, wanted: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """State dict in float32 with the names and shapes of ``wanted``, and latent scale and shift if they are stated."""
    if path.is_dir() and any((path / half).is_file() for half in HALVES):
        state, metadata = _original(path), {}
    else:
        stored = read_stored(path, "taef1", how_to_get=f"or, in a folder, {' and '.join(HALVES)}\n{HOW_TO_GET}")
        state, metadata = _named(stored.tensors, stored.path), dict(stored.metadata)
        if (kind := stored.settings.get("_class_name", "AutoencoderTiny")) != "AutoencoderTiny":
            raise CheckpointError(f"taef1: {stored.path} belongs to a {kind}, wanted an AutoencoderTiny", hint=HOW_TO_GET)
        names = (("scale", "scaling_factor"), ("shift", "shift_factor"))
        metadata |= {ours: str(stored.settings[name]) for ours, name in names if stored.settings.get(name) is not None}
    if problems := differences(state, wanted):
        raise CheckpointError(f"taef1: {path} is not TAEF1, which has {len(wanted)} tensors:\n  " + "\n  ".join(problems))
    return {key: value.float() for key, value in state.items()}, metadata


def _named(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    for mark, prefix in ((r"net\.(en|de)coder\.layers\.\d", ""), (r"(en|de)coder\.layers\.\d", "net.")):
        if any(re.match(mark, name) for name in tensors):
            return {prefix + key: value for key, value in tensors.items()}
    half = tensors and all(re.match(r"\d+\.", name) for name in tensors)
    raise CheckpointError(
        f"taef1: {path} is in none of the layouts that taef1 reads:\n"
        "  expected the names of diffusers (encoder.layers.*) or ctgen (net.encoder.layers.*)\n"
        f"  found {len(tensors)} tensors: {some(sorted(tensors)) or 'none'}",
        hint=f"it looks like one of {' and '.join(HALVES)}: give the folder that holds both" if half else HOW_TO_GET,
    )


def _original(folder: Path) -> dict[str, Tensor]:
    if absent := [half for half in HALVES if not (folder / half).is_file()]:
        raise CheckpointError(f"taef1: {folder} lacks {absent[0]}", hint=HOW_TO_GET)
    return {
        name: value
        for half, side in zip(HALVES, ("encoder", "decoder"), strict=True)
        for name, value in _numbered(read_stored(folder / half, "taef1", how_to_get=HOW_TO_GET).tensors, side)
    }


def _numbered(tensors: Mapping[str, Tensor], side: str) -> Iterator[tuple[str, Tensor]]:
    # the original counts the decoder's clamp as layer 0; diffusers clamps outside its numbered layers
    first = 1 if side == "decoder" else 0
    for key, value in tensors.items():
        number, _, rest = key.partition(".")
        known = number.isdigit()
        yield (f"net.{side}.layers.{int(number) - first}.{rest}" if known else f"net.{side}.{key}"), value
