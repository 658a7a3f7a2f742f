"""Where the slices of a series are: sorted along their normal, measured, and compared with an even grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ctgen.dicom.config import DicomReading
from ctgen.dicom.plane import Plane

SAME_MM = 0.02
"""Two slices nearer than this are at one position."""
LISTED = 3
UNIT_TOLERANCE = 1e-3


class Unusable(Exception):
    """A series that cannot be read under the given options; the text says why, with numbers."""


@dataclass(frozen=True)
class Stack:
    """Slices along the normal. ``positions`` (n, 3) mm LPS of the first voxel of each; unit vectors ``row`` (along which the
    column index grows), ``column``, ``normal``; ``spacing`` (between rows, between columns)."""

    planes: tuple[Plane, ...]
    duplicates: tuple[tuple[Plane, ...], ...]
    """Per slice, other images at the same position."""
    positions: NDArray[np.float64]
    row: NDArray[np.float64]
    column: NDArray[np.float64]
    normal: NDArray[np.float64]
    spacing: tuple[float, float]

    @property
    def heights(self) -> NDArray[np.float64]:
        """(n,) mm along the normal."""
        heights: NDArray[np.float64] = self.positions @ self.normal
        return heights

    @property
    def drift(self) -> NDArray[np.float64]:
        """(3,) mm in plane from the first to the last slice: gantry tilt."""
        total = self.positions[-1] - self.positions[0]
        drift: NDArray[np.float64] = total - (total @ self.normal) * self.normal
        return drift

    @property
    def tilt_degrees(self) -> float:
        """Between the line through the slices and their normal."""
        return float(np.degrees(np.arctan2(np.linalg.norm(self.drift), self.heights[-1] - self.heights[0])))

    @property
    def plane_name(self) -> str:
        """ "axial", "coronal" or "sagittal": the axis of the patient that is nearest to the normal."""
        return ("sagittal", "coronal", "axial")[int(np.abs(self.normal).argmax())]

    def affine(self, step: NDArray[np.float64], origin: NDArray[np.float64]) -> NDArray[np.float64]:
        """(4, 4) of (d, h, w) indices to mm LPS for slices ``step`` apart."""
        affine = np.eye(4)
        affine[:3, 0], affine[:3, 3] = step, origin
        affine[:3, 1] = self.column * self.spacing[0]
        affine[:3, 2] = self.row * self.spacing[1]
        return affine


@dataclass(frozen=True)
class Grid:
    """An even grid for a stack: slice k at ``origin`` + k * ``step``. ``source`` (k,) is the position of each among the stack's
    slices: whole numbers unless it is interpolated. ``missing``: slices that no file has."""

    origin: NDArray[np.float64]
    step: NDArray[np.float64]
    source: NDArray[np.float64]
    notes: tuple[str, ...] = ()
    interpolated: int = 0


def check_planes(planes: Sequence[Plane]) -> None:
    """Unusable if a plane has no geometry, or one that is none."""
    for what, name in (
        ("orientation", "ImageOrientationPatient"),
        ("position", "ImagePositionPatient"),
        ("spacing", "PixelSpacing"),
    ):
        wanted = {"orientation": 6, "position": 3, "spacing": 2}[what]
        bad = [plane for plane in planes if len(getattr(plane, what)) != wanted or not np.isfinite(getattr(plane, what)).all()]
        if bad:
            raise Unusable(f"no usable {name} in {len(bad)} of {len(planes)} slices")
    zero = [plane for plane in planes if min(plane.spacing) <= 0]
    if zero:
        raise Unusable(
            f"PixelSpacing is {zero[0].spacing[0]:g} x {zero[0].spacing[1]:g} mm in {len(zero)} of {len(planes)} slices"
        )
    row, column = np.asarray(planes[0].orientation[:3]), np.asarray(planes[0].orientation[3:])
    lengths, cosine = (np.linalg.norm(row), np.linalg.norm(column)), float(row @ column)
    if abs(lengths[0] - 1) > UNIT_TOLERANCE or abs(lengths[1] - 1) > UNIT_TOLERANCE or abs(cosine) > UNIT_TOLERANCE:
        raise Unusable(
            "ImageOrientationPatient is no pair of unit vectors at right angles "
            f"(lengths {lengths[0]:.4f} and {lengths[1]:.4f}, cosine {cosine:.4f})"
        )


def stack_of(planes: Sequence[Plane]) -> Stack:
    """Sort planes of one geometry; those at one position become duplicates of the one with the lowest instance number."""
    row = _unit(np.asarray(planes[0].orientation[:3], np.float64))
    column = np.asarray(planes[0].orientation[3:], np.float64)
    column = _unit(column - (column @ row) * row)
    normal = np.cross(row, column)
    at = np.asarray([plane.position for plane in planes], np.float64)
    heights = at @ normal
    order = sorted(range(len(planes)), key=lambda i: (heights[i], planes[i].instance, planes[i].file, planes[i].frame))
    groups: list[list[int]] = []
    for index in order:
        if (
            groups
            and heights[index] - heights[groups[-1][0]] < SAME_MM
            and np.linalg.norm(at[index] - at[groups[-1][0]]) < SAME_MM
        ):
            groups[-1].append(index)
        else:
            groups.append([index])
    for group in groups:
        group.sort(key=lambda i: (planes[i].instance, planes[i].file, planes[i].frame))
    first = [group[0] for group in groups]
    spacing = (float(planes[0].spacing[0]), float(planes[0].spacing[1]))
    others = tuple(tuple(planes[i] for i in group[1:]) for group in groups)
    return Stack(tuple(planes[i] for i in first), others, at[first], row, column, normal, spacing)


def even_grid(stack: Stack, options: DicomReading) -> Grid:
    """The grid of a stack. Raises Unusable, with numbers, for gaps and jumps that the options do not let pass."""
    heights, count = stack.heights, len(stack.planes)
    total = stack.positions[-1] - stack.positions[0]
    span = heights[-1] - heights[0]
    if span < SAME_MM:
        raise Unusable(f"all {count} slices are at one height along their normal")
    line = stack.positions[0] + np.outer((heights - heights[0]) / span, total)
    aside = np.linalg.norm(stack.positions - line, axis=1)
    if aside.max() > options.position_tolerance_mm:
        worst = int(aside.argmax())
        raise Unusable(
            f"slices do not lie on a straight line: slice {worst + 1} of {count} is {aside.max():.2f} mm beside it "
            f"(position_tolerance_mm = {options.position_tolerance_mm:g})"
        )
    notes: list[str] = []
    step = total / (count - 1)
    away = float(np.abs(heights - (heights[0] + np.arange(count) * span / (count - 1))).max())
    if away <= options.position_tolerance_mm:
        if away > 0.01:
            notes.append(
                f"slices lie up to {away:.3f} mm off the even grid of {span / (count - 1):.4g} mm that is used for them"
            )
        return Grid(stack.positions[0], step, np.arange(count, dtype=np.float64), tuple(notes))
    gaps = np.diff(heights)
    usual = float(np.median(gaps))
    what = _describe_gaps(heights, gaps, usual, options.position_tolerance_mm)
    if options.gaps == "refuse":
        raise Unusable(what)
    if gaps.max() > options.max_gap_mm:
        raise Unusable(f"{what}; a gap of {gaps.max():.4g} mm is more than max_gap_mm = {options.max_gap_mm:g}")
    size = int(np.floor(span / usual + 1e-6)) + 1
    wanted = heights[0] + np.arange(size) * usual
    source = np.interp(wanted, heights, np.arange(count))
    # a slice that is as good as there is taken as it is
    nearest = np.rint(source).astype(int)
    there = np.abs(heights[nearest] - wanted) <= 0.01
    source = np.where(there, nearest, source)
    made = int((~there).sum())
    notes.append(f"{what}; {made} of {size} slices were interpolated linearly (gaps = resample)")
    return Grid(stack.positions[0], total * (usual / span), source, tuple(notes), made)


def _describe_gaps(heights: NDArray[np.float64], gaps: NDArray[np.float64], usual: float, tolerance: float) -> str:
    times = np.rint(gaps / usual)
    wide = [i for i in range(len(gaps)) if times[i] > 1]
    if wide and (times >= 1).all() and (np.abs(gaps - times * usual) <= tolerance).all():
        lost = int(sum(times[i] - 1 for i in wide))
        where = ", ".join(f"{int(times[i] - 1)} after slice {i + 1} (gap {gaps[i]:.4g} mm)" for i in wide[:LISTED])
        more = f" and {len(wide) - LISTED} more places" if len(wide) > LISTED else ""
        return f"{lost} slice{'s are' if lost > 1 else ' is'} missing: {where}{more}; elsewhere {usual:.4g} mm apart"
    odd = [i for i in range(len(gaps)) if abs(gaps[i] - usual) > tolerance]
    where = ", ".join(f"{gaps[i]:.4g} mm after slice {i + 1}" for i in odd[:LISTED])
    more = f" and {len(odd) - LISTED} more" if len(odd) > LISTED else ""
    return f"uneven gaps: {gaps.min():.4g} to {gaps.max():.4g} mm, usually {usual:.4g} mm" + (
        f" ({where}{more})" if where else ""
    )


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    unit: NDArray[np.float64] = vector / np.linalg.norm(vector)
    return unit
