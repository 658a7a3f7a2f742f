"""The latent cache: posterior moments (f16) and text features of every case in one HDF5 file, built from per-case parts.

Moments are stored, not samples: a draw frozen at encoding time is noise that no training can remove.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from ctgen.atomic import write_atomically
from ctgen.errors import StageError
from ctgen.interfaces import Posterior, TextFeatures


def write_part(path: Path, posterior: Posterior, text: TextFeatures) -> None:
    """One case's moments (1, c, d, h, w) and features (batch of 1) as a small HDF5 file."""

    def write(temporary: Path) -> None:
        with h5py.File(temporary, "w") as file:
            file["mean"] = posterior.mean[0].numpy().astype(np.float16)
            if posterior.logvar is not None:
                file["logvar"] = posterior.logvar[0].numpy().astype(np.float16)
            length = int(text.mask[0].sum())
            file["tokens"] = text.tokens[0, :length].numpy().astype(np.float16)
            if text.pooled is not None:
                file["pooled"] = text.pooled[0].numpy().astype(np.float32)

    write_atomically(path, write)


def merge_parts(parts: Sequence[tuple[str, Path]], target: Path) -> None:
    """All parts as groups of one file, in the order given."""

    def write(temporary: Path) -> None:
        with h5py.File(temporary, "w", track_order=True) as merged:
            for case_id, part in parts:
                with h5py.File(part, "r") as source:
                    group = merged.create_group(case_id)
                    for name in source:
                        source.copy(name, group)

    write_atomically(target, write)


class LatentStore:
    """Lazy reader; the file is opened at first use in each process, so it may be handed to workers."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise StageError(f"no latent cache at {path}", hint="run the encode stage: ctgen run RECIPE --until encode")
        self.path = path
        self._file: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_file": None}

    def _group(self, case_id: str) -> Any:
        if self._file is None:
            self._file = h5py.File(self.path, "r")
        return self._file[case_id]

    def posterior(self, case_id: str) -> Posterior:
        """(1, c, d, h, w) float32 moments."""
        group = self._group(case_id)
        logvar = torch.from_numpy(group["logvar"][()]).float()[None] if "logvar" in group else None
        return Posterior(torch.from_numpy(group["mean"][()]).float()[None], logvar)

    def text(self, case_id: str) -> TextFeatures:
        """Features of one case, without padding."""
        group = self._group(case_id)
        tokens = torch.from_numpy(group["tokens"][()]).float()[None]
        pooled = torch.from_numpy(group["pooled"][()]).float()[None] if "pooled" in group else None
        return TextFeatures(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool), pooled)
