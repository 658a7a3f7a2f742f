"""How ``atlas-thorax`` compares with real scans: ``python benchmarks/simulator_realism.py FOLDER [--cases 8] [--people 200]``.

FOLDER holds chest CT as NIfTI. Per scan: what ``scan_measures.py`` measures (without labels, the same on both sides), and mean
and range of the same over ``--cases`` simulated people at its spacing; of a scan without lung, over the lowest 9 cm of theirs.
Each has another scanner, whose kernel and contrast are of the real scan's kind: the kernel by the slope of the noise's
spectrum, the contrast by the blood (any, where no blood can be measured). Then, per measure, for how many scans they agree, and
for which not; how much people differ (coefficient of variation over ``--people`` seeds), and MS-SSIM between random pairs and
between the same patient with and without a consolidation. ``-o`` writes a table in Markdown.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
from collections.abc import Iterator
from itertools import count as count_from
from pathlib import Path

import numpy as np
from scan_measures import measures
from scipy import ndimage

from ctgen.data.atlas.config import FINDINGS, AtlasThoraxConfig
from ctgen.data.atlas.dataset import SIMULATOR
from ctgen.data.atlas.draws import stream
from ctgen.data.atlas.patient import draw_patient, draw_scanner
from ctgen.data.atlas.scan import _deform, simulate
from ctgen.volume.io import read_volume
from ctgen.volume.orient import to_canonical

HEALTHY = dict.fromkeys(FINDINGS, False)
ORGANS = ("air", "lung", "fat", "muscle", "blood", "liver", "bone")
FACTOR = 1.5
OCTAVES = np.log(0.45 / 0.1) / 2
"""Half the band in which the slope of the noise is found, as a logarithm."""


HEAD = """# Real scans and simulated ones

Medians and peaks of tissues in HU, slope of the noise's power spectrum in plane, mean difference from slice to slice in the
body (HU); `benchmarks/scan_measures.py` says how each is found without labels, in real and simulated scans alike. Below each
real scan: {cases} simulated people at its spacing, with scanners whose kernel and contrast are of its kind; where a scan shows
no lung, the lowest 9 cm of them. nan: the scan does not show it. A factor of 1.5 in the noise's power is a difference of 0.54
in slope: the power then differs by no more than that anywhere in the band.
`python benchmarks/simulator_realism.py FOLDER -o FILE`, simulator {simulator}.

