"""The atlas made ready for one output spacing: low-passed, contrast split off, widened; and fields that guide deformation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ctgen.data.atlas.added_labels import OUTSIDE
from ctgen.data.atlas.atlas import Atlas, load_atlas
from ctgen.data.atlas.patient import Patient

Array = NDArray[Any]
LOBES = ("upper_lobe_left", "lower_lobe_left", "upper_lobe_right", "middle_lobe_right", "lower_lobe_right")
AIR_HU = -1000
PAD = 40
"""Columns added on each side: the real scan's field of view cuts the shoulders off."""
NEAR_BODY, NEAR_IODINE = 256, 512
_EDGE = 3
_UNENHANCED_HU = 45


@dataclass(frozen=True)
class Tissue:
    """Arrays on the widened atlas grid (D, H, W). ``spacing_mm`` is the atlas's own."""

    plain: NDArray[np.int16]
    """HU as if no contrast had been given; couch and clothes replaced by air; low-passed for the output spacing."""
    iodine: NDArray[np.int16]
    """HU that contrast adds."""
    labels: NDArray[np.uint8]
    cells: NDArray[np.uint16]
    """``labels``, and ``NEAR_BODY`` and ``NEAR_IODINE`` in the bits above: a case looks all up at once."""
    names: dict[int, str]
    spacing_mm: tuple[float, float, float]


@dataclass(frozen=True)
class Guides:
    """Smooth fields on every ``step``-th voxel of the widened atlas, and landmarks in mm (D, H, W) from its first voxel."""

    step: int
    heart_weight: NDArray[np.float32]
    """1 in the heart, 0 from 45 mm outside it."""
    thorax_weight: NDArray[np.float32]
    """1 inside the ribs, 0 outside."""
    wall_mm: NDArray[np.float32]
    """Inside a lung: distance to its surface; 0 elsewhere."""
    heart_centre: NDArray[np.float64]
    lung_centre: NDArray[np.float64]
    body_centre: NDArray[np.float64]
    body_half_mm: tuple[float, float]
    """Half the body's depth and width at heart level."""
    area_mm2: NDArray[np.float64]
    """(D,) of the body's section at each slice of the atlas."""
    dome_mm: float
    """Height of the diaphragm."""
    aside_mm: float
    """How far the widening moved the atlas along W."""
    lungs_mm: dict[str, NDArray[np.float64]]
    """Side -> (2, 3) corners of that lung's bounding box."""
    lobe_points: dict[str, NDArray[np.float32]]
    """Lobe -> (N, 4) points (mm, and distance to the lung's surface) at least 6 mm from the lobe's border."""


def widen(array: Array, labels: NDArray[np.uint8]) -> tuple[Array, NDArray[np.uint8]]:
    """Add ``PAD`` columns on both sides; where the body is cut off there, it is mirrored and rounded off."""
    array, labels = array[:, :, _EDGE:-_EDGE], labels[:, :, _EDGE:-_EDGE]
    reach_limit = PAD + _EDGE
    sides = []
    for flip in (1, -1):
        values, ids = array[:, :, ::flip], labels[:, :, ::flip]
        out = np.full((*values.shape[:2], reach_limit), AIR_HU, values.dtype)
        out_ids = np.zeros(out.shape, np.uint8)
        for z in range(values.shape[0]):
            rows = np.flatnonzero((ids[z, :, 0] > 0) & (ids[z, :, 0] != OUTSIDE))
            if len(rows) < 4:
                continue
            low, high = rows[0], rows[-1]
            middle, half = (low + high) / 2, (high - low) / 2
            reach = min(half**2 / 110.0, reach_limit - 2.0)
            for x in range(int(reach)):
                shrunk = half * np.sqrt(1 - (x + 1) / (reach + 1))
                inside = np.arange(int(np.ceil(middle - shrunk)), int(middle + shrunk) + 1)
                source = np.clip(np.rint(middle + (inside - middle) * half / max(shrunk, 1.0)).astype(int), low, high)
                out[z, inside, x], out_ids[z, inside, x] = values[z, source, x + 1], ids[z, source, x + 1]
        sides.append((out[:, :, ::-1], out_ids[:, :, ::-1]) if flip == 1 else (out, out_ids))
    (left, left_ids), (right, right_ids) = sides
    return np.concatenate([left, array, right], 2), np.concatenate([left_ids, labels, right_ids], 2)


