"""How ``atlas-thorax`` compares with real scans: ``python benchmarks/simulator_realism.py FOLDER [--cases 3] [--people 200]``.

FOLDER holds chest CT as NIfTI. Per scan, and for cases simulated at its spacing: HU of tissues (peaks and medians that need
no labels), slope of the noise power spectrum in plane, difference from slice to slice. Then how much people differ
(coefficient of variation over ``--people`` seeds), and MS-SSIM between random pairs and between the same patient with and
without a consolidation.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
from pathlib import Path

import numpy as np
from scipy import ndimage

from ctgen.data.atlas.config import FINDINGS, AtlasThoraxConfig
from ctgen.data.atlas.draws import stream
from ctgen.data.atlas.patient import draw_patient
from ctgen.data.atlas.scan import _deform, simulate
from ctgen.volume.io import read_volume

HEALTHY = dict.fromkeys(FINDINGS, False)


def body_of(hu: np.ndarray) -> np.ndarray:
    """The largest piece denser than fat, filled slice by slice."""
    pieces, _ = ndimage.label(ndimage.binary_opening(hu > -300, iterations=2))
    core = pieces == np.bincount(pieces[pieces > 0]).argmax()
    return np.stack([ndimage.binary_fill_holes(ndimage.binary_closing(plane, iterations=2)) for plane in core])


def peak(values: np.ndarray, low: float, high: float) -> float:
    """The most frequent HU within a window, of a smoothed histogram."""
    counts, edges = np.histogram(values, np.arange(low, high + 1, 4.0))
    return float(edges[ndimage.gaussian_filter1d(counts.astype(float), 2.0).argmax()] + 2)


def tissues(hu: np.ndarray) -> dict[str, float]:
    body = body_of(hu)
    inside = ndimage.binary_erosion(body, iterations=2)
    lung = ndimage.binary_erosion(inside & (hu < -500) & (hu > -975), np.ones((1, 3, 3)), iterations=2)
    values = hu[inside]
    windpipe = hu[inside & (hu < -975)]
    return {
        "airways": float(np.median(windpipe)) if len(windpipe) > 50 else np.nan,
        "lung": float(np.median(hu[lung])) if lung.sum() > 500 else np.nan,
        "fat": peak(values, -160, -40),
        "muscle": peak(values, 0, 100),
        "bright": float(np.median(values[values > 200])) if (values > 200).sum() > 200 else np.nan,
    }


def noise_slope(hu: np.ndarray, side: int = 16) -> float:
    """Slope of log power over log frequency, 0.1 to 0.45 cycles per voxel, in the flattest soft-tissue squares."""
    squares = []
    for plane in hu[:: max(1, hu.shape[0] // 24)].astype(float):
        for y in range(0, plane.shape[0] - side, side // 2):
            for x in range(0, plane.shape[1] - side, side // 2):
                part = plane[y : y + side, x : x + side]
                if part.min() > -200 and part.max() < 260:
                    squares.append(part)
    if len(squares) < 20:
        return float("nan")
    stack = np.stack(squares)
    grid = np.linspace(-1, 1, side)
    for along in (grid[:, None] + 0 * grid, grid + 0 * grid[:, None], grid[:, None] * grid, grid[:, None] ** 2 + 0 * grid):
        along = along - along.mean()
        stack = stack - stack.mean((1, 2), keepdims=True)
        stack = stack - (stack * along).sum((1, 2), keepdims=True) / (along**2).sum() * along
    flat = stack[np.argsort(stack.std((1, 2)))[: max(20, len(stack) // 8)]]
    window = np.hanning(side)[:, None] * np.hanning(side)
    power = (np.abs(np.fft.fft2(flat * window)) ** 2).mean(0)
    radius = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side))
    use = (radius > 0.1) & (radius < 0.45)
    return float(np.polyfit(np.log(radius[use]), np.log(power[use]), 1)[0])


def slice_difference(hu: np.ndarray) -> float:
    """Mean absolute HU between neighbouring slices, in the body."""
    body = body_of(hu)
    both = body[1:] & body[:-1]
    return float(np.abs(np.diff(hu.astype(np.float32), axis=0))[both].mean())


def row(name: str, values: list[dict[str, float]]) -> str:
    keys = values[0]
    cells = [np.array([value[key] for value in values], float) for key in keys]
    return f"{name[:44]:44s}" + "".join(f"{np.nanmean(cell) if not np.isnan(cell).all() else np.nan:10.2f}" for cell in cells)


def measures(hu: np.ndarray) -> dict[str, float]:
    hu = np.maximum(hu, -1024)
    return {**tissues(hu), "nps slope": noise_slope(hu), "slices": slice_difference(hu)}


def compare(folder: Path, cases: int) -> None:
    first = True
    for path in sorted(folder.glob("*.nii.gz")):
        volume = read_volume(path)
        real = measures(np.asarray(volume.hu))
        if first:
            print(f"{'':44s}" + "".join(f"{key:>10s}" for key in real))
            first = False
        print(row(path.name.removesuffix(".nii.gz"), [real]))
        spacing = volume.spacing_mm
        size = tuple(
            max(8, min(n, int(reach / step))) for n, step, reach in zip(volume.shape, spacing, (285, 380, 380), strict=True)
        )
        config = AtlasThoraxConfig(size=size, spacing_mm=spacing, prevalence=0.0, circle=0.0)
        made = [measures(simulate(0, index, config).volume.hu) for index in range(cases)]
        print(row(f"  simulated, {spacing[0]:.2g} x {spacing[1]:.2g} mm", made))


def people(count: int) -> None:
    """Volume of the lungs, width of heart and body: of the whole patient, not of what a field of view shows."""
    step = 6.0
    config = AtlasThoraxConfig(size=(48, 96, 104), spacing_mm=(step, step, step))
    sizes: dict[str, list[float]] = {"lung volume (l)": [], "heart width (mm)": [], "body width (mm)": []}
    for index in range(count):
        patient = draw_patient(0, index)
        scene, _ = _deform(0, index, config, patient, patient.heart, 0.0)
        heart = scene.of("heart", "atrial_app")
        level = int(np.argwhere(heart)[:, 0].mean())
        sizes["lung volume (l)"].append(scene.of("lung_").sum() * step**3 / 1e6)
        sizes["heart width (mm)"].append(float(np.ptp(np.flatnonzero(heart.any((0, 1))))) * step)
        sizes["body width (mm)"].append(float(np.ptp(np.flatnonzero((scene.labels[level] > 0).any(0)))) * step)
    for name, values in sizes.items():
        spread = np.std(values) / np.mean(values)
        print(f"{name}: {np.mean(values):.3g} ({np.min(values):.3g} ... {np.max(values):.3g}), CV {spread:.1%}")


def ms_ssim(one: np.ndarray, two: np.ndarray, scales: int = 3) -> float:
    """Over 3 scales, window of 2 voxels' deviation, HU in [-1000, 400]."""
    a, b = (np.clip((hu.astype(np.float32) + 1000) / 1400, 0, 1) for hu in (one, two))
    total = 1.0
    for scale in range(scales):
        blur = lambda array: ndimage.gaussian_filter(array, 1.5)  # noqa: E731
        mean_a, mean_b = blur(a), blur(b)
        var_a, var_b, both = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2, blur(a * b) - mean_a * mean_b
        structure = (2 * both + 0.0009) / (var_a + var_b + 0.0009)
        light = (2 * mean_a * mean_b + 0.0001) / (mean_a**2 + mean_b**2 + 0.0001)
        value = float((structure * (light if scale == scales - 1 else 1)).mean())
        total *= max(value, 1e-6) ** (1 / scales)
        a, b = a[::2, ::2, ::2], b[::2, ::2, ::2]
    return total


