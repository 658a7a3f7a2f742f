"""Resampling, cropping and padding in physical space. The affine of a result is exact: no voxel moves in the patient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ctgen.errors import ConfigError
from ctgen.volume.orient import orientation_of
from ctgen.volume.volume import Volume

PADDING_FLOOR_HU = -1024
FWHM_PER_SIGMA = 2.0 * np.sqrt(2.0 * np.log(2.0))


def resample(
    volume: Volume,
    spacing_mm: Sequence[float],
    *,
    order: Literal["linear", "nearest"] = "linear",
    floor_hu: float | None = None,
) -> Volume:
    """The volume on a grid of exactly ``spacing_mm`` (array order) along the same axes.

    The new grid covers the old from voxel edge to voxel edge: both share one centre, and the extent differs by at most half a
    new voxel (sizes are whole). "linear" gives float32 and low-passes an axis before it is made coarser, with a Gaussian whose
    width makes the point spread of the result one new voxel (FWHM; Cardoso et al., MICCAI 2015); "nearest" keeps the values.
    What is below ``floor_hu`` (padding) is raised to it first; only for "linear".
    """
    spacing = _triple(spacing_mm, "spacing_mm")
    old = np.asarray(volume.spacing_mm)
    size = np.maximum(1, np.rint(np.asarray(volume.shape) * old / spacing)).astype(int)
    # Old index of each new sample: the centres of both grids coincide.
    samples = [
        (np.arange(size[axis]) - (size[axis] - 1) / 2) * (spacing[axis] / old[axis]) + (volume.shape[axis] - 1) / 2
        for axis in range(3)
    ]
    affine = volume.affine.copy()
    affine[:3, :3] *= spacing / old
    affine[:3, 3] += volume.affine[:3, :3] @ np.array([sample[0] for sample in samples])
    if order == "nearest":
        picks = [np.clip(np.rint(at), 0, count - 1).astype(int) for at, count in zip(samples, volume.shape, strict=True)]
        return Volume(volume.hu[np.ix_(*picks)], affine, volume.meta)
    weights = [_weights(samples[axis], volume.shape[axis], spacing[axis] / old[axis]) for axis in range(3)]
    return Volume(_apply(volume.hu, weights, floor_hu), affine, volume.meta)


def crop_or_pad(
    volume: Volume, size: Sequence[int], *, fill_hu: float, centre_mm: Sequence[float] | None = None, axes: str = "DHW"
) -> Volume:
    """``size`` (D, H, W) voxels around ``centre_mm`` (LPS x, y, z; default: the volume's own centre), along ``axes``.

    Voxels that were outside hold ``fill_hu``. Of an odd difference in size the extra voxel is cut or added at the end.
    """
    if unknown := set(axes) - set("DHW"):
        raise ConfigError(f"axes must be among 'DHW', not {sorted(unknown)}")
    target = [int(size[i]) if "DHW"[i] in axes else volume.shape[i] for i in range(3)]
    if min(target) < 1:
        raise ConfigError(f"a size must be at least 1 voxel, not {tuple(target)}")
    starts = [
        (have - want) // 2 if have >= want else -((want - have) // 2) for have, want in zip(volume.shape, target, strict=True)
    ]
    if centre_mm is not None:
        index = np.linalg.solve(volume.affine, np.array([*centre_mm, 1.0]))[:3]
        starts = [int(np.floor(index[i] - (target[i] - 1) / 2 + 0.5)) if "DHW"[i] in axes else starts[i] for i in range(3)]
    if starts == [0, 0, 0] and tuple(target) == volume.shape:
        return volume
    hu = np.full(target, fill_hu, volume.hu.dtype)
    source, destination = [], []
    for start, want, have in zip(starts, target, volume.shape, strict=True):
        low, high = max(start, 0), min(start + want, have)
        source.append(slice(low, max(high, low)))
        destination.append(slice(low - start, max(high, low) - start))
    hu[tuple(destination)] = volume.hu[tuple(source)]
    affine = volume.affine.copy()
    affine[:3, 3] += volume.affine[:3, :3] @ np.asarray(starts, np.float64)
    return Volume(hu, affine, volume.meta)


def fit(
    volume: Volume, size: Sequence[int], *, fill_hu: float, centre_mm: Sequence[float] | None = None, pad_depth: bool = False
) -> Volume:
    """A canonical volume in ``size`` (D, H, W) voxels of its own spacing.

    H and W are cropped or padded around ``centre_mm`` (LPS; default: the middle); D is cropped around its middle to at most
    size[0], and padded up to it only if ``pad_depth``. Raises ConfigError for a volume that is not canonical.
    """
    if not orientation_of(volume.affine).is_canonical:
        raise ConfigError("fit() takes a canonical volume", hint="call to_canonical(volume) first")
    if volume.shape[0] > size[0]:
        volume = crop_or_pad(volume, size, fill_hu=fill_hu, axes="D")
    volume = crop_or_pad(volume, size, fill_hu=fill_hu, centre_mm=centre_mm, axes="HW")
    return crop_or_pad(volume, size, fill_hu=fill_hu, axes="D") if pad_depth else volume


def _triple(values: Sequence[float], name: str) -> NDArray[np.float64]:
    triple = np.asarray(values, np.float64)
    if triple.shape != (3,) or not (np.isfinite(triple).all() and (triple > 0).all()):
        raise ConfigError(f"{name} must be three positive numbers of mm (D, H, W), not {tuple(values)}")
    return triple


def _weights(samples: NDArray[np.float64], count: int, ratio: float) -> NDArray[np.float32] | None:
    """(new, old) matrix of one axis: linear interpolation of the low-passed axis, edges repeated; None if nothing changes."""
    if len(samples) == count and np.allclose(samples, np.arange(count), atol=1e-6):
        return None
    at = np.clip(samples, 0, count - 1)
    low = np.minimum(np.floor(at).astype(int), max(count - 2, 0))
    high = np.minimum(low + 1, count - 1)
    share = at - low
    matrix = np.zeros((len(samples), count))
    rows = np.arange(len(samples))
    np.add.at(matrix, (rows, low), 1.0 - share)
    np.add.at(matrix, (rows, high), share)
    if ratio > 1.0 + 1e-6 and count > 1:
        from scipy.ndimage import gaussian_filter1d

        # The filter is symmetric apart from the edges, where repeating the edge voxel keeps the rows' sum at 1.
        blur = gaussian_filter1d(np.eye(count), np.sqrt(ratio**2 - 1.0) / FWHM_PER_SIGMA, axis=0, mode="nearest", truncate=3.0)
        matrix = matrix @ blur
    return matrix.astype(np.float32)


def _apply(
    hu: NDArray[Any], weights: Sequence[NDArray[np.float32] | None], floor_hu: float | None = None
) -> NDArray[np.float32]:
    """Separable: H and W slice by slice (so that no float copy of the whole volume is needed), then D."""
    along_d, along_h, along_w = (None if matrix is None else _bands(matrix) for matrix in weights)
    plane_size = [size if matrix is None else len(matrix) for matrix, size in zip(weights[1:], hu.shape[1:], strict=True)]
    stack = np.empty((len(hu), *plane_size), np.float32)
    for index, plane in enumerate(hu):
        values = plane.astype(np.float32)
        if floor_hu is not None:
            np.maximum(values, floor_hu, out=values)
        if along_h is not None:
            values = _banded(along_h, values)
        if along_w is not None:
            values = _banded(along_w, np.ascontiguousarray(values.T)).T
        stack[index] = values
    if along_d is None:
        return stack
    return _banded(along_d, stack.reshape(len(stack), -1)).reshape(-1, *stack.shape[1:])


BAND_ROWS = 16
Bands = list[tuple[slice, slice, NDArray[np.float32]]]


def _bands(matrix: NDArray[np.float32]) -> Bands:
    """A matrix of interpolation weights, nearly all of them zero, as blocks of rows with the columns that they need."""
    found = []
    for first in range(0, len(matrix), BAND_ROWS):
        rows = matrix[first : first + BAND_ROWS]
        used = np.flatnonzero(rows.any(axis=0))
        columns = slice(int(used[0]), int(used[-1]) + 1)
        found.append((slice(first, first + len(rows)), columns, np.ascontiguousarray(rows[:, columns])))
    return found


def _banded(bands: Bands, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The matrix in ``bands`` times ``values`` (old, K)."""
    result = np.empty((bands[-1][0].stop, values.shape[1]), np.float32)
    for rows, columns, block in bands:
        np.matmul(block, values[columns], out=result[rows])
    return result
