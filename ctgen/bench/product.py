"""What there is of a model: a folder with its volumes on the grid of the real scans, each with a JSON.

``OUT/NAME-fingerprint/model.json`` says what the model is, ``samples/<id>.nii.gz`` and ``.json`` are its volumes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ctgen.atomic import sha256_of, write_json
from ctgen.bench.models import ModelSpec
from ctgen.bench.volumes import on_grid_of, shifted
from ctgen.interfaces import Skipped
from ctgen.volume import Volume
from ctgen.volume.io import write_volume

SUFFIX = ".nii.gz"


def folder_of(out: Path, name: str, fingerprint: str) -> Path:
    """Of a model's volumes in a bench's output; what was made otherwise under the same name lies beside it."""
    return out / f"{name}-{fingerprint[:8]}"


@dataclass
class Product:
    """What there is of a model. ``error``: why there is nothing, or not all; ``facts``: as Model.facts."""

    spec: ModelSpec
    folder: Path | None = None
    fingerprint: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    left_out: list[Skipped] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    error: str = ""
    autoencoder: str = ""
    """Name of the floor that reconstructs with this model's autoencoder."""

    def json(self, case_id: str) -> Path:
        assert self.folder is not None
        return self.folder / "samples" / f"{case_id}.json"

    def volume(self, case_id: str) -> Path:
        assert self.folder is not None
        return self.folder / "samples" / f"{case_id}{SUFFIX}"


def store(path: Path, json: Path, case_id: str, volume: Volume, real: Volume, facts: dict[str, Any]) -> None:
    """Write a volume on the real scan's grid, and then its JSON."""
    placed, note = on_grid_of(volume, real)
    boundaries = tuple(facts.get("boundaries", ()))
    cuts = boundaries if not note else shifted(boundaries, volume, placed)
    write_volume(Volume(placed.hu, placed.affine), path)
    notes = "; ".join(text for text in (facts.get("note", ""), note) if text)
    write_json(json, {**facts, "id": case_id, "boundaries": list(cuts), "note": notes, "sha256": sha256_of(path)})
