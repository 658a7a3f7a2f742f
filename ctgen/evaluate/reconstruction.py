"""Reconstruction quality: PSNR and SSIM by torchmetrics, mean absolute error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from ctgen.errors import DataError
from ctgen.evaluate.cases import CaseMetric, Rows, mean_of, windowed
from ctgen.evaluate.configs import ReconstructionConfig
from ctgen.interfaces import EvaluationItem

SLICES_AT_A_TIME = 16
SSIM_KERNEL = 11
"""Pixels; torchmetrics' default Gaussian (sigma 1.5) is cut to it."""


class Reconstruction(CaseMetric):
    """Means over cases. PSNR from the squared error over a whole volume; SSIM 2-D, mean over a volume's axial slices."""

    higher_is_better: ClassVar[Mapping[str, bool | None]] = {"psnr_db": True, "ssim": True, "mae_hu": False}
    needs: ClassVar[frozenset[str]] = frozenset({"real", "reconstructed"})
    meanings: ClassVar[Mapping[str, str]] = {
        "psnr_db": "peak signal-to-noise ratio of the autoencoder, dB",
        "ssim": "structural similarity of the autoencoder, axial slices",
        "mae_hu": "mean absolute error of the autoencoder, HU",
    }
    config: ReconstructionConfig

    def measure(self, item: EvaluationItem) -> Rows:
        real = windowed(item, "real", self.config.window_hu)
        made = windowed(item, "reconstructed", self.config.window_hu)
        if real.shape != made.shape:
            raise DataError(f"case {item.id!r}: the reconstruction is {made.shape}, the real volume {real.shape} voxels")
        if min(real.shape[1:]) < SSIM_KERNEL:
            raise DataError(f"case {item.id!r}: SSIM needs slices of at least {SSIM_KERNEL} pixels, these are {real.shape[1:]}")
        low, high = self.config.window_hu
        target, preds = ((torch.from_numpy(hu) - low) / (high - low) for hu in (real, made))
        psnr = peak_signal_noise_ratio(preds, target, data_range=1.0)
        similar = [
            structural_similarity_index_measure(part[:, None], whole[:, None], data_range=1.0, reduction="none").reshape(-1)
            for part, whole in zip(torch.split(preds, SLICES_AT_A_TIME), torch.split(target, SLICES_AT_A_TIME), strict=True)
        ]
        error = float(np.abs(real - made).mean(dtype=np.float64))
        return np.array([psnr.item(), torch.cat(similar).double().mean().item(), error])

    def summarise(self, rows: Rows, counts: NDArray[np.int64]) -> dict[str, float]:
        means = {key: mean_of(rows[:, index], counts) for index, key in enumerate(self.higher_is_better)}
        return {key: value for key, value in means.items() if value is not None}
