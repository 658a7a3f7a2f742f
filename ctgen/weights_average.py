"""``ctgen weights average``: one network from several, each value the mean of theirs.

Networks of one training that went different ways from a common start can be averaged, and the mean is often better than each
(Wortsman et al., "Model soups", ICML 2022; "Robust fine-tuning of zero-shot models", CVPR 2022). Networks that were drawn
separately cannot: their mean means nothing, which no program sees.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from ctgen.atomic import sha256_of, write_atomically
from ctgen.errors import CheckpointError, ConfigError
from ctgen.weights_header import WeightsHeader, read_header

ORIGIN = ("recipe", "recipe_hash", "stage_fingerprint", "steps", "seed", "source_sha256", "ctgen", "averaged")
"""Metadata that says where weights come from: averages list that of all. Whatever else a file says, all must say."""
LISTED = 5


def average_weights(paths: Sequence[Path], out: Path, *, shares: Sequence[float] | None = None) -> list[float]:
    """Write the weighted mean of safetensors files (or folders with one) to the new file ``out``; returns the shares, of sum 1.

    ``shares``: positive numbers, one per file; equal if None. The mean is taken in double precision and stored as the first
    file stores it. Integers and booleans must be the same in all. Entry ``averaged`` of the metadata lists each file's SHA-256
    and share. ConfigError: a wrong number of files or shares, ``out`` exists. CheckpointError: files of different networks.
    """
    if len(paths) < 2:
        raise ConfigError("an average needs two files or more")
    if out.suffix != ".safetensors":
        raise ConfigError(f"{out}: the name of a weights file ends in .safetensors")
    if out.exists():
        raise ConfigError(f"{out} exists already", hint="name a new file")
    parts = _shares(shares, len(paths))
    headers = [read_header(path.expanduser()) for path in paths]
    for header in headers:
        if header.layout != "safetensors":
            raise CheckpointError(f"{header.file} is no safetensors file", hint="save its tensors as safetensors first")
        _same_tensors(headers[0], header)
    metadata = _metadata(headers) | {
        "averaged": json.dumps(
            [{"sha256": sha256_of(one.file), "share": round(part, 6)} for one, part in zip(headers, parts, strict=True)]
        )
    }
    _write(headers, parts, out, metadata)
    return parts


def _shares(shares: Sequence[float] | None, count: int) -> list[float]:
    given = [1.0] * count if shares is None else [float(share) for share in shares]
    if len(given) != count:
        raise ConfigError(f"{len(given)} shares for {count} files", hint="--shares takes one number per file: --shares 3,1")
    if not all(math.isfinite(share) and share > 0 for share in given):
        raise ConfigError(f"shares must be positive numbers, got {', '.join(f'{share:g}' for share in given)}")
    return [share / sum(given) for share in given]


def _same_tensors(first: WeightsHeader, other: WeightsHeader) -> None:
    problems = [
        f"{name}: {_shape(first, name)} and {_shape(other, name)}"
        for name in sorted(first.tensors.keys() | other.tensors.keys())
        if first.tensors.get(name) is None or other.tensors.get(name) is None or first.shape(name) != other.shape(name)
    ]
    if problems:
        more = [f"... and {len(problems) - LISTED} more"] if len(problems) > LISTED else []
        listed = "\n  ".join(problems[:LISTED] + more)
        raise CheckpointError(f"{first.file} and {other.file} are not of one network:\n  {listed}")


def _shape(header: WeightsHeader, name: str) -> str:
    entry = header.tensors.get(name)
    return "absent" if entry is None else "x".join(map(str, entry.shape)) or "a number"


def _metadata(headers: Sequence[WeightsHeader]) -> dict[str, str]:
    """What all files say; of their origin what each says; of the config under "component" what all say."""
    merged: dict[str, str] = {}
    for key in dict.fromkeys(key for header in headers for key in header.metadata):
        values = [header.metadata.get(key) for header in headers]
        if len(set(values)) == 1:
            merged[key] = str(values[0])
        elif key in ORIGIN:
            merged[key] = " + ".join("unknown" if value is None else value for value in values)
        elif key == "component":
            merged[key] = _shared_fields(values)
        else:
            said = "; ".join(f"{header.file}: {header.metadata.get(key, 'nothing')[:100]}" for header in headers)
            raise CheckpointError(f"the files do not say the same of {key!r}, so they are not of one network: {said}")
    return merged


def _shared_fields(values: Sequence[str | None]) -> str:
    """The config without the fields that not all files have or that some leave to the file ("auto"); others must not differ."""
    try:
        configs = [json.loads(value or "{}") for value in values]
    except ValueError as error:
        raise CheckpointError(f"a file says what component it is, but not as JSON: {error}") from None
    if not all(isinstance(config, Mapping) for config in configs):
        raise CheckpointError("a file says what component it is, but not as a JSON object")
    same: dict[str, object] = {}
    for key, first in configs[0].items():
        found = [config.get(key, "auto") for config in configs]
        told = [value for value in found if value != "auto"]
        if any(value != told[0] for value in told):
            raise CheckpointError(f"the files are not of one network: their configs say {key}: {', '.join(map(repr, told))}")
        if len(told) == len(found):
            same[key] = first
    return json.dumps(same, sort_keys=True)


def _write(headers: Sequence[WeightsHeader], parts: Sequence[float], out: Path, metadata: Mapping[str, str]) -> None:
    import torch
    from safetensors.torch import load_file

    from ctgen.safetensors_file import save_file

    states = [load_file(str(header.file)) for header in headers]
    mean: dict[str, torch.Tensor] = {}
    for name, first in states[0].items():
        values = [state[name] for state in states]
        if first.is_floating_point():
            total = torch.stack([part * value.double() for part, value in zip(parts, values, strict=True)]).sum(0)
            mean[name] = total.to(first.dtype).contiguous()
            if not mean[name].isfinite().all():
                raise CheckpointError(f"the average of {name} is not finite")
        elif all(torch.equal(first, value) for value in values):
            mean[name] = first
        else:
            raise CheckpointError(f"{name} holds {first.dtype}, which cannot be averaged, and is not the same in all files")
    write_atomically(out, lambda temporary: save_file(mean, str(temporary), metadata=dict(metadata)))
