"""What every exporter must do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ctgen.testing.expect import equal, expect
from ctgen.testing.volumes import phantom
from ctgen.volume import Volume
from ctgen.volume.io import read_volume
from ctgen.volume.orient import to_canonical


def check_exporter(
    exporter: Any,
    folder: Path,
    *,
    read: Callable[[Path], Volume] = read_volume,
    geometry_mm: float = 1e-4,
    voxel_hu: float = 0.5,
) -> None:
    """What is written reads back with the same geometry and voxels; nothing else is left behind; writing again replaces.

    ``folder`` must be empty. ``read`` opens the format; ``voxel_hu``: how far rounding to stored values may go.
    """
    suffix = exporter.suffix
    expect(suffix.startswith("."), f"suffix: found {suffix!r}, wanted one that begins with a dot")
    plain = phantom((6, 20, 24), (2.5, 0.7421875, 0.8))
    floating = Volume(plain.hu.astype(np.float32) + 0.25, plain.affine)
    tilted = Volume(plain.hu[:, ::-1].copy(), plain.affine @ _tilt())
    for name, volume in (("int16", plain), ("float32", floating), ("oblique", tilted)):
        target = folder / name / f"case{suffix}"
        target.parent.mkdir()
        for _ in range(2):
            path = exporter.write(volume, target)
        expect(path.exists(), f"{name}: write returned {path}, which does not exist")
        equal(f"{name}: path written", path, target)
        hidden = [found.name for found in target.parent.iterdir() if found.name.startswith(".") or found.suffix == ".tmp"]
        expect(not hidden, f"{name}: left behind {hidden}")
        _same(name, to_canonical(read(path))[0], to_canonical(volume)[0], geometry_mm, voxel_hu)


def _tilt() -> np.ndarray[Any, np.dtype[np.float64]]:
    """A rotation by 10 degrees about W, in voxel order; isotropic enough not to shear."""
    turn = np.eye(4)
    angle = np.deg2rad(10.0)
    turn[1, 1] = -1.0
    flip = turn.copy()
    turn = np.eye(4)
    turn[:2, :2] = ((np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle)))
    return turn @ flip


def _same(name: str, found: Volume, wanted: Volume, geometry_mm: float, voxel_hu: float) -> None:
    equal(f"{name}: shape", found.shape, wanted.shape)
    apart = float(np.abs(found.affine - wanted.affine).max())
    expect(apart <= geometry_mm, f"{name}: affine differs by {apart:.3g} mm, wanted at most {geometry_mm:g}")
    apart = float(np.abs(found.hu.astype(np.float64) - wanted.hu.astype(np.float64)).max())
    expect(apart <= voxel_hu, f"{name}: voxels differ by up to {apart:g} HU, wanted at most {voxel_hu:g}")
