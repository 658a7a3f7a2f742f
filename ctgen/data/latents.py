"""The latent cache: posterior moments (f16) and text features of every case, in HDF5.

Moments are stored, not samples: a draw frozen at encoding time is noise that no training can remove.

``shards/<digest>.h5`` hold some cases each, as groups; ``latents.h5`` is their index: one external link per case, so that any
HDF5 program sees one file. A case's group holds

    mean, logvar    (d, c, h, w) f16: slices first, so that a block of slices is one piece of the file; logvar may be absent
    tokens, pooled  (L, E) f16, (E',) f32: text features without padding; pooled may be absent
    impressions_tokens, impressions_pooled
                    the same of the report's impressions alone, where they were asked for and are not empty

each with its ``sha256`` as an attribute, and the group has the case's ``key`` (what it was computed from), ``voxels`` (their
SHA-256) and ``stats``.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import torch
from numpy.typing import NDArray

from ctgen.atomic import write_atomically
from ctgen.errors import DataError, StageError
from ctgen.interfaces import Posterior, TextFeatures

IMPRESSIONS = "impressions_"
"""How the names of datasets begin that hold features of the impressions alone."""
OPEN_SHARDS = 32
"""Files that a reader process keeps open."""
PLACES_KEPT = 1 << 16
"""Cases of which a reader process remembers where they lie."""


def write_part(
    path: Path,
    posterior: Posterior,
    text: TextFeatures,
    *,
    impressions: TextFeatures | None = None,
    key: str = "",
    voxels: str = "",
    stats: Mapping[str, Any] | None = None,
) -> None:
    """One case's moments (1, c, d, h, w) and features (batch of 1) as a small HDF5 file."""
    arrays: dict[str, NDArray[Any]] = {"mean": _slices_first(posterior.mean)}
    if posterior.logvar is not None:
        arrays["logvar"] = _slices_first(posterior.logvar)
    for prefix, features in (("", text), (IMPRESSIONS, impressions)):
        if features is None:
            continue
        length = int(features.mask[0].sum())
        arrays[f"{prefix}tokens"] = features.tokens[0, :length].numpy().astype(np.float16)
        if features.pooled is not None:
            arrays[f"{prefix}pooled"] = features.pooled[0].numpy().astype(np.float32)

    def write(temporary: Path) -> None:
        with h5py.File(temporary, "w") as file:
            file.attrs["key"], file.attrs["voxels"] = key, voxels
            file.attrs["stats"] = json.dumps(dict(stats or {}), sort_keys=True)
            for name, array in arrays.items():
                file[name] = array
                file[name].attrs["sha256"] = digest_of(array)

    write_atomically(path, write)


def merge_parts(parts: Sequence[tuple[str, Path]], target: Path) -> None:
    """All parts as groups of one file, in the order given."""

    def write(temporary: Path) -> None:
        with h5py.File(temporary, "w", track_order=True) as merged:
            for case_id, part in parts:
                with h5py.File(part, "r") as source:
                    group = merged.create_group(case_id)
                    for name, value in source.attrs.items():
                        group.attrs[name] = value
                    for name in source:
                        source.copy(name, group)

    write_atomically(target, write)


def write_index(places: Sequence[tuple[str, str, str]], target: Path) -> None:
    """(case id, shard's path beside ``target``, group in it) -> an HDF5 file that has every case under its id."""

    def write(temporary: Path) -> None:
        with h5py.File(temporary, "w", track_order=True) as index:
            for case_id, shard, group in places:
                index[case_id] = h5py.ExternalLink(shard, f"/{group}")

    write_atomically(target, write)


def digest_of(array: NDArray[Any]) -> str:
    """SHA-256 of the values in C order."""
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


