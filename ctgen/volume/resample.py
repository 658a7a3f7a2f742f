"""Resampling, cropping and padding in physical space. The affine of a result is exact: no voxel moves in the patient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ctgen.errors import ConfigError
from ctgen.volume.body import body_centre_mm
from ctgen.volume.orient import orientation_of
from ctgen.volume.volume import Volume

PADDING_FLOOR_HU = -1024
FWHM_PER_SIGMA = 2.0 * np.sqrt(2.0 * np.log(2.0))


def clip_padding(volume: Volume, floor_hu: int = PADDING_FLOOR_HU) -> Volume:
    """Field-of-view padding (-2048, -3024, -8192) becomes air: nothing is below ``floor_hu`` afterwards."""
    if volume.hu.min() >= floor_hu:
        return volume
    return Volume(np.maximum(volume.hu, volume.hu.dtype.type(floor_hu)), volume.affine, volume.meta)


def resample(volume: Volume, spacing_mm: Sequence[float], *, order: Literal["linear", "nearest"] = "linear") -> Volume:
    """The volume on a grid of exactly ``spacing_mm`` (array order) along the same axes.

    The new grid covers the old from voxel edge to voxel edge: both share one centre, and the extent differs by at most half a
    new voxel (sizes are whole). "linear" gives float32 and low-passes an axis before it is made coarser, with a Gaussian whose
    width makes the point spread of the result one new voxel (FWHM; Cardoso et al., MICCAI 2015); "nearest" keeps the values.
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
    return Volume(_apply(volume.hu, weights), affine, volume.meta)


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


def fit(volume: Volume, spacing_mm: Sequence[float], size: Sequence[int], *, fill_hu: float, pad_depth: bool) -> Volume:
    """A canonical volume on the training grid: float32, exactly ``spacing_mm``, ``size`` (D, H, W).

    H and W are cropped or padded around the body's centre; D is cropped around its middle to at most size[0], and padded up to
    it only if ``pad_depth``. Field-of-view padding is set to air first. Raises ConfigError for a volume that is not canonical.
    """
    if not orientation_of(volume.affine).is_canonical:
        raise ConfigError("fit() takes a canonical volume", hint="call to_canonical(volume) first")
    placed = resample(clip_padding(volume), spacing_mm)
    placed = crop_or_pad(placed, size, fill_hu=fill_hu, centre_mm=body_centre_mm(placed), axes="HW")
    if placed.shape[0] > size[0] or pad_depth:
        placed = crop_or_pad(placed, size, fill_hu=fill_hu, axes="D")
    return placed


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


def _apply(hu: NDArray[Any], weights: Sequence[NDArray[np.float32] | None]) -> NDArray[np.float32]:
    """Separable: H and W slice by slice (so that no float copy of the whole volume is needed), then D."""
    along_d, along_h, along_w = weights
    planes = []
    for plane in hu:
        values = plane.astype(np.float32)
        if along_h is not None:
            values = along_h @ values
        if along_w is not None:
            values = values @ along_w.T
        planes.append(values)
    stack = np.stack(planes)
    if along_d is None:
        return stack
    return np.ascontiguousarray((along_d @ stack.reshape(len(stack), -1)).reshape(-1, *stack.shape[1:]))
