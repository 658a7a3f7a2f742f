"""Latents that an earlier run with the same autoencoder made of the same voxels: another text encoder needs no new ones."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ctgen.data.latents import LatentStore
from ctgen.interfaces import Posterior
from ctgen.stages.earlier import earlier_folders
from ctgen.stages.plan import DONE

MARK = "latents.json"
"""Holds the key of what latents depend on beside the voxels: caches of one key may share them."""


class KnownLatents:
    """Latents in the finished caches of ``folders``, found by case and by what the case's voxels were."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._stores = [LatentStore(folder / "latents.h5") for folder in folders]
        self._ids = [set(store.ids) for store in self._stores]

    @classmethod
    def beside(cls, run_dir: Path, key: str, folder: Path) -> KnownLatents:
        """Of the run's other caches with this key, the newest first."""
        return cls([path for path in earlier_folders(run_dir, "encode", key, folder, mark=MARK) if (path / DONE).is_file()])

    def find(self, case_id: str, voxels_sha256: str) -> tuple[Posterior, Mapping[str, Any]] | None:
        """Moments (1, c, d, h, w), as rounded as they were stored, and the statistics of those before rounding."""
        for store, ids in zip(self._stores, self._ids, strict=True):
            if case_id in ids:
                attributes = store.group(case_id).attrs
                if attributes.get("voxels") == voxels_sha256:
                    return store.posterior(case_id), json.loads(attributes["stats"])
        return None
