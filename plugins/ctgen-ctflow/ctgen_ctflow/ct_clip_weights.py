"""CT-CLIP's text weights: ``CT-CLIP_v2.pt`` (a flat pickled dict of the whole model) or safetensors with the same names."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ctgen.errors import CheckpointError

HOW_TO_GET = (
    "CT-CLIP_v2.pt is in the folder models/ of the Hugging Face data set ibrahimhamamci/CT-RATE (gated: ask for access)"
)
HOW_TO_GET_VOCABULARY = "CXR-BERT's vocab.txt is in microsoft/BiomedVLP-CXR-BERT-specialized on the Hugging Face hub"
PREFIX = "text_transformer."
UNUSED = ("embeddings.position_ids", "pooler.dense.weight", "pooler.dense.bias")
"""Entries of the published text tower that its embedding does not need."""


def read(path: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint; pickles are opened with ``weights_only`` alone."""
    try:
        if path.suffix == ".safetensors":
            found: object = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:
        raise CheckpointError(
            f"ct-clip: {path} cannot be read: {type(error).__name__}: {str(error).partition(chr(10))[0]}"
        ) from error
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        raise CheckpointError(f"ct-clip: {path} is not a flat state dict", hint=HOW_TO_GET)
    return dict(found)


def load(bert: nn.Module, path: Path) -> tuple[str, ...]:
    """Fill ``bert`` from the ``text_transformer.`` entries; returns what was skipped. CheckpointError lists all misfits."""
    if path.is_dir():
        found = sorted(path.glob("*.safetensors"))
        if len(found) != 1:
            raise CheckpointError(
                f"ct-clip: {path} holds {len(found)} safetensors files, expected one", hint="give the file itself"
            )
        path = found[0]
    tensors = read(path)
    own = {key.removeprefix(PREFIX): value for key, value in tensors.items() if key.startswith(PREFIX)}
    wanted = bert.state_dict()
    stray = [key for key in UNUSED if key in own and key not in wanted]
    state = {key: value for key, value in own.items() if key not in stray}
    problems = [
        f"{PREFIX}{key}: file {_shape(state.get(key))}, config {_shape(wanted.get(key))}"
        for key in sorted(wanted.keys() | state.keys())
        if key not in state or key not in wanted or state[key].shape != wanted[key].shape
    ]
    if problems:
        shown = "\n  ".join([*problems[:8], *([f"... and {len(problems) - 8} more"] if len(problems) > 8 else [])])
        raise CheckpointError(f"ct-clip: {path} does not fit this config:\n  {shown}", hint=_hint(state))
    bert.load_state_dict(state)
    return tuple(PREFIX + key for key in stray) + tuple(key for key in tensors if not key.startswith(PREFIX))


def _shape(tensor: Tensor | None) -> str:
    return "absent" if tensor is None else "x".join(map(str, tensor.shape))


def _hint(state: Mapping[str, Tensor]) -> str:
    """The fields that the file's own shapes call for."""
    words, places = (state.get(f"embeddings.{name}_embeddings.weight") for name in ("word", "position"))
    inner = state.get("encoder.layer.0.intermediate.dense.weight")
    if words is None or places is None or inner is None:
        return HOW_TO_GET
    layers = len({key.split(".")[2] for key in state if key.startswith("encoder.layer.")})
    return (
        f"the file holds layers={layers} width={words.shape[1]} feed_forward={inner.shape[0]} positions={places.shape[0]}, "
        f"and a vocabulary of {words.shape[0]} tokens"
    )
