"""Checkpoints: folders that are whole or absent, that know their spec and their hashes.

``checkpoints/step-N/``: model.safetensors and ema.safetensors (state_dicts of the trained component), adversary.safetensors and
head.safetensors where the objective has them, state/ (optimisers, counters), spec.json. The folder is written under a temporary
name and renamed; spec.json is written last.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ctgen.atomic import read_json, sha256_of, write_json
from ctgen.errors import CheckpointError
from ctgen.safetensors_file import save_file

_NAME = re.compile(r"step-(\d+)")


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint on disk."""

    folder: Path
    step: int
    spec: Mapping[str, Any]
    versions: Mapping[str, str]
    sha256: Mapping[str, str]

    def weights(self, name: Literal["model", "ema", "adversary", "head"] = "ema") -> Path:
        return self.folder / f"{name}.safetensors"


def read_checkpoint(folder: Path) -> Checkpoint:
    """The checkpoint in ``folder``; CheckpointError if there is none."""
    try:
        facts = read_json(folder / "spec.json")
        return Checkpoint(folder, facts["step"], facts["spec"], facts["versions"], facts["sha256"])
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder} is not a checkpoint: it has no spec.json") from error
    except (ValueError, KeyError) as error:
        raise CheckpointError(
            f"{folder / 'spec.json'} is damaged: {error}", hint=f"remove {folder} to go on without it"
        ) from error


def list_checkpoints(folder: Path) -> list[Checkpoint]:
    """The complete checkpoints in ``folder`` (a run's ``checkpoints``), oldest first."""
    if not folder.is_dir():
        return []
    found = [child for child in folder.iterdir() if _NAME.fullmatch(child.name) and (child / "spec.json").is_file()]
    return sorted((read_checkpoint(child) for child in found), key=lambda checkpoint: checkpoint.step)


def newest_checkpoint(folder: Path) -> Checkpoint | None:
    found = list_checkpoints(folder)
    return found[-1] if found else None


def write_checkpoint(
    folder: Path,
    step: int,
    *,
    weights: Mapping[str, Mapping[str, Tensor]],
    state: Mapping[str, Any],
    loop: Mapping[str, Any],
    spec: Mapping[str, Any],
    metadata: Mapping[str, str] | None = None,
) -> Checkpoint:
    """Write ``folder/step-N``. ``weights``: file stem -> state_dict; ``state``: tensors for torch.save; ``loop``: JSON;
    ``metadata``: for the headers of model and ema, see ``file_metadata``."""
    final = folder / f"step-{step}"
    temporary = folder / f".writing-step-{step}-{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    (temporary / "state").mkdir(parents=True)
    for name, tensors in weights.items():
        own = dict(metadata or {}) if name in ("model", "ema") else {}
        save_file(_unshared(tensors), temporary / f"{name}.safetensors", metadata={"format": "pt", **own})
    torch.save(dict(state), temporary / "state" / "optimisers.pt")
    write_json(temporary / "state" / "loop.json", dict(loop))
    files = sorted(file for file in temporary.rglob("*") if file.is_file())
    for file in files:
        _sync(file)
    hashes = {file.relative_to(temporary).as_posix(): sha256_of(file) for file in files}
    facts = {"step": step, "spec": _plain(spec), "versions": _versions(), "sha256": hashes}
    write_json(temporary / "spec.json", facts)
    if final.exists():
        _remove(final)
    temporary.replace(final)
    _sync(folder)
    return read_checkpoint(final)


def file_metadata(component: object) -> dict[str, str]:
    """What a component wants written in the header of its weights (its method ``file_metadata``, if it has one)."""
    describe = getattr(component, "file_metadata", None)
    return dict(describe()) if describe is not None else {}


