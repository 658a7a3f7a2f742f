"""Display windows in HU."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctgen.errors import ConfigError, did_you_mean

WINDOWS: dict[str, tuple[float, float]] = {
    "wide": (-1000.0, 1000.0),
    "lung": (-1350.0, 150.0),
    "soft": (-160.0, 240.0),
    "bone": (-450.0, 1050.0),
}
"""Name -> (HU shown black, HU shown white)."""


def to_unit(hu: NDArray[Any], window: str | tuple[float, float]) -> NDArray[np.float32]:
    """``hu`` clipped to the window and scaled to 0..1 float32. ``window``: a name of WINDOWS or (low, high) HU."""
    if isinstance(window, str):
        if window not in WINDOWS:
            raise ConfigError(
                f"no window named {window!r}", hint=f"{did_you_mean(window, WINDOWS)} known: {', '.join(WINDOWS)}".strip()
            )
        window = WINDOWS[window]
    low, high = window
    if not low < high:
        raise ConfigError(f"a window needs low < high, not {low:g}..{high:g} HU")
    unit = (np.asarray(hu, np.float32) - np.float32(low)) / np.float32(high - low)
    return np.clip(unit, 0.0, 1.0, out=unit)


def from_unit(unit: NDArray[Any], window: tuple[float, float]) -> NDArray[np.float32]:
    """The inverse of to_unit inside the window."""
    low, high = window
    return np.asarray(unit, np.float32) * np.float32(high - low) + np.float32(low)
