"""From a case's voxels back to the atlas: a smooth invertible map, evaluated on a coarse grid and interpolated by B-splines."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ctgen.data.atlas.draws import stream
from ctgen.data.atlas.patient import Patient
from ctgen.data.atlas.second_shape import load_second_shape
from ctgen.data.atlas.tissue import Guides

Array = NDArray[Any]

CELL_MM = 12.0
"""Spacing of the coarse grid; the finest field it carries, the heart's weight, changes over 40 mm."""
WARP_CELL_MM = 52.0
SWAY_CELL_MM = 120.0


def spline_weights(positions: Array) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """First of four control points and the (N, 4) uniform cubic B-spline weights at ``positions`` (in cells).

    Control point k sits at position k - 1, so that positions 0 ... n - 3 need n control points.
    """
    cell = np.floor(positions).astype(np.int64)
    t = positions - cell
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], 1) / 6
    return cell, weights.astype(np.float32)


def upsample(control: NDArray[np.float32], positions: list[Array]) -> NDArray[np.float32]:
    """(K, d, h, w) control points -> (K, D, H, W) at ``positions`` per axis, in cells.

    Sums of four products, not matrix products: a BLAS gives other last bits on another processor. D comes last, slice by
    slice, so that what is summed stays in the processor's cache.
    """
    for axis in (3, 2):
        first, weights = spline_weights(positions[axis - 1])
        shape = [1] * control.ndim
        shape[axis] = len(first)
        total = np.take(control, first, axis) * weights[:, 0].reshape(shape)
        for tap in range(1, 4):
            part = np.take(control, first + tap, axis)
            part *= weights[:, tap].reshape(shape)
            total += part
        control = total
    first, weights = spline_weights(positions[0])
    out = np.empty((control.shape[0], len(first), *control.shape[2:]), np.float32)
    part = np.empty(control.shape[2:], np.float32)
    for group, target in zip(control, out, strict=True):
        for level, start in enumerate(first):
            np.multiply(group[start], weights[level, 0], out=target[level])
            for tap in range(1, 4):
                np.multiply(group[start + tap], weights[level, tap], out=part)
                target[level] += part
    return out


def smooth_field(
    rng: np.random.Generator,
    shape: tuple[int, ...],
    spacing_mm: tuple[float, ...],
    cell_mm: float,
    box: tuple[slice, ...],
) -> NDArray[np.float32]:
    """The part ``box`` of a (D, H, W) field of smooth noise: unit variance (about), correlation length ``cell_mm``.

    The draw depends on ``shape`` alone: two boxes show parts of the same field.
    """
    whole = [np.arange(count) * step / cell_mm for count, step in zip(shape, spacing_mm, strict=True)]
    cells = [int(np.floor(position[-1])) + 4 for position in whole]
    control = rng.standard_normal((1, *cells), dtype=np.float32)
    field = upsample(control, [position[part] for position, part in zip(whole, box, strict=True)])[0]
    # Variance of a B-spline sum of unit normals, averaged over positions: 0.479 per axis.
    field *= np.float32(0.479 ** (-0.5 * len(shape)))
    return np.asarray(field, np.float32)


def _sample(field: Array, points_mm: Array, cell_mm: Array) -> NDArray[np.float64]:
    where = points_mm / cell_mm.reshape(3, *([1] * (points_mm.ndim - 1)))
    return np.asarray(ndimage.map_coordinates(field, where, order=1, mode="nearest", output=np.float64))


def _rotation(degrees: tuple[float, float, float]) -> NDArray[np.float64]:
    a, b, c = np.deg2rad(degrees)
    about_d = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_h = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_w = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return np.asarray(about_d @ about_h @ about_w)


def _middle(patient: Patient, guides: Guides, length_mm: float, atlas_mm: float) -> NDArray[np.float64]:
    """The atlas point (mm) in the middle of the scan: the lungs' height, moved so that the scan ends within the atlas."""
    half = length_mm / 2 / patient.height
    low, high = half + 2.0, atlas_mm - half - 2.0
    height = guides.lung_centre[0] - patient.shift_mm[0]
    height = (low + high) / 2 if low > high else min(max(height, low), high)
    return np.array([height, guides.body_centre[1], guides.body_centre[2]])


