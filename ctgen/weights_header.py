"""What a weights file holds, from its header alone: no tensor is read, nothing in it is executed, no torch for safetensors."""

from __future__ import annotations

import json
import math
import zipfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ctgen.errors import CheckpointError, MissingFileError

BITS = {
    **{"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U64": 64, "U32": 32, "U16": 16},
    **{"U8": 8, "BOOL": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6},
}
"""Of safetensors' data types."""
LARGEST_HEADER = 100_000_000
"""Bytes; the limit of the safetensors library."""
MOST_AXES = 64
LARGEST_JSON = 10_000_000
"""Bytes of a config.json beside the weights."""
FIRST = (
    "diffusion_pytorch_model.safetensors",
    "ae.safetensors",
    "ema.safetensors",
    "model.safetensors",
    "CT-CLIP_v2.pt",
    "pytorch_model.bin",
)
"""Names looked for in a folder, in this order; then any single file with weights."""
SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")


@dataclass(frozen=True)
class TensorEntry:
    """``dtype`` as safetensors writes it: F32, BF16, I64, ..."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def values(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class WeightsHeader:
    """``path`` as given; ``file`` the weights in it; ``beside`` the JSON objects in the same folder, by file name."""

    path: Path
    file: Path
    layout: Literal["safetensors", "pickle"]
    tensors: Mapping[str, TensorEntry]
    metadata: Mapping[str, str] = field(default_factory=dict)
    beside: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    others: tuple[Path, ...] = ()
    """Further files with weights in the folder."""
    left_out: tuple[str, ...] = ()
    """Entries of a pickle that are no tensors."""

    def shape(self, name: str) -> tuple[int, ...]:
        """Of a tensor; empty if there is none of that name."""
        found = self.tensors.get(name)
        return found.shape if found else ()

    def precisions(self) -> dict[str, int]:
        """Data type -> number of values, most frequent first."""
        counted: Counter[str] = Counter()
        for entry in self.tensors.values():
            counted[entry.dtype] += entry.values
        return dict(counted.most_common())


def read_header(path: Path) -> WeightsHeader:
    """The header at ``path`` (a file, or a folder with one); CheckpointError: damaged, hostile or no weights at all."""
    if not path.exists():
        raise MissingFileError(f"{path}: no such file or folder")
    file, others = _files(path)
    beside = {
        name: _json_beside(file.with_name(name)) for name in ("config.json", "spec.json") if file.with_name(name).is_file()
    }
    if file.suffix == ".safetensors" or not _is_pickle(file):
        tensors, metadata = read_safetensors_header(file)
        return WeightsHeader(path, file, "safetensors", tensors, metadata, beside, others)
    tensors, left_out = _read_pickle(file)
    return WeightsHeader(path, file, "pickle", tensors, {}, beside, others, left_out)


def read_safetensors_header(file: Path) -> tuple[dict[str, TensorEntry], dict[str, str]]:
    """Tensors and metadata; everything that the format promises is checked against the file's size."""

    def refuse(why: str) -> CheckpointError:
        return CheckpointError(f"{file} is not a safetensors file: {why}")

    try:
        size = file.stat().st_size
        with file.open("rb") as handle:
            length = int.from_bytes(handle.read(8), "little")
            if size < 8 or length > min(size - 8, LARGEST_HEADER):
                raise refuse(
                    f"its header would have {length:,} bytes, the file has {size:,}" if size >= 8 else "it is too short"
                )
            text = handle.read(length)
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error}") from error
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise refuse(f"its header is not JSON ({type(error).__name__})") from None
    if not isinstance(found, dict):
        raise refuse("its header is not a JSON object")
    metadata = found.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise refuse("its metadata is not a table of text")
    tensors, places = {}, []
    for name, facts in found.items():
        entry, place = _entry(facts) or (None, (0, 0))
        if entry is None:
            raise refuse(f"the entry of tensor {name[:80]!r} is damaged")
        if (place[1] - place[0]) * 8 != entry.values * BITS[entry.dtype]:
            raise refuse(f"tensor {name[:80]!r} has not the size that its header says")
        tensors[name] = entry
        places.append(place)
    end = 0
    for begin, stop in sorted(places):
        if begin != end or stop < begin:
            raise refuse("its tensors overlap or leave gaps")
        end = stop
    if end != size - 8 - length:
        raise refuse(f"its tensors need {end:,} bytes, it has {size - 8 - length:,} (cut short?)")
    return tensors, metadata


