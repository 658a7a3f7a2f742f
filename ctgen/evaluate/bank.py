"""Features of volumes, computed once and kept in files: what the metrics of a run share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ctgen.atomic import fingerprint, read_json, write_atomically, write_json
from ctgen.errors import DataError, did_you_mean
from ctgen.interfaces import FeatureExtractor, HasLabels, HasLogits, HasText, Plane, Report, Which
from ctgen.volume import Volume

Table = NDArray[np.float32]


@dataclass(frozen=True)
class Stored:
    """Features in a file, or in memory where the store has no folder."""

    path: Path | None = None
    rows: Table | None = None

    def read(self) -> Table:
        if self.rows is not None:
            return self.rows
        assert self.path is not None
        found: Table = np.load(self.path, allow_pickle=False)
        return found


class FeatureStore:
    """The extractors of a run and where their results lie: ``folder/EXTRACTOR/VOLUME.*``, both by hash.

    A result is computed when first asked for; with a folder it outlives the process, and any run with the same extractor
    and the same voxels uses it. Without one it is kept in memory.
    """

    def __init__(self, extractors: Mapping[str, FeatureExtractor], folder: Path | None = None) -> None:
        self.extractors = dict(extractors)
        self.folder = folder
        self._descriptions = {key: dict(extractor.describe()) for key, extractor in self.extractors.items()}
        self._memory: dict[str, Any] = {}

    def describe(self) -> dict[str, dict[str, Any]]:
        """Key -> the extractor's own description, width and unit: part of the protocol."""
        return {
            key: {**self._descriptions[key], "width": extractor.width, "unit": extractor.unit}
            for key, extractor in self.extractors.items()
        }

    def bank(self, volumes: Mapping[Which, Volume | None]) -> CaseBank:
        """The features of one case; volumes that are None are not there."""
        return CaseBank(self, {which: volume for which, volume in volumes.items() if volume is not None})

    def extractor(self, key: str) -> FeatureExtractor:
        if key not in self.extractors:
            known = ", ".join(self.extractors) or "none"
            hint = did_you_mean(key, self.extractors)
            raise DataError(f"no feature extractor {key!r} is given here; there are: {known}", hint=hint)
        return self.extractors[key]

    def table(self, key: str, name: str, make: Callable[[], NDArray[Any]]) -> Stored:
        """The result called ``name`` of an extractor, made if it is not there."""
        place = self._place(key, name, ".npy")
        if isinstance(place, Path):
            if not place.is_file():
                rows = np.ascontiguousarray(make(), np.float32)
                write_atomically(place, lambda temporary: np.save(temporary, rows, allow_pickle=False))
            return Stored(place)
        if place not in self._memory:
            self._memory[place] = np.ascontiguousarray(make(), np.float32)
        return Stored(rows=self._memory[place])

    def mapping(self, key: str, name: str, make: Callable[[], Mapping[str, float]]) -> dict[str, float]:
        """The same for named numbers."""
        place = self._place(key, name, ".json")
        if isinstance(place, Path):
            if not place.is_file():
                write_json(place, {label: float(value) for label, value in make().items()})
            return {str(label): float(value) for label, value in read_json(place).items()}
        if place not in self._memory:
            self._memory[place] = dict(make())
        return dict(self._memory[place])

    def _place(self, key: str, name: str, suffix: str) -> Path | str:
        code = fingerprint(self._descriptions[key])
        return self.folder / code / name[:2] / f"{name}{suffix}" if self.folder else f"{code}/{name}{suffix}"


@dataclass(frozen=True)
class CaseBank:
    """ctgen.interfaces.FeatureBank of one case."""

    store: FeatureStore
    volumes: Mapping[Which, Volume]
    _hashes: dict[str, str] = field(default_factory=dict, compare=False, repr=False)

    def has(self, which: Which) -> bool:
        return which in self.volumes

    def can(self, key: str, what: Literal["logits", "text", "labels"]) -> bool:
        ability = {"logits": HasLogits, "text": HasText, "labels": HasLabels}[what]
        return isinstance(self.store.extractor(key), ability)

    def volume(self, key: str, which: Which, plane: Plane = "xy") -> Table:
        return self.stored(key, which, plane).read()

    def logits(self, key: str, which: Which, plane: Plane = "xy") -> Table:
        return self.stored(key, which, plane, logits=True).read()

    def stored(self, key: str, which: Which, plane: Plane = "xy", *, logits: bool = False) -> Stored:
        extractor = self.store.extractor(key)
        volume, code = self._volume(which)
        # a feature of the whole volume is the same for every plane
        name = f"{code}.{plane if extractor.unit == 'slice' else 'volume'}"
        if not logits:
            return self.store.table(key, name, lambda: extractor.features(volume, plane))
        if not isinstance(extractor, HasLogits):
            raise _unable(key, "classify (logits)")
        classify = extractor.logits
        return self.store.table(key, f"{name}.logits", lambda: classify(volume, plane))

    def text(self, key: str, report: Report) -> Table:
        extractor = self.store.extractor(key)
        if not isinstance(extractor, HasText):
            raise _unable(key, "read reports (text)")
        read = extractor.text
        code = hashlib.sha256(json.dumps(asdict(report), sort_keys=True).encode()).hexdigest()[:32]
        found: Table = self.store.table(key, f"{code}.text", lambda: read([report])).read()[0]
        return found

    def labels(self, key: str, which: Which) -> Mapping[str, float]:
        extractor = self.store.extractor(key)
        if not isinstance(extractor, HasLabels):
            raise _unable(key, "find labels")
        find = extractor.labels
        volume, code = self._volume(which)
        return self.store.mapping(key, f"{code}.labels", lambda: find(volume))

    def _volume(self, which: Which) -> tuple[Volume, str]:
        if which not in self.volumes:
            raise DataError(f"the case has no {which} volume", hint=f"it has: {', '.join(self.volumes) or 'none'}")
        if which not in self._hashes:
            self._hashes[which] = volume_hash(self.volumes[which])
        return self.volumes[which], self._hashes[which]


def volume_hash(volume: Volume) -> str:
    """Of voxels, their type and the affine: 32 hex digits."""
    digest = hashlib.sha256(f"{volume.hu.dtype.str} {volume.shape}".encode())
    digest.update(np.ascontiguousarray(volume.affine, np.float64).tobytes())
    for plane in volume.hu:
        digest.update(np.ascontiguousarray(plane).tobytes())
    return digest.hexdigest()[:32]


def _unable(key: str, what: str) -> DataError:
    return DataError(f"feature extractor {key!r} cannot {what}", hint="give the metric another extractor")
