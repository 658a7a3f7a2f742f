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
    artefact_rng: np.random.Generator,
) -> NDArray[np.int16]:
    """(D, H, W) tissue HU -> int16 HU as a scanner gives them, in [-1024, 3071]; ``hu`` may be changed."""
    _couch(hu, body, spacing_mm, scanner, rng)
    if scanner.streaks > 0:
        _streaks(hu, spacing_mm, scanner.streaks, artefact_rng.standard_normal(12))
    if scanner.motion_mm > 0:
        _breathe(hu, spacing_mm, scanner.motion_mm, artefact_rng)
    if scanner.slice_mm > spacing_mm[0]:
        # The atlas was averaged over the distance of the slices already.
        sigma = 0.42 * np.sqrt(scanner.slice_mm**2 - spacing_mm[0] ** 2) / spacing_mm[0]
        hu = np.asarray(ndimage.gaussian_filter1d(hu, sigma, axis=0, truncate=3.0))
    if scanner.kernel == "sharp":
        hu += 0.45 * (hu - _in_plane(hu, 0.8))
    elif scanner.kernel == "soft":
        hu = _in_plane(hu, 0.5)
    hu += _noise(hu.shape, build, spacing_mm, scanner, rng)
    out = np.clip(np.rint(hu), -1024, 3071).astype(np.int16)
    if scanner.circle:
        out[:, _outside_circle(hu.shape[1:], spacing_mm[1:])] = -1024
    return out


METAL_HU = 2500.0
STREAKS_MM = 24.0
"""Streaks end here: a finding that brings metal changes nothing far away."""


def _outside_circle(shape: tuple[int, ...], spacing_mm: tuple[float, ...]) -> NDArray[np.bool_]:
    y, x = ((np.arange(count) - (count - 1) / 2) * step for count, step in zip(shape, spacing_mm, strict=True))
    reach = min(count * step for count, step in zip(shape, spacing_mm, strict=True)) / 2
    return np.asarray(y[:, None] ** 2 + x[None, :] ** 2 > reach**2)


def _streaks(hu: NDArray[np.float32], spacing_mm: Spacing, strength: float, waves: Array) -> None:
    """Dark and bright rays in plane from each piece of metal, stronger from larger ones; changes ``hu``."""
    metal = hu > METAL_HU
    for level in np.flatnonzero(metal.any((1, 2))):
        pieces, count = ndimage.label(metal[level], np.ones((3, 3), bool))
        before = hu[level].copy()
        for piece, (row, column) in enumerate(ndimage.center_of_mass(metal[level], pieces, range(1, count + 1)), start=1):
            area = float((pieces == piece).sum()) * spacing_mm[1] * spacing_mm[2]
            reach = [int(STREAKS_MM / step) for step in spacing_mm[1:]]
            rows = slice(max(0, int(row) - reach[0]), int(row) + reach[0] + 1)
            columns = slice(max(0, int(column) - reach[1]), int(column) + reach[1] + 1)
            y = (np.arange(hu.shape[1])[rows, None] - row) * spacing_mm[1]
            x = (np.arange(hu.shape[2])[None, columns] - column) * spacing_mm[2]
            far, angle = np.sqrt(y**2 + x**2), np.arctan2(y, x)
            rays = sum(
                wave * np.cos(order * angle + 2.4 * order) for order, wave in zip((2, 3, 4, 6, 9, 13), waves[:6], strict=True)
            )
            fade = np.clip(1 - far / STREAKS_MM, 0, 1) * np.exp(-far / 14.0)
            # Each piece lies between others: its rays cross tissue, not its own metal.
            part = strength * min(60.0 * np.sqrt(area), 320.0) * rays * fade * ~metal[level][rows, columns]
            hu[level][rows, columns] += part.astype(np.float32)
        np.maximum(hu[level], -1024, out=hu[level], where=hu[level] < before)


def _breathe(hu: NDArray[np.float32], spacing_mm: Spacing, path_mm: float, rng: np.random.Generator) -> None:
    """Double contours in a band of slices: the mean of two places of the chest wall; changes ``hu``."""
    depth = hu.shape[0]
    middle, half = rng.uniform(0.2, 0.8) * depth, rng.uniform(14, 32) / spacing_mm[0]
    for level in range(max(0, int(middle - half)), min(depth, int(middle + half) + 1)):
        move = path_mm / 2 / spacing_mm[1] * (0.5 + 0.5 * np.cos(np.pi * (level - middle) / half))
        back, front = (ndimage.shift(hu[level], (way * move, 0.0), order=1, mode="nearest") for way in (1, -1))
        hu[level] = 0.5 * (back + front)


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
