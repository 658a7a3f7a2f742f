"""A folder tree of DICOM files, read header by header; an index outside the tree makes the second look cheap."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from ctgen.atomic import write_atomically
from ctgen.dicom.plane import Plane, Rejected, is_dicom_start, read_planes
from ctgen.errors import DataError, MissingFileError
from ctgen.volume.header import volume_suffix

INDEX = "index.jsonl.gz"
INDEX_VERSION = 1
BATCH = 64


@dataclass
class Tree:
    """``planes`` in the order of their files; ``rejected`` files that are no CT slices."""

    root: Path
    planes: list[Plane] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    files: int = 0
    headers_read: int = 0
    """Files that the index did not know."""


def listed(root: Path) -> Iterator[tuple[str, os.stat_result]]:
    """(path below root, state) of every file, in a fixed order; hidden files and folders are passed over."""
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.startswith("."):
                continue
            path = os.path.join(folder, name)  # noqa: PTH118  a Path per file costs more than its header in a big tree
            try:
                state = os.stat(path)  # noqa: PTH116
            except OSError:
                continue  # a dangling link
            yield os.path.relpath(path, root), state


def holds_dicom(folder: Path, *, look_at: int | None = None) -> bool:
    """True if one of the first ``look_at`` files below (None: of all) looks like DICOM by its first bytes."""
    for name, _ in islice(listed(folder), look_at):
        if volume_suffix(Path(name)) is not None:
            continue
        try:
            with (folder / name).open("rb") as stream:
                if is_dicom_start(stream.read(132)):
                    return True
        except OSError:
            continue
    return False


def scan(
    root: Path, *, private: Path | None = None, workers: int = 1, progress: Callable[[int, int], None] | None = None
) -> Tree:
    """Read the headers of all files below ``root``. ``private``: folder of the index, which only its owner may read.

    ``progress(files done, files)``. Raises MissingFileError for no such folder, DataError if the index cannot be written.
    """
    if not root.is_dir():
        raise MissingFileError(f"no folder at {root}", hint="give the folder that holds the DICOM files")
    known = _read_index(private / INDEX) if private is not None else {}
    files = [(name, state.st_size, state.st_mtime_ns) for name, state in listed(root)]
    tree = Tree(root, files=len(files))
    todo = [name for name, size, mtime in files if _current(known, name, size, mtime) is None]
    tree.headers_read = len(todo)
    done = len(files) - len(todo)
    read: dict[str, list[Plane] | Rejected] = {}
    for name, found in _read(root, todo, workers):
        read[name] = found
        done += 1
        if progress is not None and (done % BATCH == 0 or done == len(files)):
            progress(done, len(files))
    kept: list[tuple[str, int, int, list[Plane] | Rejected]] = []
    for name, size, mtime in files:
        found = read[name] if name in read else known[name][2]
        kept.append((name, size, mtime, found))
        if isinstance(found, Rejected):
            tree.rejected.append(found)
        else:
            tree.planes += found
    if private is not None and (todo or len(known) != len(files)):
        _write_index(private, kept)
    return tree


def open_private(folder: Path, hint: str) -> None:
    """Make a folder that only its owner may enter: what identifies patients goes there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        raise DataError(f"{folder} cannot be made: {error.strerror or error}", hint=hint) from error


def _current(known: dict[str, Any], name: str, size: int, mtime: int) -> Any:
    entry = known.get(name)
    return entry[2] if entry is not None and entry[0] == size and entry[1] == mtime else None


def _read(root: Path, names: list[str], workers: int) -> Iterator[tuple[str, list[Plane] | Rejected]]:
    if workers <= 1 or len(names) < 4 * BATCH:
        for name in names:
            yield name, read_planes(root / name, name)
        return
    from joblib import Parallel, delayed

    batches = [names[start : start + BATCH] for start in range(0, len(names), BATCH)]
    for found in Parallel(workers, return_as="generator")(delayed(_read_batch)(root, batch) for batch in batches):
        yield from found


def _read_batch(root: Path, names: list[str]) -> list[tuple[str, list[Plane] | Rejected]]:
    return [(name, read_planes(root / name, name)) for name in names]


def _read_index(path: Path) -> dict[str, tuple[int, int, list[Plane] | Rejected]]:
    """What was read before; an index that cannot be read or is of another version counts as none."""
    try:
        with gzip.open(path, "rt", encoding="utf-8") as stream:
            if json.loads(next(stream)) != {"version": INDEX_VERSION, "fields": list(Plane._fields)}:
                return {}
            return {name: (size, mtime, _from_json(found)) for name, size, mtime, found in map(json.loads, stream)}
    except (OSError, EOFError, StopIteration, ValueError):
        return {}


def _write_index(private: Path, entries: Iterable[tuple[str, int, int, list[Plane] | Rejected]]) -> None:
    def write(temporary: Path) -> None:
        with gzip.open(temporary, "wt", encoding="utf-8", compresslevel=3) as stream:
            stream.write(json.dumps({"version": INDEX_VERSION, "fields": list(Plane._fields)}) + "\n")
            for name, size, mtime, found in entries:
                kind = {"rejected": found} if isinstance(found, Rejected) else {"planes": found}
                stream.write(json.dumps([name, size, mtime, kind]) + "\n")

    try:
        write_atomically(private / INDEX, write)
    except OSError as error:
        raise DataError(f"{private / INDEX} cannot be written: {error.strerror or error}") from error


def _from_json(found: dict[str, Any]) -> list[Plane] | Rejected:
    if "rejected" in found:
        return Rejected(*found["rejected"])
    return [Plane._make(tuple(value) if isinstance(value, list) else value for value in row) for row in found["planes"]]
