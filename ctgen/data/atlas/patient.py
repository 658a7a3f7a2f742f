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
    shift_mm: tuple[float, float, float]
    """Where the patient's centre lies off the middle of the field of view, (D, H, W)."""
    diaphragm_mm: float
    """Up is positive: a shallow breath."""
    heart: float
    warp_mm: float
    lung_hu: float
    """Added to lung tissue."""
    fat_hu: float
    soft_hu: float
    bone: float
    age: int
    sex: str


@dataclass(frozen=True)
class Scanner:
    """How the scan is made."""

    contrast: float
    """0 = none; 1 = the atlas's enhancement (aorta about 400 HU)."""
    kernel: str
    """"soft" | "standard" | "sharp"."""
    noise_hu: float
    grain: float
    """Correlation length of the noise in voxels."""
    couch: str
    """"none" | "flat" | "cradle" | "double"."""


def draw_patient(seed: int, index: int) -> Patient:
    rng = stream(seed, index, "patient")
    width = float(np.exp(bounded_normal(rng, 0.03, 0.07, -0.13, 0.17)))
    depth = width * float(np.exp(bounded_normal(rng, 0.0, 0.06, -0.13, 0.13)))
    height = float(np.exp(bounded_normal(rng, 0.0, 0.06, -0.11, 0.12)))
    fat = float(np.exp(bounded_normal(rng, 0.0, 0.3, -0.55, 0.6)))
    twist = (bounded_normal(rng, 0, 2.5, -6, 6), bounded_normal(rng, 0, 1.2, -3, 3), bounded_normal(rng, 0, 1.5, -4, 4))
    shift = (bounded_normal(rng, 0, 7, -14, 14), bounded_normal(rng, 0, 6, -14, 14), bounded_normal(rng, 0, 6, -14, 14))
    return Patient(
        width=width,
        depth=depth,
        height=height,
        fat=fat,
        rotation_deg=twist,
        shift_mm=shift,
        diaphragm_mm=bounded_normal(rng, 0, 10, -18, 20),
        heart=float(np.exp(bounded_normal(rng, -0.02, 0.05, -0.12, 0.07))),
        warp_mm=float(rng.uniform(3.5, 6.5)),
        lung_hu=bounded_normal(rng, 5, 25, -40, 65),
        fat_hu=bounded_normal(rng, 0, 4, -8, 8),
        soft_hu=bounded_normal(rng, 0, 4, -8, 8),
        bone=bounded_normal(rng, 0.95, 0.14, 0.65, 1.2),
        age=int(rng.integers(24, 88)),
        sex=str(rng.choice(["female", "male"])),
    )


def draw_scanner(seed: int, index: int, *, contrast: float, couch: float, noise_hu: tuple[float, float]) -> Scanner:
    """``contrast`` and ``couch`` are probabilities, ``noise_hu`` a range."""
    rng = stream(seed, index, "scanner")
    enhanced = rng.uniform() < contrast
    strength = float(rng.uniform(0.4, 1.05))
    kernel = str(rng.choice(["soft", "standard", "sharp"], p=[0.35, 0.4, 0.25]))
    noise = float(rng.uniform(*noise_hu)) * (1.25 if kernel == "sharp" else 1.0)
    shown = rng.uniform() < couch
    model = str(rng.choice(["flat", "cradle", "double"], p=[0.25, 0.4, 0.35]))
    grain = {"soft": 0.8, "standard": 0.62, "sharp": 0.45}[kernel] * float(rng.uniform(0.9, 1.1))
    return Scanner(strength if enhanced else 0.0, kernel, noise, grain, model if shown else "none")