```
"""


def kernel_of(slope: float) -> str:
    return "sharp" if slope > 0 else "standard" if slope > -1.3 else "soft"


def phase_of(blood: float) -> str | None:
    return None if np.isnan(blood) else "none" if blood < 75 else "venous" if blood < 200 else "arterial"


def alike(config: AtlasThoraxConfig, kernel: str, phase: str | None) -> Iterator[int]:
    """Cases whose scanner has this kernel and phase."""
    for index in count_from():
        scanner = draw_scanner(
            0, index, contrast=config.contrast, couch=config.table, noise_hu=config.noise_hu, step_mm=config.spacing_mm[0],
            circle=config.circle, motion=config.motion,
        )  # fmt: skip
        if scanner.kernel == kernel and phase in (None, scanner.phase):
            yield index


def row(name: str, values: dict[str, float], digits: int = 1) -> str:
    return f"{name[:44]:44s}" + "".join(f"{value:10.{2 if key == 'nps slope' else digits}f}" for key, value in values.items())


def agrees(key: str, real: float, made: float) -> bool:
    """Within the factor, over all of the band for the noise's power."""
    if key == "nps slope":
        return abs(real - made) * OCTAVES <= np.log(FACTOR)
    return bool(1 / FACTOR <= real / made <= FACTOR)


def compare(folder: Path, cases: int) -> list[str]:
    """Lines of the table and of what follows from it."""
    lines: list[str] = []
    names: list[str] = []
    reals, means, lows, highs = [], [], [], []
    for path in sorted(folder.glob("*.nii.gz")):
        volume, _ = to_canonical(read_volume(path))
        spacing = volume.spacing_mm
        real = measures(np.asarray(volume.hu), spacing)
        shape = volume.shape
        kept = slice(None)
        if np.isnan(real["lung"]):
            # The abdomen: the lowest slices of a whole chest.
            kept = slice(0, min(shape[0], int(90 / spacing[0])))
            shape = (10_000, *shape[1:])
        size = tuple(max(8, min(n, int(reach / step))) for n, step, reach in zip(shape, spacing, (285, 380, 380), strict=True))
        config = AtlasThoraxConfig(size=size, spacing_mm=spacing, prevalence=0.0, circle=0.0)
        kernel, phase = kernel_of(real["nps slope"]), phase_of(real["blood"])
        chosen = alike(config, kernel, phase)
        made = [measures(np.asarray(simulate(0, next(chosen), config).volume.hu)[kept], spacing) for _ in range(cases)]
        table = {key: np.array([one[key] for one in made]) for key in real}
        shown = {key: values[~np.isnan(values)] for key, values in table.items()}
        mean, low, high = (
            {key: float(of(values)) if len(values) else float("nan") for key, values in shown.items()}
            for of in (np.mean, lambda values: np.percentile(values, 5), lambda values: np.percentile(values, 95))
        )
        if not names:
            lines.append(f"{'':44s}" + "".join(f"{key:>10s}" for key in real))
        names.append(path.name.removesuffix(".nii.gz"))
        lines += [
            row(names[-1], real),
            row(f"  simulated, {spacing[0]:.2g} x {spacing[1]:.2g} mm, {kernel}, {phase or 'any phase'}", mean),
            row("  5 %", low),
            row("  95 %", high),
        ]
        print("\n".join(lines[-4:]), flush=True)
        for found, value in zip((reals, means, lows, highs), (real, mean, low, high), strict=True):
            found.append(value)
    return [*lines, "", *verdicts(names, reals, means, lows, highs)]


def verdicts(
    names: list[str],
    reals: list[dict[str, float]],
    means: list[dict[str, float]],
    lows: list[dict[str, float]],
    highs: list[dict[str, float]],
) -> list[str]:
    """A line per measure: for how many of the scans that show it, and the names of the others."""
    lines = []
    for key in reals[0]:
        both = [at for at in range(len(names)) if not np.isnan(reals[at][key]) and not np.isnan(means[at][key])]
        spread = [real[key] for real in reals if not np.isnan(real[key])]
        covered = [at for at in both if lows[at][key] <= reals[at][key] <= highs[at][key]]
        if key in ORGANS:
            near = [at for at in both if min(spread) <= means[at][key] <= max(spread)]
            text = "simulated mean within the spread of the real scans"
        else:
            near = [at for at in both if agrees(key, reals[at][key], means[at][key])]
            text = f"simulated mean within a factor of {FACTOR}"
        for title, met in ((text, near), ("real value within 5 to 95 % of the simulated", covered)):
            others = [names[at] for at in both if at not in met]
            lines.append(f"{key}: {title}: {len(met)} of {len(both)}" + (f"; not {', '.join(others)}" if others else ""))
    return lines


def people(count: int) -> list[str]:
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
    lines = []
    for name, values in sizes.items():
        spread = np.std(values) / np.mean(values)
        lines.append(f"{name}: {np.mean(values):.3g} ({np.min(values):.3g} ... {np.max(values):.3g}), CV {spread:.1%}")
    return lines


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


def pairs(count: int) -> str:
    config = AtlasThoraxConfig(size=(64, 84, 84), spacing_mm=(4.5, 4.5, 4.5))
    well = [simulate(0, index, config, present=HEALTHY).volume.hu for index in range(count)]
    ill = [simulate(0, index, config, present={**HEALTHY, "consolidation": True}).volume.hu for index in range(count)]
    rng = stream(0, 0, "presence", 1)
    chosen = [rng.choice(count, 2, replace=False) for _ in range(2 * count)]
    random = [ms_ssim(well[a], well[b]) for a, b in chosen]
    same = [ms_ssim(a, b) for a, b in zip(well, ill, strict=True)]
    return (
        f"MS-SSIM: random pairs {np.mean(random):.3f} (at most {np.max(random):.3f}), "
        f"with and without a consolidation {np.mean(same):.3f} (at least {np.min(same):.3f})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="real scans; without it only the simulated people are compared")
    parser.add_argument("--cases", type=int, default=8, help="simulated per scan")
    parser.add_argument("--people", type=int, default=200)
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("-o", "--out", type=Path, help="a file in Markdown")
    given = parser.parse_args()
    lines = compare(given.folder, given.cases) if given.folder is not None else []
    lines += ["", *people(given.people), pairs(given.pairs)]
    print("\n".join(lines))
    if given.out is not None:
        given.out.write_text(HEAD.format(cases=given.cases, simulator=SIMULATOR) + "\n".join(lines) + "\n```\n")


if __name__ == "__main__":
    main()
