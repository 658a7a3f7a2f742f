"""Where a prepared case comes from, and whether its files are still the same: what an incremental run decides by.

A file with the path, size and time of change that it had is taken for the same file, unread. If one of them differs, but not
the size, its SHA-256 decides: copying a data set to another place or touching it costs a read, not a second preparation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ctgen.atomic import fingerprint, sha256_of
from ctgen.errors import DataError
from ctgen.interfaces import Origin

POLICY = "the same path, size and time of change: the same file; otherwise the same size and SHA-256"


def stamp(origin: Origin) -> dict[str, Any]:
    """JSON-ready: the facts' hash, and path, size and time of change of every file. OSError if one cannot be looked at."""
    files = []
    for path in origin.files:
        state = path.stat()
        files.append({"path": str(path), "bytes": state.st_size, "mtime_ns": state.st_mtime_ns})
    return {"facts": fingerprint(dict(origin.facts)), "files": files}


def with_hashes(taken: Mapping[str, Any]) -> dict[str, Any]:
    """A stamp with each file's SHA-256. DataError if a file has changed since the stamp was taken."""
    files = []
    for entry in taken["files"]:
        path = Path(entry["path"])
        digest, state = sha256_of(path), path.stat()
        if (state.st_size, state.st_mtime_ns) != (entry["bytes"], entry["mtime_ns"]):
            raise DataError(f"{path} was written to while it was being read")
        files.append({**entry, "sha256": digest})
    return {**taken, "files": files}


def unchanged(stored: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any] | None:
    """``now`` with the hashes of the ``stored`` stamp if both are of the same bytes and facts, else None."""
    then, files = stored["files"], now["files"]
    if stored["facts"] != now["facts"] or len(then) != len(files):
        return None
    if any(old["bytes"] != new["bytes"] for old, new in zip(then, files, strict=True)):
        return None
    known = []
    for old, new in zip(then, files, strict=True):
        if any(old[key] != new[key] for key in ("path", "mtime_ns")) and sha256_of(Path(new["path"])) != old["sha256"]:
            return None
        known.append({**new, "sha256": old["sha256"]})
    return {**now, "files": known}


def summary(hashed: Mapping[str, Any]) -> dict[str, Any]:
    """A stamp in short, for manifests: files, bytes, one SHA-256 (of several files: of their hashes), the facts' hash."""
    files: Sequence[Mapping[str, Any]] = hashed["files"]
    digests = [entry["sha256"] for entry in files]
    together = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    return {"files": len(files), "bytes": sum(entry["bytes"] for entry in files), "sha256": together, "facts": hashed["facts"]}
