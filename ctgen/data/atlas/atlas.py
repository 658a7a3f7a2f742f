"""The atlas: one real chest CT with organ labels, from which every case is simulated."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctgen.volume import Volume


@dataclass(frozen=True)
class Atlas:
    """``hu`` (D, H, W) int16 and ``labels`` (D, H, W) uint8, canonical; ``names`` maps label to structure (0 = air outside)."""

    hu: NDArray[np.int16]
    labels: NDArray[np.uint8]
    names: dict[int, str]
    volume: Volume

    def ids(self, *parts: str) -> list[int]:
        """Labels whose name contains one of ``parts``, in order; raises KeyError if there is none."""
        found = [index for index, name in self.names.items() if any(part in name for part in parts)]
        if not found:
            raise KeyError(f"the atlas has no structure named like {parts}")
        return found

    def mask(self, *parts: str) -> NDArray[np.bool_]:
        """(D, H, W) bool: voxels of the structures that ``ids`` names."""
        table = np.zeros(256, bool)
        table[self.ids(*parts)] = True
        return np.asarray(table[self.labels])


def _read(name: str) -> tuple[NDArray[Any], NDArray[np.float64]]:
    import nibabel as nib

    packed = files("ctgen.data.atlas").joinpath("resources", name).read_bytes()
    image = nib.Nifti1Image.from_bytes(gzip.decompress(packed))
    array = np.ascontiguousarray(np.asarray(image.dataobj).transpose(2, 1, 0))
    return array, np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.asarray(image.affine)[:, [2, 1, 0, 3]]


@lru_cache(maxsize=1)
def load_atlas() -> Atlas:
    """The committed atlas (see resources/ATTRIBUTION.md); about 0.3 s and 25 MB, once per process. The arrays are read-only."""
    hu, affine = _read("lidc-0001.nii.gz")
    labels, _ = _read("lidc-0001-labels.nii.gz")
    hu, labels = hu.astype(np.int16, copy=False), labels.astype(np.uint8, copy=False)
    hu.flags.writeable = labels.flags.writeable = False
    text = files("ctgen.data.atlas").joinpath("resources", "labels.json").read_text(encoding="utf-8")
    names = {int(index): str(name) for index, name in json.loads(text).items()}
    return Atlas(hu, labels, dict(sorted(names.items())), Volume(hu, affine, {"source": "LIDC-IDRI-0001"}))
