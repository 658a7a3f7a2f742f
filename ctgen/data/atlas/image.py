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
    edge = _edge(scanner, spacing_mm)
    if edge > 0:
        for plane in hu:
            plane += 0.55 * edge * (plane - _smooth(_framed(plane, _EDGE), _EDGE))
    elif scanner.kernel == "soft":
        soft = _taps(0.7 * scanner.grain)
        for plane in hu:
            plane[:] = _smooth(_framed(plane, soft), soft)
    _add_noise(hu, build, spacing_mm, scanner, rng)
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


def _taps(sigma: float) -> NDArray[np.float32]:
    """(2 r + 1,) weights of a Gaussian (``sigma`` in voxels) that sum to 1."""
    reach = int(3 * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma, 1e-3)) ** 2)
    return np.asarray(weights / weights.sum(), np.float32)


_EDGE = _taps(0.8)
"""What a sharp kernel takes away, times its ``edge``."""
_EDGE_MM = 1.6
_FINE = _taps(1.2)
"""The same for its noise: it passes little at low frequencies, so that its noise is finer than white."""


def _edge(scanner: Scanner, spacing_mm: Spacing) -> float:
    """``scanner.edge``, of which voxels wider than ``_EDGE_MM`` average a part away."""
    return scanner.edge * min(1.0, _EDGE_MM / (0.5 * (spacing_mm[1] + spacing_mm[2])))


def _framed(plane: NDArray[np.float32], taps: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.pad(plane, len(taps) // 2, mode="edge")


def _smooth(plane: NDArray[np.float32], taps: NDArray[np.float32]) -> NDArray[np.float32]:
    """(H + 2 r, W + 2 r) -> (H, W), by symmetric weights along both axes. Slice by slice all stays in the processor's cache."""
    reach = len(taps) // 2
    for axis in (0, 1):
        turned = plane if axis == 0 else plane.T
        count = len(turned) - 2 * reach
        total = turned[reach : reach + count] * taps[reach]
        for tap in range(reach):
            pair = turned[tap : tap + count] + turned[2 * reach - tap : 2 * reach - tap + count]
            pair *= taps[tap]
            total += pair
        plane = total if axis == 0 else total.T
    return plane


def _add_noise(hu: NDArray[np.float32], build: Build, spacing_mm: Spacing, scanner: Scanner, rng: np.random.Generator) -> None:
    """Correlated in plane by ``scanner.grain`` voxels, between slices where they overlap; more in the middle of the body and in
    wide slices, less in air. Changes ``hu``."""
    grain = _taps(scanner.grain)
    edge = _edge(scanner, spacing_mm)
    fine = min(0.85, 0.8 * edge)
    frame = len(grain) // 2 + (len(_FINE) // 2 if fine else 0)
    # The same weights as a picture: what becomes of one bright voxel tells by how much the variance falls.
    impulse = np.zeros((2 * frame + 1 + 2 * frame,) * 2, np.float32)
    impulse[2 * frame, 2 * frame] = 1
    between = np.exp(-0.5 / (0.35 * max(1.0, scanner.slice_mm / spacing_mm[0])) ** 2) if spacing_mm[0] < 4 else 0.0
    gain = float(np.sqrt((_grained(impulse, grain, fine) ** 2).sum(dtype=np.float64) * (1 + 2 * between**2)))
    # Photons fall off with the path through the body; 70,000 mm2 is a section at heart level.
    slices = np.clip(np.sqrt(build.area_mm2 / 70_000), 0.7, 1.5) * (scanner.noise_hu * (1 + edge) / gain)
    y = (np.arange(hu.shape[1]) - build.centre[0]) / build.half[0]
    x = (np.arange(hu.shape[2]) - build.centre[1]) / build.half[1]
    plane = (0.45 + 0.55 * np.exp(-((y[:, None] ** 2 + x[None, :] ** 2) / 0.7))).astype(np.float32)
    framed = (hu.shape[1] + 2 * frame, hu.shape[2] + 2 * frame)
    before, here = (rng.standard_normal(framed, dtype=np.float32) for _ in range(2))
    for level in range(len(hu)):
        after = rng.standard_normal(framed, dtype=np.float32)
        white = here + np.float32(between) * (before + after) if between else here
        part = _grained(white, grain, fine)
        part *= plane
        part *= np.float32(slices[level])
        hu[level] += part
        before, here = here, after


def _grained(white: NDArray[np.float32], grain: NDArray[np.float32], fine: float) -> NDArray[np.float32]:
    """White noise with a frame -> the kernel's noise without."""
    noise = _smooth(white, grain)
    if not fine:
        return noise
    reach = len(_FINE) // 2
    inner = noise[reach:-reach, reach:-reach]
    return np.asarray(inner - np.float32(fine) * _smooth(noise, _FINE))


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
    drawn = np.flatnonzero((sheet > AIR_HU).any(1))
    rows = slice(int(drawn[0]), int(drawn[-1]) + 1) if len(drawn) else slice(0, 0)
    near = body[:, max(0, rows.start - 1) : rows.stop + 1]
    near = np.pad(near, [(0, 0), (int(rows.start == 0), int(rows.stop == height)), (1, 1)])
    grown = near[:, :-2] | near[:, 1:-1] | near[:, 2:]
    grown = grown[:, :, :-2] | grown[:, :, 1:-1] | grown[:, :, 2:]
    part = hu[:, rows]
    np.maximum(part, sheet[rows].astype(np.float32), out=part, where=~grown)
