"""A CT volume: HU voxels and where they are in the patient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Volume:
    """``hu`` (D, H, W) int16 or float32 HU; ``affine`` (4, 4) float64 maps (d, h, w, 1) voxel indices to LPS mm.

    Canonical orientation: D towards superior (+z), H towards posterior (+y), W towards the patient's left (+x).
    """

    hu: NDArray[Any]
    affine: NDArray[np.float64]
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.hu.ndim != 3:
            raise ValueError(f"a volume has 3 axes (D, H, W), not shape {self.hu.shape}")
        if np.shape(self.affine) != (4, 4):
            raise ValueError(f"an affine is (4, 4), not {np.shape(self.affine)}")

    @classmethod
    def canonical(
        cls, hu: NDArray[Any], spacing_mm: tuple[float, float, float], origin_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    ) -> Volume:
        """A canonical volume from spacing in (D, H, W) and the LPS position (x, y, z) of voxel (0, 0, 0)."""
        affine = np.eye(4)
        affine[:3, :3] = 0.0
        affine[2, 0], affine[1, 1], affine[0, 2] = spacing_mm
        affine[:3, 3] = origin_mm
        return cls(hu, affine)

    @property
    def shape(self) -> tuple[int, int, int]:
        d, h, w = self.hu.shape
        return d, h, w

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """(D, H, W) in mm."""
        d, h, w = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(d), float(h), float(w)
