"""CT-CLIP's weights in and out: ``CT-CLIP_v2.pt`` (a pickled flat dict of the whole model) and safetensors of ours."""

from __future__ import annotations

import json
import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from ctgen.errors import CheckpointError
from ctgen_ctflow.ct_clip_layout import HOW_TO_GET, IMAGE, TEXT, differences, looks_like, ours
from ctgen_ctflow.ct_clip_sizes import CtClipSizes, ImageSizes, TextSizes, image_sizes, text_sizes

LISTED = 8
FIRST_FRAME = "visual_transformer.to_patch_emb_first_frame.1.weight"
"""Holds one value per pixel of a patch: the only tensor that shows the patch's side."""


@dataclass(frozen=True)
class Checkpoint:
    """A file's tensors by our names, in the precision they are stored in."""

    path: Path
    looks_like: str
    tensors: Mapping[str, Tensor]
    skipped: Mapping[str, str]
    """Published names that nothing reads, each with the reason."""
    metadata: Mapping[str, str]
    text: TextSizes | None
    """None: no text tower."""
    image: ImageSizes | None
    """None: no image tower."""
    latent: int | None
    """Width of the common space; None: no projection of texts."""

    @property
    def heads_stated(self) -> bool:
        """True if the file itself says how many heads its text tower has."""
        return not self.metadata.keys().isdisjoint({"ct-clip", "component"})

    @property
    def sizes(self) -> CtClipSizes | None:
        """None if not both towers and their projections are there."""
        if self.text is None or self.image is None or self.latent is None:
            return None
        return CtClipSizes(self.text, self.image, self.latent)


def open_checkpoint(path: Path, text_heads: int | None = None) -> Checkpoint:
    """``path``: a file, or a folder with one safetensors file. CheckpointError: unreadable, not safe, or not CT-CLIP's."""
    file = _file(path)
    tensors, metadata = _read(file)
    kind = looks_like(tensors)
    if not kind.startswith("CT-CLIP") or "module." in kind:
        raise CheckpointError(f"ct-clip: {file} is not CT-CLIP's; its {len(tensors)} tensors look like {kind}", hint=HOW_TO_GET)
    state, skipped = ours(tensors)
    return Checkpoint(file, kind, state, skipped, metadata, *_sizes(state, tensors, metadata, text_heads))


def load_text(tower: nn.Module, path: Path, heads: int) -> tuple[str, ...]:
    """Fill ``tower`` (its names: ``text_transformer.``, perhaps ``to_text_latent``); returns the names that were left out.

    CheckpointError lists all misfits, and tells the fields that the file calls for. ``heads`` is what the tower was built
    with: no tensor shows it, but files of ours state it.
    """
    checkpoint = open_checkpoint(path)
    if checkpoint.heads_stated and checkpoint.text is not None and checkpoint.text.heads != heads:
        raise CheckpointError(
            f"ct-clip: {checkpoint.path} was made with {checkpoint.text.heads} heads, config {heads}",
            hint=f"set text_encoder.heads={checkpoint.text.heads}",
        )
    wanted = tower.state_dict()
    other = [name for name in checkpoint.tensors if not name.startswith(TEXT) and name not in wanted]
    state = {name: value for name, value in checkpoint.tensors.items() if name not in other}
    problems = differences(state, wanted)
    if problems:
        raise CheckpointError(
            f"ct-clip: {checkpoint.path} ({checkpoint.looks_like}) does not fit this config, {len(problems)} of "
            f"{len(wanted)} tensors differ:\n  {shortened(problems)}",
            hint=_fields(checkpoint.text),
        )
    tower.load_state_dict(state)
    return tuple(checkpoint.skipped) + tuple(other)


def shortened(problems: list[str]) -> str:
    return "\n  ".join([*problems[:LISTED], *([f"... and {len(problems) - LISTED} more"] if len(problems) > LISTED else [])])


def _file(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = sorted(path.glob("*.safetensors")) or sorted(path.glob("*.pt"))
    if len(found) != 1:
        listed = ", ".join(file.name for file in found[:3]) or "none"
        raise CheckpointError(f"ct-clip: {path} holds {len(found)} weight files ({listed}), expected one", hint="give the file")
    return found[0]


def _read(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        if file.suffix == ".safetensors":
            with safe_open(file, framework="pt") as reader:
                return {name: reader.get_tensor(name) for name in reader.keys()}, dict(reader.metadata() or {})  # noqa: SIM118
        found: Any = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except pickle.UnpicklingError as error:
        named = re.search(r"(?:GLOBAL|global:?|class|function)\s+([\w]+(?:\.[\w]+)+)", str(error))
        asked = f"asks for the code {named[1]}" if named else "is more than a table of tensors"
        raise CheckpointError(
            f"ct-clip: {file} cannot be read safely: it is a pickle that {asked}, which could do anything on this machine",
            hint=HOW_TO_GET + ", and holds tensors alone",
        ) from error
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"ct-clip: {file} cannot be read: {type(error).__name__}: {reason}", hint=HOW_TO_GET) from error
    if not isinstance(found, Mapping):
        raise CheckpointError(f"ct-clip: {file} holds a {type(found).__name__}, not a table of tensors", hint=HOW_TO_GET)
    odd = [str(name) for name, value in found.items() if not isinstance(value, Tensor)]
    if odd:
        raise CheckpointError(
            f"ct-clip: {file} is not a flat state dict: {len(odd)} of its {len(found)} entries are no tensors "
            f"({', '.join(odd[:4])}); it seems to be a training checkpoint with the weights inside",
            hint="save the state dict itself: torch.save(checkpoint['...'], 'weights.pt')",
        )
    return dict(found), {}


def _sizes(
    state: Mapping[str, Tensor], published: Mapping[str, Tensor], metadata: Mapping[str, str], heads: int | None
) -> tuple[TextSizes | None, ImageSizes | None, int | None]:
    if "ct-clip" in metadata:
        stated = CtClipSizes.from_dict(json.loads(metadata["ct-clip"]))
        return stated.text, stated.image, stated.latent
    # Files that a training run leaves say which config made them.
    heads = heads or json.loads(metadata.get("component", "{}")).get("heads")
    text, image = (any(name.startswith(prefix) for name in state) for prefix in (TEXT, IMAGE))
    projection = state.get("to_text_latent.weight")
    try:
        return (
            text_sizes(state, heads) if text else None,
            image_sizes(state, published[FIRST_FRAME].shape[0]) if image else None,
            None if projection is None else projection.shape[0],
        )
    except KeyError as error:
        raise CheckpointError(
            f"ct-clip: the checkpoint lacks {error.args[0]}, which shows its size", hint=HOW_TO_GET
        ) from error


def _fields(text: TextSizes | None) -> str:
    """The config fields that the file's own shapes call for."""
    if text is None:
        return HOW_TO_GET
    return (
        f"the file holds layers={text.layers} width={text.width} feed_forward={text.feed_forward} positions={text.positions}, "
        f"and a vocabulary of {text.vocabulary} tokens"
    )