def read_state(checkpoint: Checkpoint) -> tuple[dict[str, Any], dict[str, Any]]:
    """(optimiser state on the CPU, loop counters), after checking every file against its hash."""
    for name, expected in checkpoint.sha256.items():
        path = checkpoint.folder / name
        if not path.is_file() or sha256_of(path) != expected:
            raise CheckpointError(
                f"{path} is {'damaged: its SHA-256 is not that of spec.json' if path.is_file() else 'missing'}",
                hint=f"remove {checkpoint.folder} to go on from the checkpoint before it",
            )
    state = torch.load(checkpoint.folder / "state" / "optimisers.pt", map_location="cpu", weights_only=True)
    return state, read_json(checkpoint.folder / "state" / "loop.json")


def check_spec(checkpoint: Checkpoint, spec: Mapping[str, Any]) -> None:
    """CheckpointError that lists the differences unless the checkpoint was written under ``spec``."""
    lines = differences(checkpoint.spec, _plain(spec))
    if lines:
        raise CheckpointError(
            f"{checkpoint.folder} was written under another spec:\n  " + "\n  ".join(lines),
            hint="use another run folder, or give the settings that it was trained with",
        )


def differences(found: Mapping[str, Any], wanted: Mapping[str, Any], prefix: str = "") -> list[str]:
    """'key: checkpoint A, wanted B' for every leaf that differs."""
    lines: list[str] = []
    for key in sorted({*found, *wanted}):
        name = f"{prefix}{key}"
        old, new = found.get(key, "absent"), wanted.get(key, "absent")
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            lines += differences(old, new, f"{name}.")
        elif old != new:
            lines.append(f"{name}: checkpoint {json.dumps(old)}, wanted {json.dumps(new)}")
    return lines


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file; CheckpointError if it is absent or damaged."""
    try:
        tensors: dict[str, Tensor] = load_file(path)
        return tensors
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def load_weights(module: nn.Module, path: Path) -> None:
    """Load a safetensors file into ``module``, strictly; CheckpointError names keys and shapes that do not fit."""
    tensors, own = read_weights(path), module.state_dict()
    lines = [f"missing in the file: {name} {tuple(own[name].shape)}" for name in own if name not in tensors]
    lines += [f"not in the component: {name} {tuple(tensors[name].shape)}" for name in tensors if name not in own]
    lines += [
        f"{name}: file {tuple(tensors[name].shape)}, component {tuple(own[name].shape)}"
        for name in own
        if name in tensors and own[name].shape != tensors[name].shape
    ]
    if lines:
        more = [f"... and {len(lines) - 12} more"] if len(lines) > 12 else []
        raise CheckpointError(f"{path} does not fit {type(module).__name__}:\n  " + "\n  ".join([*lines[:12], *more]))
    module.load_state_dict(tensors)


def prune_checkpoints(folder: Path, keep: int) -> None:
    """Remove all but the newest ``keep`` and whatever a killed process left half-written."""
    if not folder.is_dir():
        return
    for leftover in [*folder.glob(".writing-*"), *folder.glob(".removing-*")]:
        shutil.rmtree(leftover, ignore_errors=True)
    for checkpoint in list_checkpoints(folder)[: -max(keep, 1)]:
        _remove(checkpoint.folder)


def _remove(folder: Path) -> None:
    # Renamed first: a removal that is cut short must not leave a folder that looks complete.
    doomed = folder.with_name(f".removing-{folder.name}")
    shutil.rmtree(doomed, ignore_errors=True)
    folder.replace(doomed)
    shutil.rmtree(doomed)


def _unshared(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """CPU, contiguous, no two on one storage (safetensors refuses tied weights otherwise)."""
    seen: set[int] = set()
    result: dict[str, Tensor] = {}
    for name, value in tensors.items():
        value = value.detach().cpu().contiguous()
        if value.untyped_storage().data_ptr() in seen:
            value = value.clone()
        seen.add(value.untyped_storage().data_ptr())
        result[name] = value
    return result


def _plain(spec: Mapping[str, Any]) -> dict[str, Any]:
    """As it reads back from JSON, so that tuples equal lists."""
    plain: dict[str, Any] = json.loads(json.dumps(spec))
    return plain


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("ctgen-framework", "torch", "accelerate", "safetensors"):
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
