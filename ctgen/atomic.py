"""Files that are either whole or absent, and hashes that are the same in every process."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

WRITING = ".writing-"
"""Begins the names of temporary folders."""


def write_atomically(path: Path, write: Callable[[Path], Any]) -> Path:
    """Call ``write(temporary)`` in the same folder, fsync, rename to ``path``; on failure nothing is left behind.

    The temporary keeps the full suffix of ``path``, because many writers choose the format by it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=WRITING, dir=path.parent) as folder:
        temporary = Path(folder) / path.name
        write(temporary)
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        # some writers (safetensors) make files that only their owner may read
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    return path


def remove_leftovers(folder: Path) -> None:
    """What writers that were killed left below ``folder``; nobody may be writing there."""
    for path in list(folder.rglob(f"{WRITING}*")):
        shutil.rmtree(path, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: Path, text: str) -> Path:
    """UTF-8, atomically."""
    return write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: Any) -> Path:
    """Indented JSON with sorted keys, atomically."""
    return write_text(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file, or of a folder's files in name order."""
    digest = hashlib.sha256()
    files = [path] if path.is_file() else sorted(found for found in path.rglob("*") if found.is_file())
    for file in files:
        if file != path:
            digest.update(str(file.relative_to(path)).encode())
        with file.open("rb") as handle:
            while chunk := handle.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def stable_hash(*parts: object) -> int:
    """A 63-bit integer from the text of ``parts``; unlike hash(), the same in every process and version."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def fingerprint(value: Any) -> str:
    """16 hex digits of the canonical JSON of ``value``."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