def pairs(count: int) -> None:
    config = AtlasThoraxConfig(size=(64, 84, 84), spacing_mm=(4.5, 4.5, 4.5))
    well = [simulate(0, index, config, present=HEALTHY).volume.hu for index in range(count)]
    ill = [simulate(0, index, config, present={**HEALTHY, "consolidation": True}).volume.hu for index in range(count)]
    rng = stream(0, 0, "presence", 1)
    chosen = [rng.choice(count, 2, replace=False) for _ in range(2 * count)]
    random = [ms_ssim(well[a], well[b]) for a, b in chosen]
    same = [ms_ssim(a, b) for a, b in zip(well, ill, strict=True)]
    print(f"MS-SSIM: random pairs {np.mean(random):.3f} (at most {np.max(random):.3f}), ", end="")
    print(f"with and without a consolidation {np.mean(same):.3f} (at least {np.min(same):.3f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="real scans; without it only the simulated people are compared")
    parser.add_argument("--cases", type=int, default=3, help="simulated per scan")
    parser.add_argument("--people", type=int, default=200)
    parser.add_argument("--pairs", type=int, default=12)
    given = parser.parse_args()
    if given.folder is not None:
        compare(given.folder, given.cases)
    people(given.people)
    pairs(given.pairs)


if __name__ == "__main__":
    main()