class LatentStore:
    """Lazy reader; files are opened at first use in each process, so it may be handed to workers, forked or not."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise StageError(f"no latent cache at {path}", hint="run the encode stage: ctgen run RECIPE --until encode")
        self.path = path
        self._close()

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.path = state["path"]
        self._close()

    def _close(self) -> None:
        self._process, self._index = -1, None
        self._shards: OrderedDict[str, tuple[Any, FileIO]] = OrderedDict()
        self._places: dict[str, dict[str, _Place]] = {}

    @property
    def ids(self) -> list[str]:
        """Of all cases, in the order of the cache."""
        return list(self._opened())

    def group(self, case_id: str) -> Any:
        """The case's HDF5 group. DataError if the cache does not have it, or its file is missing or damaged."""
        index = self._opened()
        link = index.get(case_id, getlink=True)
        if link is None:
            raise DataError(f"{self.path} holds no case {case_id!r}", hint="encode again: remove its folder and run the recipe")
        if not isinstance(link, h5py.ExternalLink):
            return index[case_id]
        try:
            return self._shard(link.filename)[0][link.path]
        except (OSError, KeyError) as error:
            raise self._damaged(case_id, self.path.parent / link.filename, error) from error

    def shape(self, case_id: str) -> tuple[int, int, int, int]:
        """(c, d, h, w), without reading a value."""
        d, c, h, w = self._place(case_id)["mean"].shape
        return c, d, h, w

    def posterior(self, case_id: str, slices: slice | None = None) -> Posterior:
        """(1, c, d, h, w) float32 moments; only ``slices`` of d are read from disk."""
        places = self._place(case_id)
        mean = self._read(case_id, places["mean"], slices or slice(None))
        return Posterior(mean, self._read(case_id, places["logvar"], slices or slice(None)) if "logvar" in places else None)

    def text(self, case_id: str, *, impressions: bool = False) -> TextFeatures:
        """Features of one case, without padding; ``impressions``: of these alone if the cache has them, else of the report."""
        group = self.group(case_id)
        prefix = IMPRESSIONS if impressions and f"{IMPRESSIONS}tokens" in group else ""
        tokens = torch.from_numpy(group[f"{prefix}tokens"][()]).float()[None]
        pooled = torch.from_numpy(group[f"{prefix}pooled"][()]).float()[None] if f"{prefix}pooled" in group else None
        return TextFeatures(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool), pooled)

    def _opened(self) -> Any:
        if self._process != os.getpid():
            # HDF5's state does not survive a fork: the child opens files of its own, and leaves the parent's alone
            self._close()
            self._process, self._index = os.getpid(), _open(self.path)
        return self._index

    def _shard(self, name: str) -> tuple[Any, FileIO]:
        """The file ``name`` beside the index, as HDF5 and as bytes."""
        if name not in self._shards:
            path = self.path.parent / name
            self._shards[name] = _open(path), FileIO(path)
            if len(self._shards) > OPEN_SHARDS:
                for file in self._shards.popitem(last=False)[1]:
                    file.close()
        self._shards.move_to_end(name)
        return self._shards[name]

    def _place(self, case_id: str) -> dict[str, _Place]:
        self._opened()
        if case_id not in self._places:
            if len(self._places) >= PLACES_KEPT:
                self._places.clear()
            group = self.group(case_id)
            file = os.path.relpath(group.file.filename, self.path.parent)
            self._places[case_id] = {
                name: _Place(name, file, group[name].id.get_offset(), group[name].shape)
                for name in ("mean", "logvar")
                if name in group
            }
        return self._places[case_id]

    def _read(self, case_id: str, place: _Place, slices: slice) -> torch.Tensor:
        """Slices of a moment (d, c, h, w) on disk as (1, c, slices, h, w) float32; past HDF5, at a third of the time."""
        first, stop, step = slices.indices(place.shape[0])
        if place.offset is None or step != 1:
            return _slices_second(self.group(case_id)[place.name][slices])
        plane = math.prod(place.shape[1:]) * 2
        values = np.empty((max(0, stop - first), *place.shape[1:]), np.float16)
        handle, wanted = self._shard(place.file)[1], memoryview(values.reshape(-1).view(np.uint8).data)
        try:
            handle.seek(place.offset + first * plane)
            while wanted:
                count = handle.readinto(wanted)
                if not count:
                    raise OSError("the file is shorter than its index says")
                wanted = wanted[count:]
        except OSError as error:
            raise self._damaged(case_id, self.path.parent / place.file, error) from error
        return _slices_second(values)

    def _damaged(self, case_id: str, path: Path, error: Exception) -> DataError:
        hint = f"see ctgen data verify {self.path.parent}"
        return DataError(f"case {case_id!r} cannot be read from {path}: {error}", hint=hint)


class _Place(NamedTuple):
    """Where a moment's values (d, c, h, w) lie: ``offset`` in ``file``; None if not in one piece (HDF5 then reads them)."""

    name: str
    file: str
    offset: int | None
    shape: tuple[int, ...]


def _open(path: Path) -> Any:
    # what is read here never changes, and many network file systems refuse locks
    return h5py.File(path, "r", locking=False)


def _slices_first(moment: torch.Tensor) -> NDArray[np.float16]:
    """(1, c, d, h, w) -> (d, c, h, w)"""
    return np.ascontiguousarray(moment[0].transpose(0, 1).numpy().astype(np.float16))


def _slices_second(moment: NDArray[np.float16]) -> torch.Tensor:
    """(d, c, h, w) -> (1, c, d, h, w)"""
    return torch.from_numpy(moment).float().transpose(0, 1)[None]
