"""Configs of the built-in metrics. Imports no torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from ctgen.config import ComponentConfig


def _rising(window: tuple[float, float]) -> tuple[float, float]:
    if not window[0] < window[1]:
        raise ValueError(f"a window needs low < high, not {window[0]:g} .. {window[1]:g} HU")
    return window


WindowHu = Annotated[tuple[float, float], AfterValidator(_rising)]


class ReconstructionConfig(ComponentConfig):
    """PSNR, SSIM and mean absolute error of reconstructed against real volumes."""

    window_hu: WindowHu = (-1000.0, 1000.0)
    """Both volumes are clipped to it; its width is the data range of PSNR and SSIM."""


class ContinuityConfig(ComponentConfig):
    """How far the seams between blocks stand out among the differences of neighbouring slices."""

    window_hu: WindowHu = (-1000.0, 1000.0)
    """Volumes are clipped to it first, so that metal counts no more than dense bone."""


class HuHistogramConfig(ComponentConfig):
    """Distances between the pooled HU histograms of real and generated volumes."""

    window_hu: WindowHu = (-1000.0, 1000.0)
    """Volumes are clipped to it first."""
    bin_hu: Annotated[float, Field(gt=0, le=100)] = 5.0
    """Bin width; HU are rounded to the nearest multiple above the window's lower end."""


class CostConfig(ComponentConfig):
    """Wall-clock time of generation."""
