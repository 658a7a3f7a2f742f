"""Small CT-like volumes in memory."""

from __future__ import annotations

import numpy as np

from ctgen.volume import Volume


def phantom(
    size: tuple[int, int, int] = (12, 32, 32), spacing_mm: tuple[float, float, float] = (5.0, 8.0, 8.0), seed: int = 0
) -> Volume:
    """A body of soft tissue with two lungs, a spine and noise, in int16 HU; another seed is another patient."""
    random = np.random.Generator(np.random.PCG64(seed))
    wide, tall, lung = random.uniform((0.75, 0.6, 0.3), (0.95, 0.8, 0.4))
    d, h, w = np.meshgrid(*(np.linspace(-1, 1, count) for count in size), indexing="ij")
    hu = np.full(size, -1000.0)
    hu[(w / wide) ** 2 + (h / tall) ** 2 < 1] = 40.0
    for side in (-1, 1):
        hu[((w - side * 0.42 * wide) / lung) ** 2 + (h / (0.7 * tall)) ** 2 + (d / 0.95) ** 2 < 1] = -830.0
    hu[(w / 0.1) ** 2 + ((h - 0.62 * tall) / 0.12) ** 2 < 1] = 350.0
    hu += random.normal(0.0, 12.0, size)
    return Volume.canonical(hu.clip(-1024, 1500).round().astype(np.int16), spacing_mm, (-120.5, -118.25, -301.75))
