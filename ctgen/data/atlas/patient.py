"""Who lies in the scanner, and how they are scanned: the numbers that a case's anatomy and image follow from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ctgen.data.atlas.draws import bounded_normal, stream


@dataclass(frozen=True)
class Patient:
    """Anatomy relative to the atlas. Scales are case / atlas; mm and degrees elsewhere."""

    width: float
    depth: float
    height: float
    fat: float
    """Thickness of the layer outside the ribs."""
    rotation_deg: tuple[float, float, float]
    """About the (D, H, W) axes."""
    taper: float
    """The upper chest is wider than the atlas's by this part (log), the lower chest narrower."""
    barrel: float
    """The middle of the chest is deeper by this part (log)."""
    belly: float
    """More fat below the diaphragm (log)."""
    front: float
    """More fat in front than behind (log)."""
    curve_mm: float
    """Scoliosis: amplitude of the lateral curve."""
    curve_phase: float
    curve_length_mm: float
    kyphosis_mm: float
    """How far apex and abdomen lie in front of the middle."""
    second: float
    """0 = the atlas's shape, 1 = that of the second chest."""
    shift_mm: tuple[float, float, float]
    """Where the patient's centre lies off the middle of the field of view, (D, H, W)."""
    diaphragm_mm: float
    """Up is positive: a shallow breath."""
    heart: float
    heart_turn_deg: tuple[float, float]
    """About D (towards the left is positive) and about H (steep or lying)."""
    warp_mm: float
    sway_mm: float
    """Amplitudes of the smooth warps over 52 and over 120 mm."""
    lung_hu: float
    """Added to lung tissue."""
    fat_hu: float
    soft_hu: float
    bone: float
    arms: str
    """"up" (out of the scan) | "down" (beside the body)."""
    age: int
    sex: str


@dataclass(frozen=True)
class Scanner:
    """How the scan is made."""

    contrast: float
    """0 = none; 1 = the atlas's enhancement (aorta about 400 HU)."""
    phase: str
    """"none" | "arterial" | "venous"."""
    kernel: str
    """"soft" | "standard" | "sharp"."""
    noise_hu: float
    """Standard deviation in the middle of the chest; a sharp kernel adds to it."""
    grain: float
    """Correlation length of the noise in voxels."""
    couch: str
    """"none" | "flat" | "cradle" | "double"."""
    slice_mm: float
    """Thickness of a slice; slices overlap where it is more than their distance."""
    circle: bool
    """Only the circle within the field of view is reconstructed; -1024 HU around it."""
    motion_mm: float
    """How far the patient breathed during a part of the scan; mostly 0."""
    streaks: float
    """Strength of streaks beside dense metal; 0 = the scanner corrects them."""
    edge: float = 0.0
    """How much a sharp kernel enhances edges, with overshoot, and makes the noise finer than white; 1 is about a B70f."""
    range_mm: float = 0.0
    """How much higher than usual the scanned range lies; 0 unless it is cropped."""


