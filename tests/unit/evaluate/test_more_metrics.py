"""Diversity, memorisation, HU realism, drift and cost see what they are for."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from ctgen.errors import DataError
from ctgen.evaluate.configs import ContinuityConfig, CostConfig
from ctgen.evaluate.continuity import Continuity, block_distances, blocks, slope
from ctgen.evaluate.cost import Cost
from ctgen.evaluate.diversity import Diversity, ms_ssim
from ctgen.evaluate.driver import evaluate
from ctgen.evaluate.feature_configs import DiversityConfig, HuRealismConfig, MemorisationConfig
from ctgen.evaluate.hu_realism import HuRealism, spectrum_slope, tissue_numbers
from ctgen.evaluate.memorisation import Memorisation
from ctgen.interfaces import EvaluationItem
from ctgen.testing import phantom
from ctgen.volume import Volume

from .toys import Toy, items, noise, store

SIZE, SPACING = (12, 32, 32), (5.0, 8.0, 8.0)


def patient(seed):
    return phantom(SIZE, SPACING, seed=seed)


def changed(volume, change):
    return Volume(change(volume.hu.astype(np.float32)), volume.affine)


def memorised(made):
    """Training patients 500 .. 511; held out 0 .. 7."""
    bank = store()
    reference = [
        EvaluationItem(f"train{k}", real=patient(k), features=bank.bank({"real": patient(k)})) for k in range(500, 512)
    ]
    metrics = {"memory": Memorisation(MemorisationConfig(features="toy"))}
    return evaluate(items(bank, 8, real=patient, made=made), metrics, reference=lambda: reference, resamples=50)


def test_memorisation_flags_copies_by_id_and_spares_others():
    copies = memorised(lambda k: changed(patient(500 + k), lambda hu: hu + 0.1))
    assert copies.values["memory"]["copies_fraction"].value == 1.0
    assert copies.values["memory"]["copies_fraction_real"].value == 0.0
    assert copies.extra["memory"]["flagged"]["case03"]["training_case"] == "train503"
    assert copies.protocol["reference_cases"] == 12
    fresh = memorised(lambda k: patient(100 + k))
    assert fresh.values["memory"]["copies_fraction"].value == 0.0 and fresh.extra["memory"]["flagged"] == {}
    assert 0.3 < fresh.values["memory"]["distance_ratio"].value < 3


def test_memorisation_without_training_cases_says_nothing_and_refuses_other_ones():
    metric = Memorisation(MemorisationConfig(features="toy"))
    for item in items(store(), 3):
        metric.update(item)
    assert metric.compute() == {}
    first, second = (Memorisation(MemorisationConfig(features="toy")) for _ in range(2))
    for place, part in enumerate((first, second)):
        part.fit(next(items(store(), 1, real=lambda k, place=place: patient(place))))
    second.training["another"] = second.training["case00"]
    with pytest.raises(DataError, match="different training"):
        first.merge(second)


def scored_diversity(made, count=8, **config):
    metric = Diversity(DiversityConfig(features="toy", slices=3, pixels=24, **config))
    return evaluate(items(store(), count, real=patient, made=made), {"d": metric}, resamples=20).values["d"]


def test_diversity_sees_one_patient_again_and_again():
    varied = scored_diversity(lambda k: patient(100 + k))
    same = scored_diversity(lambda k: changed(patient(100), lambda hu: hu + k * 0.01))
    assert same["ms_ssim"].value > 0.99 > varied["ms_ssim"].value
    assert varied["ms_ssim"].value == pytest.approx(varied["ms_ssim_real"].value, abs=0.15)
    assert varied["coverage"].value > same["coverage"].value
    real = scored_diversity(patient)
    assert real["coverage"].value == 1.0 and real["density"].value >= 1.0


def test_spread_within_one_report():
    metric = Diversity(DiversityConfig(features="toy", slices=2, pixels=24))
    bank = store()
    for k in range(6):
        volume = changed(patient(k // 2), lambda hu, k=k: hu + k % 2)
        item = EvaluationItem(f"c{k}", generated=volume, features=bank.bank({"generated": volume}), group=f"report {k // 2}")
        metric.update(item)
    found = metric.compute()
    assert 0 < found["spread_within_report"] < 0.3
    assert "ms_ssim_real" not in found


def test_ms_ssim_of_equal_and_of_unlike_pictures():
    one = np.random.default_rng(0).random((2, 48, 48))
    assert ms_ssim(one, one) == pytest.approx(1.0)
    assert ms_ssim(one, 1 - one) < 0.2
    assert np.isnan(ms_ssim(one, one * np.nan))


def test_hu_realism_is_nothing_for_equal_volumes_and_grows_with_a_shift():
    errors = []
    for shift in (0.0, 5.0, 15.0):
        metric = HuRealism(HuRealismConfig())
        for k in range(3):
            metric.update(EvaluationItem(f"c{k}", real=patient(k), generated=changed(patient(k), lambda hu, s=shift: hu + s)))
        found = metric.compute()
        errors.append(found["mean_error_hu.water"])
    assert errors[0] == 0.0 and errors[1] == pytest.approx(5, abs=0.3) and errors[2] == pytest.approx(15, abs=0.5)
    shares = tissue_numbers(patient(0).hu.astype(np.float32))[:, 0]
    assert (shares[[0, 1, 3, 4]] > 0).all() and shares.sum() <= 1


def test_the_spectrum_tells_noise_from_blur():
    white = np.random.default_rng(0).normal(0, 20, (6, 64, 64)).astype(np.float32)
    assert spectrum_slope(white) == pytest.approx(0.0, abs=0.2)
    slopes = [spectrum_slope(gaussian_filter(white, (0, s, s))) for s in (0.0, 0.5, 0.8, 1.1)]
    assert all(sharper > blurred + 0.5 for sharper, blurred in pairwise(slopes))


def test_drift_is_the_rise_from_block_to_block():
    real = np.random.default_rng(0).normal(0, 100, (32, 16, 16)).astype(np.float32)
    starts = (8, 16, 24)
    made = real.copy()
    for number, part in enumerate(blocks(starts, 32)):
        made[part] += 15.0 * number
    assert block_distances(made, real, starts) == pytest.approx([0, 15, 30, 45], abs=0.5)
    assert slope([1.0, 3.0, 5.0]) == pytest.approx(2.0)
    metric = Continuity(ContinuityConfig())
    canonical = [Volume.canonical(hu, SPACING) for hu in (real, made)]
    metric.update(EvaluationItem("a", real=canonical[0], generated=canonical[1], boundaries=starts))
    assert metric.compute()["drift_hu_per_block"] == pytest.approx(15, abs=0.3)
    assert len(metric.extra()["hu_distance_by_block"]["a"]) == 4
    assert blocks((), 5) == [slice(0, 5)]


def test_cost_tells_evaluations_and_memory_where_they_are_known():
    metric = Cost(CostConfig())
    base = EvaluationItem("a", generated=noise(1), seconds=2.0)
    metric.update(replace(base, evaluations=10, peak_bytes=3_000_000))
    metric.update(replace(base, id="b", evaluations=20))
    assert metric.compute() == {
        "seconds_per_volume": 2.0, "seconds_per_slice": 0.25, "evaluations_per_volume": 15.0, "peak_mb": 3.0,
    }  # fmt: skip
    plain = Cost(CostConfig())
    plain.update(base)
    assert plain.compute() == {"seconds_per_volume": 2.0, "seconds_per_slice": 0.25}


def test_extractors_are_part_of_the_protocol():
    bank = store(toy=Toy())
    result = evaluate(items(bank, 3), {"cost": Cost(CostConfig())}, extractors=bank.describe())
    assert result.protocol["extractors"]["toy"]["width"] == 5
    assert "extractors" not in evaluate(items(bank, 3), {"cost": Cost(CostConfig())}).protocol
