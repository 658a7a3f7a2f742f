"""Tensors and settings of a diffusers folder (whole, one precision variant, or in shards) or of one safetensors file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from ctgen.atomic import read_json
from ctgen.errors import CheckpointError

STEM = "diffusion_pytorch_model"
SHOWN = 4


@dataclass(frozen=True)
class Stored:
    """What was found. ``path``: the file, or a sharded folder's index; ``settings``: config.json beside it, else empty."""

    path: Path
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]
    settings: Mapping[str, Any]


def read_stored(path: Path, component: str, *, also: Sequence[str] = (), how_to_get: str = "") -> Stored:
    """Read a file, or the one set of weights in a folder: diffusers' names come first, then ``also``.

    CheckpointError: no weights, several variants to choose from, shards missing, not safetensors or damaged.
    """
    index: Path | None = None
    if path.is_dir():
        files, index = _in_folder(path, component, also, how_to_get)
    else:
        files = [path]
    tensors: dict[str, Tensor] = {}
    metadata: dict[str, str] = {}
    for file in files:
        held, said = _read(file, component, how_to_get)
        tensors |= held
        metadata |= said
    settings = files[0].parent / "config.json"
    return Stored(index or files[0], tensors, metadata, _json(settings, component) if settings.is_file() else {})


def _in_folder(folder: Path, component: str, also: Sequence[str], how_to_get: str) -> tuple[list[Path], Path | None]:
    whole, index = folder / f"{STEM}.safetensors", folder / f"{STEM}.safetensors.index.json"
    if whole.is_file():
        return [whole], None
    if index.is_file():
        return _shards(index, component), index
    variants = sorted(folder.glob(f"{STEM}.*.safetensors"))
    if len(variants) > 1:
        raise CheckpointError(
            f"{component}: {folder} holds {len(variants)} variants of its weights: {', '.join(file.name for file in variants)}",
            hint=f"give one of them: {variants[0]}",
        )
    for file in [*variants, *(folder / name for name in also)]:
        if file.is_file():
            return [file], None
    hint = how_to_get
    if (folder / "vae" / "config.json").is_file():
        hint = f"it has a folder `vae`: try {folder / 'vae'}"
    elif pickles := sorted(file.name for file in folder.iterdir() if file.suffix in (".bin", ".pt", ".pth", ".ckpt")):
        hint = f"{pickles[0]} is not read: only safetensors are\n{how_to_get}"
    raise CheckpointError(f"{component}: {folder} holds neither {' nor '.join((whole.name, *also))}", hint=hint)


def _shards(index: Path, component: str) -> list[Path]:
    names = _json(index, component).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise CheckpointError(f"{component}: {index} has no weight_map")
    files = [index.parent / Path(str(name)).name for name in sorted(set(names.values()))]
    absent = [file.name for file in files if not file.is_file()]
    if absent:
        raise CheckpointError(
            f"{component}: {index} names {len(files)} files, of which {len(absent)} are missing: {some(absent)}"
        )
    return files


def _json(path: Path, component: str) -> dict[str, Any]:
    try:
        found = read_json(path)
    except ValueError as error:
        raise CheckpointError(f"{component}: {path} is damaged: {error}") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{component}: {path} is damaged: it is no JSON object")
    return found


def _read(file: Path, component: str, how_to_get: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(str(file), framework="pt") as handle:
            return {key: handle.get_tensor(key) for key in handle.keys()}, dict(handle.metadata() or {})  # noqa: SIM118 - no dict
    except (SafetensorError, OSError) as error:
        kind = " (it is a pickle of torch.save)" if _pickled(file) else ""
        raise CheckpointError(
            f"{component}: {file} is not a readable safetensors file{kind}: {error}", hint=how_to_get
        ) from error


def _pickled(file: Path) -> bool:
    with file.open("rb") as stream:
        start = stream.read(4)
    return start == b"PK\x03\x04" or start[:1] == b"\x80"


def differences(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    """Lines that count and name what is missing, unexpected, of another shape or no floating point numbers."""
    shared = sorted(found.keys() & wanted.keys())
    shapes = [
        f"{key} (file {_shape(found[key])}, config {_shape(wanted[key])})"
        for key in shared
        if found[key].shape != wanted[key].shape
    ]
    groups = {
        "missing": sorted(wanted.keys() - found.keys()),
        "unexpected": sorted(found.keys() - wanted.keys()),
        "of another shape": shapes,
        "no floating point numbers": [key for key in shared if not found[key].is_floating_point()],
    }
    return [f"{len(names)} {what}: {some(names)}" for what, names in groups.items() if names]


def some(names: Iterable[str]) -> str:
    """The first few."""
    listed = list(names)
    return ", ".join(listed[:SHOWN]) + (f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else "")


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"
