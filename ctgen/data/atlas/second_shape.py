"""The shape of a second real chest: where each of its points lies in the atlas (see resources/ATTRIBUTION.md)."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class SecondShape:
    """``field_mm`` (3, d, h, w): what takes a point of the second chest, laid on the atlas's lungs, to the atlas. Any fraction
    from 0 to 1 of it is a one-to-one map."""

    field_mm: NDArray[np.float32]
    cell_mm: float


@lru_cache(maxsize=1)
def load_second_shape() -> SecondShape:
    """From the atlas's first voxel, before it is widened."""
    packed = files("ctgen.data.atlas").joinpath("resources", "shape-cta.npz").read_bytes()
    with np.load(io.BytesIO(packed), allow_pickle=False) as file:
        field = (file["field"] * np.float32(0.1)).astype(np.float32)
        return SecondShape(field, float(file["cell_mm"]))