def _entry(facts: Any) -> tuple[TensorEntry, tuple[int, int]] | None:
    if not isinstance(facts, dict) or facts.get("dtype") not in BITS:
        return None
    shape, place = facts.get("shape"), facts.get("data_offsets")
    if not isinstance(shape, list) or len(shape) > MOST_AXES or not isinstance(place, list) or len(place) != 2:
        return None
    if not all(type(number) is int and 0 <= number < 1 << 62 for number in (*shape, *place)):
        return None
    return TensorEntry(tuple(shape), facts["dtype"]), (place[0], place[1])


def _files(path: Path) -> tuple[Path, tuple[Path, ...]]:
    if path.is_file():
        return path, ()
    if not path.is_dir():
        raise CheckpointError(f"{path} is neither a file nor a folder")
    found = sorted(child for child in path.iterdir() if child.suffix in SUFFIXES and child.is_file())
    found = found or sorted(child for child in path.glob("final/*.safetensors") if child.is_file())
    named = [path / name for name in FIRST if path / name in found]
    if not found:
        raise CheckpointError(f"{path} holds no file with weights ({', '.join(SUFFIXES)})", hint="give the file or its folder")
    first = named[0] if named else found[0]
    return first, tuple(child for child in found if child != first)


def _json_beside(file: Path) -> Mapping[str, Any]:
    try:
        if file.stat().st_size > LARGEST_JSON:
            raise ValueError("too large")
        found = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("not a JSON object")
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{file}, beside the weights, cannot be read: {type(error).__name__}: {error}") from error
    return found


def _is_pickle(file: Path) -> bool:
    """By content: torch's zip archive, or a bare pickle (which begins with the opcode PROTO)."""
    with file.open("rb") as handle:
        return handle.read(1) == b"\x80" or zipfile.is_zipfile(file)


def _read_pickle(file: Path) -> tuple[dict[str, TensorEntry], tuple[str, ...]]:
    """Names, shapes and types; torch refuses every pickle that would run code, and with "meta" allocates nothing."""
    import torch

    try:
        found = torch.load(file, map_location="meta", weights_only=True, mmap=zipfile.is_zipfile(file))
    except Exception as error:
        first = str(error).strip().partition("\n")[0][:300]
        raise CheckpointError(
            f"{file}: this pickle is damaged or not only weights, and was not opened: {type(error).__name__}: {first}",
            hint="a pickle can run any code; open it only where you trust its maker, and save its tensors as safetensors",
        ) from error
    for wrapper in ("state_dict", "model", "module"):
        if isinstance(found, Mapping) and isinstance(found.get(wrapper), Mapping):
            found = found[wrapper]
    if not isinstance(found, Mapping):
        raise CheckpointError(f"{file}: this pickle holds one {type(found).__name__} instead of named tensors")
    tensors, left_out = {}, []
    for name, value in found.items():
        if isinstance(value, torch.Tensor):
            tensors[str(name)] = TensorEntry(tuple(value.shape), _dtype(value.dtype))
        else:
            left_out.append(str(name))
    return tensors, tuple(left_out)


def _dtype(dtype: Any) -> str:
    """torch.bfloat16 -> BF16."""
    name = str(dtype).removeprefix("torch.")
    short = {"bool": "BOOL", "bfloat16": "BF16", "complex64": "C64"}
    return short.get(name) or name.replace("uint", "U").replace("int", "I").replace("float", "F").upper()
