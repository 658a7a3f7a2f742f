"""Calibration of generated HU by a rising curve: what a model gets wrong in every volume is taken back, voxel by voxel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Curve = Sequence[tuple[float, float]]
"""(HU as decoded, HU as calibrated), rising in both; empty: none."""


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


def fitted(made: np.ndarray[Any, Any], real: np.ndarray[Any, Any], knots: Sequence[float]) -> list[tuple[float, float]]:
    """The curve that gives ``made`` the quantiles of ``real`` (HU, any shapes): optimal transport in one dimension.

    A point at each of ``knots`` that lies inside both ranges: as many voxels of ``made`` lie below it as of ``real`` below what
    it becomes. Whole HU; a knot that would not rise by one at least is left out.
    """
    made, real = np.sort(made, axis=None), np.sort(real, axis=None)
    curve: list[tuple[float, float]] = []
    for knot in sorted(knots):
        # voxels are whole HU: half of those that are the knot's own lie below it
        share = (np.searchsorted(made, knot, "left") + np.searchsorted(made, knot, "right")) / 2 / made.size
        if not 0 < share < 1:
            continue
        becomes = float(np.rint(real[int(share * real.size)]))
        if not curve or becomes > curve[-1][1]:
            curve.append((float(knot), becomes))
    return curve
