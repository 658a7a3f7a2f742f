"""Safetensors files of which equal content means equal bytes.

The library writes metadata in an order that it draws anew each time, so that the same weights would have another SHA-256, and
everything that is named by it would count as new. Here it is sorted; tensors already are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import torch as library
from torch import Tensor

LENGTH = 8
"""Bytes before the header, which say how long it is."""


def save_file(tensors: Mapping[str, Tensor], path: Path | str, metadata: Mapping[str, str] | None = None) -> None:
    """Write contiguous tensors that share no memory to ``path``, in place; wrap it in ``write_atomically``."""
    library.save_file(dict(tensors), str(path), metadata=dict(metadata) if metadata else None)
    if metadata:
        _sort_metadata(Path(path))


def _sort_metadata(path: Path) -> None:
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(LENGTH), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) > length:
            raise AssertionError(f"{path}: the same header, sorted, takes {len(text)} bytes for {length}")
        file.seek(LENGTH)
        # the format allows spaces at the end, and has them where the tensors would not be aligned otherwise
        file.write(text.ljust(length))
