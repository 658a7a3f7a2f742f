"""Stored numbers to HU voxels: rescale, refuse what is not finite, int16 where nothing is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctgen.errors import VolumeError

INT16 = np.iinfo(np.int16)


def to_voxels(raw: NDArray[Any], path: Path, slope: float = 1.0, intercept: float = 0.0) -> NDArray[Any]:
    """``raw`` * slope + intercept: int16 if every value is a whole number in range, else float32.

    Raises VolumeError if a value is NaN or infinite: says how many.
    """
    scaled = slope != 1.0 or intercept != 0.0
    if not scaled and raw.dtype.kind in "iub":
        if raw.dtype.kind == "b" or (int(raw.min()) >= INT16.min and int(raw.max()) <= INT16.max):
            return np.ascontiguousarray(raw, np.int16)
        return np.ascontiguousarray(raw, np.float32)
    values = np.empty(raw.shape, np.float32)
    whole, low, high, nan, infinite = True, np.inf, -np.inf, 0, 0
    # Slice by slice: the float64 intermediate of a whole volume would be four times its file.
    for index, plane in enumerate(raw):
        hu = plane.astype(np.float64) * slope + intercept if scaled else plane
        if not np.isfinite(hu).all():
            nan += int(np.isnan(hu).sum())
            infinite += int(np.isinf(hu).sum())
            continue
        whole = whole and bool((hu == np.rint(hu)).all())
        low, high = min(low, float(hu.min())), max(high, float(hu.max()))
        values[index] = hu
    if nan or infinite:
        raise VolumeError(
            path,
            f"{nan + infinite} of {raw.size} voxels are not numbers ({nan} NaN, {infinite} infinite)",
            hint="replace them by air (-1024 HU) before use; ctgen does not guess",
        )
    if whole and low >= INT16.min and high <= INT16.max:
        return values.astype(np.int16)
    return values
