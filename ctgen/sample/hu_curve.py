"""Calibration of generated HU by a rising curve: what a model gets wrong in every volume is taken back, voxel by voxel."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

Curve = Sequence[tuple[float, float]]
"""(HU as decoded, HU as calibrated), rising in both; empty: none."""
HU = np.arange(-1024, 3072)


def calibrated(hu: np.ndarray[Any, Any], curve: Curve) -> np.ndarray[Any, Any]:
    """HU of any shape -> calibrated, in its own dtype or, of integers, float64; ``hu`` itself if ``curve`` is empty.

    Straight between the points; beyond the ends the end's shift stays, so that order is kept everywhere and nothing saturates.
    """
    if not curve:
        return hu
    decoded, wanted = np.array(curve, dtype=np.float64).T
    kind = hu.dtype if np.issubdtype(hu.dtype, np.floating) else np.float64
    found: np.ndarray[Any, Any] = hu + np.interp(hu, decoded, wanted - decoded).astype(kind)
    return found


def fitted(
    made: Iterable[np.ndarray[Any, Any]], real: Iterable[np.ndarray[Any, Any]], knots: Sequence[float]
) -> list[tuple[float, float]]:
    """The curve that gives volumes ``made`` the quantiles of ``real`` (HU, any shapes): optimal transport in one dimension.

    A point at each of ``knots`` that lies inside the range of ``made``: as many of its voxels lie below it as of ``real`` below
    what it becomes. Whole HU from -1024 to 3071; a knot that would not rise by one at least is left out. ValueError: no voxels.
    """
    below_made, below_real = _cumulative(made), _cumulative(real)
    curve: list[tuple[float, float]] = []
    for knot in sorted(knots):
        # voxels are whole HU: half of those that are the knot's own lie below it
        share = np.interp(knot, HU, (below_made + np.append(0.0, below_made[:-1])) / 2)
        if not 0 < share < 1:
            continue
        becomes = float(HU[np.searchsorted(below_real, share)])
        if not curve or becomes > curve[-1][1]:
            curve.append((float(knot), becomes))
    return curve


def _cumulative(volumes: Iterable[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """(HU.size,) the share of all voxels at or below each HU; one volume in memory at a time."""
    counts = np.zeros(HU.size)
    for volume in volumes:
        places = (np.rint(volume).astype(np.int64) - HU[0]).clip(0, HU.size - 1)
        counts += np.bincount(places.ravel(), minlength=HU.size)
    if not counts.any():
        raise ValueError("a curve cannot be fitted to no voxels")
    found: np.ndarray[Any, Any] = counts.cumsum() / counts.sum()
    return found