def _iodine(atlas: Atlas, hu: NDArray[np.int16], labels: NDArray[np.uint8]) -> NDArray[np.int16]:
    """Contrast by a rule: in and near vessels and enhancing organs, all above unenhanced blood is contrast."""

    def near(cells: int, *parts: str) -> NDArray[np.bool_]:
        table = np.zeros(256, bool)
        table[atlas.ids(*parts)] = True
        return np.asarray(ndimage.binary_dilation(table[labels], iterations=cells)) if cells else table[labels]

    bone = near(2, "rib_", "vertebra", "scapula", "clavicula", "humerus", "sternum", "costal_cart", "hip")
    pool = near(2, "heart", "aorta", "vein", "vena", "artery", "trunk", "atrial") & ~bone
    organs = near(1, "liver", "spleen", "kidney", "pancreas", "stomach", "bowel", "duodenum", "gland") & ~bone
    stray = (labels == atlas.ids("body")[0]) & (hu > 160) & ~bone
    lungs = near(0, "lung_")
    added = np.clip(hu - np.int16(_UNENHANCED_HU), 0, 420)
    return np.where(pool | organs | ndimage.binary_dilation(stray) | lungs, added, 0).astype(np.int16)


@lru_cache(maxsize=2)
def load_tissue(spacing_mm: tuple[float, float, float]) -> Tissue:
    """The atlas for one output spacing; about 3 s and 60 MB, then cached."""
    atlas = load_atlas()
    own = atlas.volume.spacing_mm
    labels = np.where(atlas.labels == OUTSIDE, 0, atlas.labels).astype(np.uint8)
    skin = ndimage.binary_dilation(labels > 0) & (atlas.labels != OUTSIDE)
    hu, labels = widen(np.where(skin, atlas.hu, AIR_HU).astype(np.int16), labels)
    iodine = _iodine(atlas, hu, labels)
    plain = np.minimum(hu, hu - iodine)
    # A streak beside the subclavian vein: contrast at 3000 HU leaves plain values that no tissue has.
    plain = np.where(iodine == 420, np.minimum(plain, _UNENHANCED_HU), plain)
    # A voxel of the output averages over its own size (full width at half maximum), of which the atlas has done a part.
    sigma = tuple(0.42 * np.sqrt(max(want**2 - have**2, 0.0)) / have for want, have in zip(spacing_mm, own, strict=True))
    plain = np.rint(ndimage.gaussian_filter(plain.astype(np.float32), sigma, truncate=3)).astype(np.int16)
    iodine = np.rint(ndimage.gaussian_filter(iodine.astype(np.float32), sigma, truncate=3)).astype(np.int16)
    near_body = ndimage.binary_dilation(labels > 0, iterations=4)
    near_iodine = ndimage.binary_dilation(iodine > 2, iterations=2)
    cells = (labels + NEAR_BODY * near_body.astype(np.uint16) + NEAR_IODINE * near_iodine.astype(np.uint16)).astype(np.uint16)
    return Tissue(plain, iodine, labels, cells, atlas.names, own)


