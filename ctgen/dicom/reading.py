"""A series to a Volume: HU by each slice's own rescale, and an affine from the positions of its slices."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctgen.dicom.config import DicomReading
from ctgen.dicom.pixels import PixelError, stored_values
from ctgen.dicom.plane import Plane, Rejected, is_dicom_start, read_planes
from ctgen.dicom.series import LeftOut, Series, find_series
from ctgen.dicom.tree import Tree, holds_dicom, scan
from ctgen.errors import VolumeError
from ctgen.volume.header import Header, check_memory
from ctgen.volume.volume import Volume

INT16 = np.iinfo(np.int16)
TISSUE_HU = -900.0
LOOK_AT = 2000
"""Files of a folder, before it counts as one without DICOM: somebody may name a whole disk by mistake."""
WHATEVER_IS_THERE = DicomReading(min_slices=2, planes=("axial", "coronal", "sagittal"), synthetic="take")
"""For a series that somebody points at."""


def read_series(series: Series, options: DicomReading) -> Volume:
    """Native orientation: D along the slices' normal, H along their columns, W along their rows; HU int16 or float32.

    ``meta``: source (the case id: no path, which may hold a name), format, dtype, notes. Raises VolumeError that names the
    image by its InstanceNumber.
    """
    header = header_of(series)
    check_memory(header)
    notes = list(series.notes)
    hu, padded = _voxels(series, options)
    if padded:
        notes.append(f"{padded / hu.size:.1%} of the voxels hold PixelPaddingValue and became {options.padding_hu:g} HU")
    volume = Volume(hu, header.affine)
    if series.grid.interpolated:
        volume = Volume(_along_normal(volume.hu, series.grid.source), volume.affine)
    if options.tilt == "resample" and series.stack.tilt_degrees > options.tilt_tolerance_degrees:
        volume = _upright(volume, options.padding_hu)
    meta = {"source": series.case_id(), "format": "DICOM", "dtype": header.dtype.name, "notes": notes}
    return Volume(volume.hu, volume.affine, meta)


def header_of(series: Series) -> Header:
    """The geometry that the grid gives (before a tilt is taken out), for looking at and for the check of memory."""
    stack, grid = series.stack, series.grid
    shape = (len(grid.source), series.first.rows, series.first.columns)
    dtype = np.dtype(np.int16 if _whole(stack.planes) else np.float32)
    return Header(series.root, "DICOM", shape, dtype, stack.affine(grid.step, grid.origin), series.notes)


def is_dicom(path: Path) -> bool:
    """True for a DICOM file, or a folder with some below."""
    if path.is_dir():
        return holds_dicom(path, look_at=LOOK_AT)
    try:
        with path.open("rb") as stream:
            return is_dicom_start(stream.read(132))
    except OSError:
        return False


def probe_path(path: Path) -> Header:
    """The geometry of the one series of a folder, or of a multi-frame file. Raises VolumeError."""
    header = header_of(only_series(path, WHATEVER_IS_THERE))
    return Header(path, header.format, header.shape, header.dtype, header.affine, header.notes)


def read_path(path: Path) -> Volume:
    """The one series of a folder, or a multi-frame file, in any plane. Raises VolumeError if there is none, or several."""
    volume = read_series(only_series(path, WHATEVER_IS_THERE), WHATEVER_IS_THERE)
    return Volume(volume.hu, volume.affine, {**volume.meta, "source": str(path)})


def only_series(path: Path, options: DicomReading) -> Series:
    """The one usable series of a folder or file. VolumeError if there is none, or more than one."""
    tree = scan(path) if path.is_dir() else _one_file(path)
    found, left = find_series(tree, options)
    if len(found) == 1:
        return found[0]
    if found:
        raise VolumeError(
            path,
            f"holds {len(found)} DICOM series: {', '.join(series.name for series in found[:5])}",
            hint="give the folder of one series, or import them all: ctgen data import FOLDER -o OUT",
        )
    hint = "ctgen data inspect FOLDER says more" if path.is_dir() else "give the folder that holds all slices of the series"
    raise VolumeError(path, f"holds no DICOM series that can be used{_reasons(tree, left)}", hint=hint)


def _one_file(path: Path) -> Tree:
    found = read_planes(path, path.name)
    if isinstance(found, Rejected):
        return Tree(path.parent, rejected=[found], files=1)
    return Tree(path.parent, planes=found, files=1)


def _reasons(tree: Tree, left: list[LeftOut]) -> str:
    lines = [f"\n  {item.name} ({item.slices} slices): {item.reason}" for item in left[:5]]
    counts = Counter(item.reason for item in tree.rejected).most_common(3)
    return "".join([*lines, *(f"\n  {count} files: {reason}" for reason, count in counts)])


def _voxels(series: Series, options: DicomReading) -> tuple[NDArray[Any], int]:
    """(slices, H, W) in the order of the stack, and how many voxels held the padding value."""
    planes = series.stack.planes
    shape = (len(planes), series.first.rows, series.first.columns)
    hu: NDArray[Any] = np.empty(shape, np.int16 if _whole(planes) else np.float32)
    padded = 0
    for index, plane in enumerate(planes):
        values, padding = _image(series, plane, options)
        for other in series.stack.duplicates[index]:
            _compare(series, plane, values, other, options)
        if hu.dtype == np.int16 and (values.min() < INT16.min or values.max() > INT16.max):
            hu = hu.astype(np.float32)
        hu[index] = values
        padded += padding
    return hu, padded


def _image(series: Series, plane: Plane, options: DicomReading) -> tuple[NDArray[Any], int]:
    """HU of one image (whole numbers if its rescale is whole), and its number of padding pixels."""
    try:
        stored = stored_values(series.root / plane.file, plane)
    except PixelError as error:
        raise VolumeError(series.case_id(), f"image {plane.instance}: {error}") from error
    slope = 1.0 if plane.slope is None else plane.slope
    intercept = 0.0 if plane.intercept is None else plane.intercept
    if not np.isfinite([slope, intercept]).all() or slope == 0.0:
        raise VolumeError(series.case_id(), f"image {plane.instance}: RescaleSlope {slope:g}, RescaleIntercept {intercept:g}")
    if slope.is_integer() and intercept.is_integer():
        values: NDArray[Any] = stored.astype(np.int64) * int(slope) + int(intercept)
    else:
        values = stored.astype(np.float64) * slope + intercept
    if plane.padding is None:
        return values, 0
    low, high = sorted((plane.padding, plane.padding if plane.padding_limit is None else plane.padding_limit))
    mask = (stored >= low) & (stored <= high)
    # a padding value in the middle of tissue is a header's mistake: punching holes into the patient would be worse
    if high * slope + intercept > TISSUE_HU and low * slope + intercept < INT16.max - 2048:
        return values, 0
    values[mask] = options.padding_hu
    return values, int(mask.sum())


def _compare(series: Series, kept: Plane, values: NDArray[Any], other: Plane, options: DicomReading) -> None:
    """VolumeError if a duplicate is another image, unless the options take the first."""
    if options.duplicates == "first":
        return
    again, _ = _image(series, other, options)
    if not np.array_equal(values, again):
        differ = int((values != again).sum())
        raise VolumeError(
            series.case_id(),
            f"images {kept.instance} and {other.instance} are at one position and differ in {differ} of {values.size} pixels",
            hint="duplicates = first takes the lower instance number",
        )


def _whole(planes: tuple[Plane, ...]) -> bool:
    return all(float(value).is_integer() for plane in planes for value in (plane.slope or 1.0, plane.intercept or 0.0))


def _along_normal(hu: NDArray[Any], source: NDArray[np.float64]) -> NDArray[Any]:
    """Slices at fractional positions, linear between neighbours; whole positions are copied. Keeps the dtype (HU rounded)."""
    result = np.empty((len(source), *hu.shape[1:]), hu.dtype)
    for index, at in enumerate(source):
        low = int(np.floor(at))
        share = float(at - low)
        if share == 0.0:
            result[index] = hu[low]
            continue
        mixed = hu[low].astype(np.float64) * (1.0 - share) + hu[low + 1].astype(np.float64) * share
        result[index] = np.rint(mixed) if hu.dtype == np.int16 else mixed
    return result


def _upright(volume: Volume, fill_hu: float) -> Volume:
    """The volume on a grid whose slice axis is the slices' normal: each slice is moved in plane, linear between pixels.

    The grid grows so that no pixel is lost; what no slice covers holds ``fill_hu``. No slice moves along the normal.
    """
    affine = volume.affine
    column, row = affine[:3, 1], affine[:3, 2]
    normal = np.cross(row, column)
    normal /= np.linalg.norm(normal)
    step = affine[:3, 0]
    straight = (step @ normal) * normal
    # pixels (H, W) that each further slice is displaced
    shift = np.array([(step - straight) @ axis / (axis @ axis) for axis in (column, row)])
    count, height, width = volume.shape
    total = shift * (count - 1)
    before = np.ceil(np.maximum(-total, 0.0) - 1e-9).astype(int)
    after = np.ceil(np.maximum(total, 0.0) - 1e-9).astype(int)
    hu = np.full((count, height + before[0] + after[0], width + before[1] + after[1]), fill_hu, volume.hu.dtype)
    for index in range(count):
        start = before + shift * index
        whole = np.floor(start + 1e-9).astype(int)
        share = np.maximum(start - whole, 0.0)
        plane = _moved(_moved(volume.hu[index].astype(np.float64), float(share[0]), 0, fill_hu), float(share[1]), 1, fill_hu)
        plane = plane[: hu.shape[1] - whole[0], : hu.shape[2] - whole[1]]
        hu[index, whole[0] : whole[0] + plane.shape[0], whole[1] : whole[1] + plane.shape[1]] = (
            np.rint(plane) if hu.dtype == np.int16 else plane
        )
    result = affine.copy()
    result[:3, 0] = straight
    result[:3, 3] -= before[0] * column + before[1] * row
    return Volume(hu, result)


def _moved(plane: NDArray[np.float64], share: float, axis: int, fill_hu: float) -> NDArray[np.float64]:
    """Moved by a part of a pixel towards higher indices, one longer along ``axis``; unchanged if ``share`` is nothing."""
    if share < 1e-6:
        return plane
    widths = [(0, 0), (0, 0)]
    widths[axis] = (1, 0)
    before = np.pad(plane, widths, constant_values=fill_hu)
    widths[axis] = (0, 1)
    after = np.pad(plane, widths, constant_values=fill_hu)
    moved: NDArray[np.float64] = before * share + after * (1.0 - share)
    return moved