RANGE_MARGIN_MM = 10.0
"""A range that is moved ends this far within the atlas: slices are tilted, and the warp is up to 9 mm more."""


def range_within(wanted_mm: float, patient: Patient, guides: Guides, length_mm: float, atlas_mm: float) -> float:
    """``wanted_mm``, or as much of it as the atlas allows in this patient; never past the margin, or back towards it."""
    middle, half = float(_middle(patient, guides, length_mm, atlas_mm)[0]), length_mm / 2 / patient.height
    down = max(middle - half - RANGE_MARGIN_MM, 0.0) * patient.height
    up = max(atlas_mm - RANGE_MARGIN_MM - half - middle, 0.0) * patient.height
    return round(min(max(wanted_mm, -down), up), 1)


_FINER = 8
"""Noise is sampled this many times between two of its control points; linear between the samples, it is smooth enough."""


def _noise_at(control: NDArray[np.float32], positions: list[Array]) -> NDArray[np.float32]:
    """The cubic spline through (3, d, h, w) values, at ``positions`` per axis in cells; beyond the border as on it."""
    padded = np.pad(control, [(0, 0), *[(1, 1)] * 3], mode="edge")
    knots = np.stack([ndimage.spline_filter(component, order=3, output=np.float32, mode="mirror") for component in padded])
    within = [np.clip(place, 0, count - 1 - 1e-6) for place, count in zip(positions, control.shape[1:], strict=True)]
    return upsample(knots, within)


def _pushed(points: Array, control: NDArray[np.float32], cell_mm: float, amplitude_mm: float) -> NDArray[np.float64]:
    """``points`` moved by a field of smooth noise around the middle of the case."""
    counts = control.shape[1:]
    fine = _noise_at(control, [np.arange((count - 1) * _FINER + 1) / _FINER for count in counts])
    where = points / cell_mm + ((np.array(counts) - 1.0) / 2).reshape(3, *([1] * (points.ndim - 1)))
    where *= _FINER
    push = np.stack([ndimage.map_coordinates(field, where, order=1, mode="nearest", output=np.float64) for field in fine])
    return np.asarray(points + push * amplitude_mm)