@lru_cache(maxsize=1)
def load_guides() -> Guides:
    """Fields and landmarks for the deformation and the findings; once per process."""
    atlas = load_atlas()
    step = 4
    _, labels = widen(atlas.hu, atlas.labels)
    spacing = np.array(atlas.volume.spacing_mm)
    coarse = labels[::step, ::step, ::step]
    cell = spacing * step

    def of(*parts: str, array: NDArray[np.uint8] = labels) -> NDArray[np.bool_]:
        table = np.zeros(256, bool)
        table[atlas.ids(*parts)] = True
        return np.asarray(table[array])

    heart = of("heart", "atrial_app", array=coarse)
    outside = ndimage.distance_transform_edt(~heart, sampling=cell)
    heart_weight = (0.5 + 0.5 * np.cos(np.pi * np.clip((outside - 4.0) / 41.0, 0, 1))).astype(np.float32)
    thorax = ndimage.binary_closing(of("lung_", "heart", "liver", "spleen", "stomach", array=coarse), iterations=3)
    thorax_weight = ndimage.gaussian_filter(thorax.astype(np.float32), 14.0 / cell)

    wall_step = 2
    small = labels[::wall_step, ::wall_step, ::wall_step]
    wall = np.zeros(small.shape, np.float32)
    boxes: dict[str, NDArray[np.float64]] = {}
    for side in ("left", "right"):
        lung = ndimage.binary_closing(of(f"lobe_{side}", array=small), iterations=2)
        wall = np.maximum(wall, ndimage.distance_transform_edt(lung, sampling=spacing * wall_step).astype(np.float32))
        found = np.argwhere(lung) * spacing * wall_step
        boxes[side] = np.stack([found.min(0), found.max(0)])
    points: dict[str, NDArray[np.float32]] = {}
    for lobe in LOBES:
        depth = ndimage.distance_transform_edt(of(f"lung_{lobe}", array=small), sampling=spacing * wall_step)
        inner = np.argwhere(depth > 6.0)
        points[lobe] = np.concatenate([inner * spacing * wall_step, wall[tuple(inner.T)][:, None]], 1).astype(np.float32)

    level = labels[int(np.argwhere(of("heart"))[:, 0].mean())] > 0
    rows, columns = np.flatnonzero(level.any(1)), np.flatnonzero(level.any(0))
    heart_centre = np.argwhere(of("heart")).mean(0) * spacing
    lungs = np.argwhere(of("lung_")) * spacing
    centre = np.array([0.0, (rows[0] + rows[-1]) / 2 * spacing[1], (columns[0] + columns[-1]) / 2 * spacing[2]])
    return Guides(
        step=step,
        heart_weight=heart_weight,
        thorax_weight=thorax_weight.astype(np.float32),
        wall_mm=wall,
        heart_centre=heart_centre,
        lung_centre=(lungs.min(0) + lungs.max(0)) / 2,
        body_centre=centre,
        body_half_mm=(float(np.ptp(rows) * spacing[1] / 2), float(np.ptp(columns) * spacing[2] / 2)),
        area_mm2=ndimage.gaussian_filter1d((labels > 0).sum((1, 2)) * spacing[1] * spacing[2], 2.0),
        dome_mm=float(np.argwhere(of("liver"))[:, 0].max() * spacing[0]),
        aside_mm=float(PAD * spacing[2]),
        lungs_mm=boxes,
        lobe_points=points,
    )


_LIVER_HU = {"none": 10.0, "arterial": 4.0, "venous": 44.0}
"""A liver without contrast is brighter than blood, and the split of the atlas into tissue and contrast knows no organ;
then what it takes up itself."""
_VENOUS_HU = {
    "spleen": 48.0, "kidney": 70.0, "pancreas": 30.0, "portal_vein": 70.0, "inferior_vena": 45.0,
    "thyroid": 60.0, "adrenal": 25.0, "bowel": 20.0, "duodenum": 20.0, "stomach": 12.0, "autochthon": 8.0, "iliopsoas": 8.0,
}  # fmt: skip
"""What organs take up after the blood pool has faded, above their part of the atlas's arterial contrast."""


def organ_gain(tissue: Tissue, patient: Patient, phase: str) -> NDArray[np.float32]:
    """Label -> HU (256 values) added to an organ in a contrast phase ("none", "arterial", "venous")."""
    table = np.zeros(256, np.float32)
    for label, name in tissue.names.items():
        if "liver" in name:
            table[label] += _LIVER_HU[phase]
        if "autochthon" in name or "iliopsoas" in name:
            # With age fat grows into the muscles of the back.
            table[label] -= 5.0 + 8.0 * (patient.age - 55) / 35
        if phase == "venous":
            table[label] += next((hu for part, hu in _VENOUS_HU.items() if part in name), 0.0)
    return table


def tone_curve(patient: Patient) -> NDArray[np.float32]:
    """HU + 1024 -> HU (4096 values): this patient's lung density, fat, muscle and bone; monotone, air stays air."""
    lung, fat, soft = patient.lung_hu, patient.fat_hu, patient.soft_hu
    knots = np.array([-1024, -985, -870, -700, -105, -10, 45, 130, 350, 3071], float)
    # The atlas is an averaged scan, and deformed once more: spongy bone would be paler than in real scans.
    spongy = 85 + (patient.bone - 1) * 300
    shifts = np.array([0, 0, lung, 0.6 * lung, fat, soft, soft, soft, spongy, (patient.bone - 1) * 2900])
    return np.asarray(np.interp(np.arange(-1024, 3072), knots, knots + shifts), np.float32)