def draw_patient(seed: int, index: int) -> Patient:
    """Women are shorter, with a narrower chest and more fat in front; with age bone and lung get lighter, the heart larger."""
    rng = stream(seed, index, "patient")
    age = int(rng.integers(20, 89))
    sex = str(rng.choice(["female", "male"]))
    female, years = sex == "female", (age - 55) / 35
    height = float(np.exp(bounded_normal(rng, -0.025 if female else 0.03, 0.045, -0.11, 0.13)))
    wide = bounded_normal(rng, -0.005 if female else 0.08, 0.1, -0.21, 0.28)
    deep = 0.6 * wide - 0.02 + bounded_normal(rng, 0.015 * years, 0.075, -0.15, 0.15)
    fat = float(np.exp(bounded_normal(rng, 0.08 if female else -0.05, 0.36, -0.7, 0.75)))
    twist = (bounded_normal(rng, 0, 3.0, -7, 7), bounded_normal(rng, 0, 1.4, -3.5, 3.5), bounded_normal(rng, 0, 1.7, -4, 4))
    shift = (bounded_normal(rng, 0, 9, -20, 20), bounded_normal(rng, 0, 6, -14, 14), bounded_normal(rng, 0, 6, -14, 14))
    breath = bounded_normal(rng, 0, 13, -26, 26)
    curved = rng.uniform() < 0.12
    return Patient(
        width=float(np.exp(wide)),
        depth=float(np.exp(deep)),
        height=height,
        fat=fat,
        rotation_deg=twist,
        taper=bounded_normal(rng, 0.015 if not female else -0.015, 0.045, -0.1, 0.1),
        barrel=bounded_normal(rng, 0.02 * years, 0.045, -0.1, 0.1),
        belly=bounded_normal(rng, 0.0, 0.22, -0.4, 0.5),
        front=bounded_normal(rng, 0.22 if female else -0.03, 0.15, -0.3, 0.5),
        curve_mm=float(rng.uniform(7, 20) if curved else rng.uniform(0, 4)),
        curve_phase=float(rng.uniform(0, 2 * np.pi)),
        curve_length_mm=float(rng.uniform(260, 420)),
        kyphosis_mm=bounded_normal(rng, 3 + 5 * years, 6, -10, 22),
        second=float(rng.uniform()),
        shift_mm=shift,
        diaphragm_mm=breath,
        heart=float(np.exp(bounded_normal(rng, -0.03 + 0.03 * years, 0.08, -0.24, 0.13))),
        heart_turn_deg=(bounded_normal(rng, 0, 6, -13, 13), bounded_normal(rng, 0, 5, -11, 11)),
        warp_mm=float(rng.uniform(3.0, 5.0)),
        sway_mm=float(rng.uniform(3.0, 6.5)),
        # A shallow breath leaves less air in each litre of lung.
        lung_hu=bounded_normal(rng, 10 - 9 * years + 0.8 * breath, 29, -45, 100),
        fat_hu=bounded_normal(rng, 0, 7, -15, 15),
        soft_hu=bounded_normal(rng, -5 - 3 * years, 6, -18, 10),
        bone=bounded_normal(rng, 0.97 - 0.1 * years - (0.06 if female and age > 55 else 0), 0.13, 0.6, 1.25),
        arms="down" if rng.uniform() < 0.06 else "up",
        age=age,
        sex=sex,
    )


def draw_scanner(
    seed: int,
    index: int,
    *,
    contrast: float,
    couch: float,
    noise_hu: tuple[float, float],
    step_mm: float = 3.0,
    circle: float = 0.0,
    motion: float = 0.0,
    cropped: float = 0.0,
) -> Scanner:
    """``contrast``, ``couch``, ``circle``, ``motion`` and ``cropped`` are probabilities, ``noise_hu`` is a range, ``step_mm``
    from slice to slice. ``range_mm`` comes as drawn: the atlas may allow less of it."""
    rng = stream(seed, index, "scanner")
    enhanced = rng.uniform() < contrast
    strength = float(rng.uniform(0.5, 1.4))
    kernel = str(rng.choice(["soft", "standard", "sharp"], p=[0.35, 0.4, 0.25]))
    noise = float(rng.uniform(*noise_hu))
    shown = rng.uniform() < couch
    model = str(rng.choice(["flat", "cradle", "double"], p=[0.25, 0.4, 0.35]))
    # Power falls with frequency as in the real scans of benchmarks/simulator_realism.py; with a sharp kernel it rises.
    grain = {"soft": 0.58, "standard": 0.42, "sharp": 0.34}[kernel] * float(rng.uniform(0.82, 1.18))
    rng = stream(seed, index, "protocol")
    late, faint = rng.uniform() < 0.45, float(rng.uniform(0.22, 0.4))
    overlap = float(rng.choice([1.0, 1.25, 1.6], p=[0.65, 0.2, 0.15]))
    cut = bool(rng.uniform() < circle)
    breathes, path = rng.uniform() < motion, float(rng.uniform(2.0, 6.0))
    corrected, streaks = rng.uniform() < 0.4, float(rng.uniform(0.5, 1.0))
    edge = float(rng.uniform(0.4, 1.3)) if kernel == "sharp" else 0.0
    rng = stream(seed, index, "range")
    off, higher = rng.uniform() < cropped, float(rng.choice([-1.0, 1.0]) * rng.uniform(20.0, 90.0))
    return Scanner(
        contrast=0.0 if not enhanced else faint if late else strength,
        phase="none" if not enhanced else "venous" if late else "arterial",
        kernel=kernel,
        noise_hu=noise,
        grain=grain,
        couch=model if shown else "none",
        slice_mm=round(step_mm * overlap, 2),
        circle=cut,
        motion_mm=path if breathes else 0.0,
        streaks=0.0 if corrected else streaks,
        edge=edge,
        range_mm=round(higher, 1) if off else 0.0,
    )
