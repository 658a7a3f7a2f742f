"""Scans of full size for benchmarks: a simulated chest, resampled and given noise, so that it compresses like a real one."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np

from ctgen import Host
from ctgen.volume import Volume
from ctgen.volume.io import write_volume
from ctgen.volume.resample import resample


def write_scan(path: Path, shape: tuple[int, int, int], *, seed: int = 0, dtype: str = "int16", turned: bool = False) -> Path:
    """(D, H, W) voxels over 288 x 370 x 370 mm or so; ``turned``: the file's axes point the other way, as CT-RATE's do."""
    chest = Host.discover().create("dataset", "atlas-thorax", cases=seed + 1, seed=1)[seed].volume
    spacing = [size * own / wanted for size, own, wanted in zip(chest.shape, chest.spacing_mm, shape, strict=True)]
    fine = resample(chest, spacing)
    random = np.random.default_rng(seed)
    hu = np.empty(shape, np.int16)
    for plane, source in zip(hu, fine.hu, strict=True):
        plane[...] = np.rint(source + random.normal(0, 12, source.shape).astype(np.float32))
    affine = fine.affine.copy()
    if turned:
        hu = hu[:, ::-1, ::-1]
        affine[:3, 1:3] *= -1
    if dtype == "int16":
        return write_volume(Volume(np.ascontiguousarray(hu), affine), path)
    path.parent.mkdir(parents=True, exist_ok=True)
    ras = np.diag([-1, -1, 1, 1]) @ affine @ np.eye(4)[[2, 1, 0, 3]]
    nibabel.save(nibabel.Nifti1Image(hu.transpose(2, 1, 0).astype(dtype), ras), path)
    return path
