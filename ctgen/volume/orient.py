"""Canonical orientation and back by flips and permutations alone, so that no voxel value changes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from ctgen.volume.volume import Volume

CANONICAL_AXES = (2, 1, 0)
"""LPS component that grows along D, H, W of a canonical volume."""
LETTERS = (("R", "L"), ("A", "P"), ("I", "S"))


@dataclass(frozen=True)
class Orientation:
    """How a volume lay before: canonical axis i is native axis ``permutation[i]``, reversed where ``flipped[i]``."""

    permutation: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]

    @property
    def is_canonical(self) -> bool:
        return self.permutation == (0, 1, 2) and not any(self.flipped)

    def __str__(self) -> str:
        """Where the native axes point, in file order (x, y, z): "LPS" is canonical."""
        letters = [""] * 3
        for axis in range(3):
            letters[self.permutation[axis]] = LETTERS[CANONICAL_AXES[axis]][not self.flipped[axis]]
        return "".join(letters[::-1])


def orientation_of(affine: NDArray[np.float64]) -> Orientation:
    """The flips and permutation that bring the axes nearest to canonical; exact ties go to the earlier axis."""
    cosines = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    best = max(permutations(range(3)), key=lambda order: sum(abs(cosines[CANONICAL_AXES[i], order[i]]) for i in range(3)))
    flips = [bool(cosines[CANONICAL_AXES[i], best[i]] < 0) for i in range(3)]
    return Orientation((best[0], best[1], best[2]), (flips[0], flips[1], flips[2]))


def to_canonical(volume: Volume, *, copy: bool = True) -> tuple[Volume, Orientation]:
    """The same voxels with D nearest to superior, H to posterior, W to the patient's left; oblique axes keep their affine.

    Without ``copy`` the voxels are a view of the volume's: no memory, but torch does not take reversed axes.
    """
    orientation = orientation_of(volume.affine)
    if orientation.is_canonical:
        return volume, orientation
    order = list(orientation.permutation)
    affine = volume.affine.copy()
    affine[:, :3] = affine[:, order]
    hu, affine = _flip(volume.hu.transpose(order), affine, orientation.flipped)
    return Volume(np.ascontiguousarray(hu) if copy else hu, affine, volume.meta), orientation


def from_canonical(volume: Volume, orientation: Orientation) -> Volume:
    """The inverse of to_canonical; ``volume`` may have been cropped or resampled in between."""
    if orientation.is_canonical:
        return volume
    hu, affine = _flip(volume.hu, volume.affine, orientation.flipped)
    back = np.argsort(orientation.permutation).tolist()
    affine = affine.copy()
    affine[:, :3] = affine[:, back]
    return Volume(np.ascontiguousarray(hu.transpose(back)), affine, volume.meta)


def orientation_code(affine: NDArray[np.float64]) -> str:
    """Where the file's axes (x, y, z) point: "LPS" is canonical. The same letters as nibabel's aff2axcodes."""
    return str(orientation_of(affine))


def _flip(
    hu: NDArray[np.generic], affine: NDArray[np.float64], flipped: tuple[bool, bool, bool]
) -> tuple[NDArray[np.generic], NDArray[np.float64]]:
    affine = affine.copy()
    for axis, flip in enumerate(flipped):
        if flip:
            affine[:3, 3] += affine[:3, axis] * (hu.shape[axis] - 1)
            affine[:3, axis] *= -1
            hu = np.flip(hu, axis)
    return hu, affine
