"""What findings of the mediastinum are painted with: smooth distances from organs, and what they must not run over."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ctgen.data.atlas.findings.scene import Box, Scene, box_of
from ctgen.data.atlas.landmarks import load_landmarks

Array = NDArray[Any]
_GRID_MM = 2.4
"""Distances are found on a grid no finer than this, whatever the scan's voxels are."""
FAT_HU = -95.0
BONES = ("rib_", "vertebra", "sternum", "costal_cart", "clavicula", "scapula", "humerus", "spinal_cord", "autochthon")
VESSELS = ("aorta", "vein", "vena", "artery", "trunk")
ABDOMEN = ("liver", "spleen", "stomach", "kidney", "adrenal", "pancreas", "bowel", "duodenum", "colon")


def vessels(scene: Scene, box: Box) -> NDArray[np.bool_]:
    """Voxels of blood vessels and of the heart's chambers, also of those that have no label."""
    table = load_landmarks().vessels
    where = [np.rint(axis).astype(np.int32) for axis in scene.coordinates[(slice(None), *box)]]
    for axis, count in zip(where, table.shape, strict=True):
        np.clip(axis, 0, count - 1, out=axis)
    return np.asarray(table[where[0], where[1], where[2]] | scene.in_box(box, *VESSELS))


def outside_mm(scene: Scene, mask: NDArray[np.bool_], *, smooth_mm: float = 1.5, close_mm: float = 0.0) -> NDArray[np.float32]:
    """Signed distance (mm) from the surface of ``mask``, an array in some box: positive outside; 1000 if it is empty.

    ``close_mm`` first fills hollows narrower than twice that.
    """
    strides = [max(1, int(_GRID_MM / step)) for step in scene.spacing_mm]
    steps = [stride * step for stride, step in zip(strides, scene.spacing_mm, strict=True)]
    small = mask[:: strides[0], :: strides[1], :: strides[2]]
    if not small.any():
        return np.full(mask.shape, 1000.0, np.float32)
    half = float(np.mean(steps)) / 2
    if close_mm:
        near = ndimage.distance_transform_edt(~small, sampling=steps) <= close_mm
        small = small | (ndimage.distance_transform_edt(near, sampling=steps) > close_mm)
    away = ndimage.distance_transform_edt(~small, sampling=steps)
    signed = (away - half).astype(np.float32)
    # Inside, nothing farther than the mask's own box counts, and mostly that is a small part.
    part = box_of(small, 1) or (slice(None),) * 3
    within = ndimage.distance_transform_edt(small[part], sampling=steps)
    np.copyto(signed[part], (half - within).astype(np.float32), where=small[part])
    signed = ndimage.gaussian_filter(signed, [smooth_mm / step for step in steps], mode="nearest")
    for axis, (stride, count) in enumerate(zip(strides, mask.shape, strict=True)):
        if stride > 1:
            signed = _linear(signed, axis, np.arange(count) / stride)
    return np.asarray(signed, np.float32)


def _linear(array: NDArray[np.float32], axis: int, where: Array) -> NDArray[np.float32]:
    low = np.minimum(where.astype(int), array.shape[axis] - 1)
    high = np.minimum(low + 1, array.shape[axis] - 1)
    shape = [1] * array.ndim
    shape[axis] = len(where)
    share = (where - low).astype(np.float32).reshape(shape)
    return np.asarray(np.take(array, low, axis) * (1 - share) + np.take(array, high, axis) * share)


def covered(signed: Array, voxel: float) -> NDArray[np.float32]:
    """The part of a voxel that lies inside the surface at a signed distance of 0."""
    return np.asarray(np.clip(0.5 - signed / voxel, 0, 1), np.float32)


def thorax(scene: Scene, box: Box) -> NDArray[np.float32]:
    """1 inside the ribs, 0 outside, smooth."""
    cell = np.array(scene.tissue.spacing_mm, np.float32) * scene.guides.step
    where = scene.atlas_mm(box) / cell.reshape(3, 1, 1, 1)
    return np.asarray(ndimage.map_coordinates(scene.guides.thorax_weight, where, order=1, mode="nearest"), np.float32)


def bed(scene: Scene, box: Box, amount: Array) -> None:
    """Fat instead of lung, by ``amount``: what lies in the mediastinum does not touch lung, and leaves none beside a vessel."""
    part = scene.hu[box]
    blend(scene, box, amount * np.clip((FAT_HU - part) / 100.0, 0, 1), FAT_HU)


def blend(scene: Scene, box: Box, amount: Array, hu: Array | float) -> None:
    """Replace whatever is there by ``amount`` (0 ... 1)."""
    part = scene.hu[box]
    part += (amount * (hu - part)).astype(np.float32)
