"""Weights of extractors: by path, checked by hash, never fetched; tables of tensors fill networks that were built empty."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ctgen.atomic import sha256_of
from ctgen.errors import CheckpointError, MissingFileError
from ctgen.interfaces import WeightsInfo


def checked_file(path: str, sha256: str, *, extractor: str, how_to_get: str) -> WeightsInfo:
    """Provenance of the file; MissingFileError if it is not there, CheckpointError if its hash is not the one wanted."""
    file = Path(path)
    if not file.is_file():
        raise MissingFileError(f"{extractor}: weights not found; looked for {file}", hint=how_to_get)
    found = sha256_of(file)
    if sha256 and found != sha256:
        raise CheckpointError(
            f"{extractor}: {file} has the SHA-256 {found}, the config wants {sha256}",
            hint=f"another file gives other numbers and is another protocol; {how_to_get}",
        )
    return WeightsInfo("FILE", path, found)


def described(weights: WeightsInfo) -> dict[str, Any]:
    """As in FeatureExtractor.describe: the file's name without this machine's folders."""
    source = Path(weights.source).name if weights.label == "FILE" else weights.source
    return {"label": weights.label, "source": source, "sha256": weights.sha256}


def read_state(path: Path, *, extractor: str, how_to_get: str) -> dict[str, Tensor]:
    """The state dict of a safetensors or PyTorch file, also below "state_dict" or "params" and saved from data-parallel
    training. CheckpointError if it cannot be read safely."""
    try:
        found: Any = (
            load_file(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
        )
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise CheckpointError(
            f"{extractor}: {path} cannot be read: {type(error).__name__}: {reason}", hint=how_to_get
        ) from error
    for key in ("state_dict", "params"):
        found = found.get(key, found) if isinstance(found, dict) else found
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise CheckpointError(f"{extractor}: {path} is not a table of tensors", hint=how_to_get)
    return {str(name).removeprefix("module."): value for name, value in found.items()}


def fill(
    network: nn.Module, state: Mapping[str, Tensor], *, path: str, extractor: str, hint: str, unused: tuple[str, ...] = ()
) -> None:
    """Give a network on the device "meta" its tensors. CheckpointError lists what does not fit; names that begin with
    ``unused`` may be there besides."""
    wanted = network.state_dict()
    missing = sorted(name for name in wanted if name not in state and not name.endswith("num_batches_tracked"))
    wrong = [name for name in wanted if name in state and state[name].shape != wanted[name].shape]
    unknown = sorted(name for name in state if name not in wanted and not name.startswith(unused))
    if missing or wrong or unknown:
        listed = ", ".join([*missing, *wrong, *unknown][:6])
        raise CheckpointError(
            f"{extractor}: {path} does not fit ({len(missing)} tensors missing, {len(wrong)} of another shape, "
            f"{len(unknown)} unknown): {listed}",
            hint=hint,
        )
    filled = {name: state[name].to(value.dtype) for name, value in wanted.items() if name in state}
    counters = {name: torch.zeros((), dtype=torch.int64) for name in wanted if name not in state}
    network.load_state_dict({**filled, **counters}, assign=True)
