from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torchmetrics.image import StructuralSimilarityIndexMeasure

from ctgen.errors import DataError
from ctgen.evaluate.configs import ReconstructionConfig
from ctgen.evaluate.reconstruction import Reconstruction
from ctgen.interfaces import EvaluationItem
from ctgen.volume import Volume


def volume(hu):
    return Volume.canonical(np.asarray(hu, np.float32), (3.0, 3.0, 3.0))


def noise(seed, shape=(20, 16, 24), scale=300.0):
    return np.random.default_rng(seed).normal(0, scale, shape).astype(np.float32)


def scored(real, made, case_id="a"):
    metric = Reconstruction(ReconstructionConfig())
    metric.update(EvaluationItem(case_id, real=volume(real), reconstructed=volume(made)))
    return metric.compute()


def test_psnr_and_error_of_a_constant_offset_in_closed_form():
    found = scored(np.zeros((4, 16, 16)), np.full((4, 16, 16), 20.0))
    assert found["psnr_db"] == pytest.approx(20 * math.log10(2000 / 20), rel=1e-6)
    assert found["mae_hu"] == pytest.approx(20.0)


def test_ssim_is_torchmetrics_own_over_axial_slices():
    real, made = noise(0), noise(0) + noise(1, scale=80.0)
    reference = StructuralSimilarityIndexMeasure(data_range=1.0)
    to_unit = lambda hu: (torch.from_numpy(hu).clamp(-1000, 1000) + 1000)[:, None] / 2000  # noqa: E731
    reference.update(to_unit(made), to_unit(real))
    assert scored(real, made)["ssim"] == pytest.approx(reference.compute().item(), abs=1e-6)


def test_what_lies_outside_the_window_does_not_count():
    real, made = np.full((4, 16, 16), 1500.0), np.full((4, 16, 16), 3000.0)
    assert scored(real, made) == {"psnr_db": math.inf, "ssim": pytest.approx(1.0), "mae_hu": 0.0}


def test_two_parts_merge_to_the_whole():
    items = [EvaluationItem(str(k), real=volume(noise(k)), reconstructed=volume(noise(k) + 10 * k + 1)) for k in range(4)]
    whole, left, right = (Reconstruction(ReconstructionConfig()) for _ in range(3))
    for item in items:
        whole.update(item)
    for part, chosen in ((left, items[2:]), (right, items[:2])):
        for item in chosen:
            part.update(item)
    left.merge(right)
    assert left.compute() == whole.compute()
    with pytest.raises(DataError, match="both parts"):
        left.merge(right)


def test_other_shapes_small_slices_and_nan_are_refused():
    with pytest.raises(DataError, match=r"\(4, 16, 16\).*\(5, 16, 16\)"):
        scored(np.zeros((5, 16, 16)), np.zeros((4, 16, 16)))
    with pytest.raises(DataError, match="at least 11"):
        scored(np.zeros((5, 16, 8)), np.zeros((5, 16, 8)))
    broken = np.zeros((5, 16, 16))
    broken[0, 0, :2] = np.nan
    with pytest.raises(DataError, match="2 voxels of the reconstructed"):
        scored(np.zeros((5, 16, 16)), broken)
