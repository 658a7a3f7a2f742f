"""From tissue to a CT image: couch, reconstruction kernel, noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ctgen.data.atlas.patient import Scanner
from ctgen.data.atlas.tissue import AIR_HU

Array = NDArray[Any]
Spacing = tuple[float, float, float]


@dataclass(frozen=True)
class Build:
    """How much body the rays cross; from the patient alone, so that a finding changes no noise elsewhere."""

    area_mm2: NDArray[np.float64]
    """(D,) of the body's section."""
    centre: tuple[float, float]
    """Voxels (H, W)."""
    half: tuple[float, float]
    """Half axes in voxels (H, W)."""


def finish(
    hu: NDArray[np.float32],
    body: NDArray[np.bool_],
    build: Build,
    spacing_mm: Spacing,
    scanner: Scanner,
    rng: np.random.Generator,
) -> NDArray[np.int16]:
    """(D, H, W) tissue HU -> int16 HU as a scanner gives them, in [-1024, 3071]."""
    _couch(hu, body, spacing_mm, scanner, rng)
    if scanner.kernel == "sharp":
        hu += 0.45 * (hu - _in_plane(hu, 0.8))
    elif scanner.kernel == "soft":
        hu = _in_plane(hu, 0.5)
    hu += _noise(hu.shape, build, spacing_mm, scanner, rng)
    return np.clip(np.rint(hu), -1024, 3071).astype(np.int16)


def _in_plane(hu: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    return np.asarray(ndimage.gaussian_filter(hu, (0, sigma, sigma), truncate=3.0))


def _noise(shape: tuple[int, ...], build: Build, spacing_mm: Spacing, scanner: Scanner, rng: np.random.Generator) -> Array:
    """Correlated in plane by ``scanner.grain`` voxels; more in the middle of the body and in wide slices, less in air."""
    sigma = (0.35 if spacing_mm[0] < 4 else 0.0, scanner.grain, scanner.grain)
    noise = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), sigma, truncate=3.0, mode="wrap")
    impulse = np.zeros((9, 17, 17), np.float32)
    impulse[4, 8, 8] = 1
    gain = float(np.sqrt((ndimage.gaussian_filter(impulse, sigma, truncate=3.0) ** 2).sum(dtype=np.float64)))
    if scanner.kernel == "sharp":
        # A sharp kernel passes little at low frequencies: its noise is finer than white.
        noise -= 0.5 * _in_plane(noise, 1.2)
    # Photons fall off with the path through the body; 70,000 mm2 is a section at heart level.
    slices = np.clip(np.sqrt(build.area_mm2 / 70_000), 0.7, 1.5)
    y = (np.arange(shape[1]) - build.centre[0]) / build.half[0]
    x = (np.arange(shape[2]) - build.centre[1]) / build.half[1]
    plane = 0.45 + 0.55 * np.exp(-((y[:, None] ** 2 + x[None, :] ** 2) / 0.7))
    noise *= (scanner.noise_hu / gain * slices).astype(np.float32)[:, None, None]
    noise *= plane.astype(np.float32)
    return np.asarray(noise)


def _couch(
    hu: NDArray[np.float32], body: NDArray[np.bool_], spacing_mm: Spacing, scanner: Scanner, rng: np.random.Generator
) -> None:
    """Draw the couch behind the body, the same in every slice; thin shells thinner than a voxel keep their mass."""
    gap, rise, thick = rng.uniform(3, 9), rng.uniform(0.2, 0.45), rng.uniform(1.2, 2.4)
    if scanner.couch == "none":
        return
    depth = np.flatnonzero(body.sum((0, 2)) > 0.04 * body.shape[0] * body.shape[2])
    if not len(depth):
        return
    height, width = hu.shape[1:]
    back = depth[-1] * spacing_mm[1] + gap
    y = np.arange(height)[:, None] * spacing_mm[1]
    x = (np.arange(width)[None, :] - (width - 1) / 2) * spacing_mm[2]
    bend = 0.0 if scanner.couch == "flat" else rise / 250
    top = back - bend * x**2 + (bend * 60**2)
    lower = back + 28 - 0.6 * bend * x**2
    sheet = np.full((height, width), float(AIR_HU))
    if scanner.couch != "cradle":
        sheet = np.where((y > top) & (y < lower) & (np.abs(x) < 205), AIR_HU + 35.0, sheet)
    lines = [(top, 210.0)] + ([(lower, 200.0)] if scanner.couch != "cradle" else [])
    for line, reach in lines:
        spread = max(thick, spacing_mm[1] * 0.6)
        profile = np.exp(-0.5 * ((y - line) / (0.5 * spread)) ** 2) * (np.abs(x) < reach)
        sheet += 620.0 * thick / spread * profile
    grown = ndimage.binary_dilation(body, np.ones((1, 3, 3), bool))
    np.copyto(hu, np.maximum(hu, sheet.astype(np.float32)), where=~grown)