def atlas_points(
    points: NDArray[np.float64],
    patient: Patient,
    guides: Guides,
    sway: NDArray[np.float32],
    *,
    heart_scale: float,
    length_mm: float,
    atlas_shape: tuple[int, int, int],
    atlas_spacing: tuple[float, float, float],
) -> NDArray[np.float64]:
    """(3, ...) mm from the middle of the case -> (3, ...) mm from the first voxel of the widened atlas.

    ``points`` have been through the finer of the two smooth warps. Order: the coarser; rotate and scale; spine and chest
    shape; thickness of the outer layer; the second chest's shape; breath; heart. Each step is one-to-one, one after another:
    the gradients of the fields stay under 1 in the range of ``draw_patient`` and of the findings, shears and radial maps are
    one-to-one by construction.
    """
    spacing = np.array(atlas_spacing)
    cell = spacing * guides.step
    column = (3, *([1] * (points.ndim - 1)))
    points = _pushed(points, sway, SWAY_CELL_MM, patient.sway_mm)
    in_plane = np.array([0.0, patient.shift_mm[1], patient.shift_mm[2]]).reshape(column)
    turned = np.einsum("ij,j...->i...", _rotation(patient.rotation_deg), points - in_plane)
    turned = turned / np.array([patient.height, patient.depth, patient.width]).reshape(column)

    middle = _middle(patient, guides, length_mm, atlas_shape[0] * spacing[0])
    up = turned[0] + (middle[0] - guides.lung_centre[0])
    turned[2] -= patient.curve_mm * np.sin(2 * np.pi * up / patient.curve_length_mm + patient.curve_phase)
    turned[1] += patient.kyphosis_mm * (np.clip(up / 120.0, -1.3, 1.3) ** 2 - 0.4)
    turned[2] *= np.exp(-patient.taper * np.tanh(up / 90.0))
    turned[1] *= np.exp(-patient.barrel * np.exp(-((up / 90.0) ** 2)))

    # Outer layer: beyond 0.8 of the body's half axes the atlas is walked through faster (thin) or slower (thick).
    half_depth, half_width = guides.body_half_mm
    radius = np.sqrt((turned[1] / half_depth) ** 2 + (turned[2] / half_width) ** 2) + 1e-6
    low = 1 / (1 + np.exp((up + guides.lung_centre[0] - guides.dome_mm) / 30.0))
    thin = np.exp(-patient.belly * low + patient.front * turned[1] / half_depth / np.maximum(radius, 0.5)) / patient.fat
    beyond = np.logaddexp(0.0, (radius - 0.8) / 0.05) * 0.05
    turned[1:] *= (radius + beyond * (thin - 1)) / radius
    out = turned + middle.reshape(column)

    shape = load_second_shape()
    # The widened atlas begins ``aside_mm`` to the right of the atlas on which the shape was found.
    aside = np.array([0.0, 0.0, guides.aside_mm]).reshape(column)
    here = out - aside
    out += patient.second * np.stack([_sample(axis, here, np.full(3, shape.cell_mm)) for axis in shape.field_mm])

    inside = _sample(guides.thorax_weight, out, cell)
    breath = np.exp(-0.5 * ((out[0] - guides.dome_mm) / 55.0) ** 2) * inside
    out[0] -= patient.diaphragm_mm * breath

    weight = _sample(guides.heart_weight, out, cell)
    centre = guides.heart_centre.reshape(column)
    # A dilated heart rests on the diaphragm and the sternum: it grows down and forwards less than to the sides.
    growth = 1 / heart_scale - 1
    out += (out - centre) * weight * growth * np.array([0.75, 0.85, 1.0]).reshape(column)

    weight = _sample(guides.heart_weight, out, cell)
    for degrees, (one, two) in zip(patient.heart_turn_deg, ((1, 2), (0, 2)), strict=True):
        angle = np.deg2rad(degrees) * weight
        a, b = out[one] - guides.heart_centre[one], out[two] - guides.heart_centre[two]
        out[one] += a * (np.cos(angle) - 1) - b * np.sin(angle)
        out[two] += a * np.sin(angle) + b * (np.cos(angle) - 1)
    return np.asarray(out)


def coordinates(
    seed: int,
    index: int,
    patient: Patient,
    guides: Guides,
    *,
    heart_scale: float,
    size: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    atlas_shape: tuple[int, int, int],
    atlas_spacing: tuple[float, float, float],
    range_mm: float = 0.0,
) -> NDArray[np.float32]:
    """(3, D, H, W) float32: the position in widened-atlas voxels that each voxel of the case shows.

    ``range_mm`` (see ``range_within``): the range lies this much higher, in the same anatomy.
    """
    positions, starts, counts = [], [], []
    for count, step in zip(size, spacing_mm, strict=True):
        offsets = (np.arange(count) - (count - 1) / 2) * step
        positions.append((offsets - offsets[0]) / CELL_MM)
        starts.append(offsets[0] - CELL_MM)
        counts.append(int(np.floor(positions[-1][-1])) + 4)
    starts[0] += range_mm
    axes = [start + CELL_MM * np.arange(count) for start, count in zip(starts, counts, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"))
    rng = stream(seed, index, "warp")
    # The field is drawn at one size for every scan, so that the anatomy does not depend on the field of view.
    # Bounded, or the steepest of many draws would fold the map.
    warp = np.clip(rng.standard_normal((3, 11, 15, 15), dtype=np.float32), -1.4, 1.4)
    sway = np.clip(stream(seed, index, "anatomy").standard_normal((3, 7, 8, 8), dtype=np.float32), -1.4, 1.4)
    places = [axis / WARP_CELL_MM + (count - 1) / 2 for axis, count in zip(axes, warp.shape[1:], strict=True)]
    points += _noise_at(warp, places) * patient.warp_mm
    mapped = atlas_points(
        points, patient, guides, sway, heart_scale=heart_scale, length_mm=size[0] * spacing_mm[0],
        atlas_shape=atlas_shape, atlas_spacing=atlas_spacing,
    )  # fmt: skip
    mapped /= np.array(atlas_spacing).reshape(3, 1, 1, 1)
    return upsample(mapped.astype(np.float32), positions)
