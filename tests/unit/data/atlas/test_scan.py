from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest
from scipy import ndimage

from ctgen.data.atlas.config import FINDINGS, AtlasThoraxConfig
from ctgen.data.atlas.scan import Simulated, draw_findings, simulate

SEED = 4
HEALTHY = dict.fromkeys(FINDINGS, False)


def pair(name: str, index: int, config: AtlasThoraxConfig) -> tuple[Simulated, Simulated]:
    """The same patient with only ``name``, and with nothing."""
    return (
        simulate(SEED, index, config, present={**HEALTHY, name: True}, with_masks=True),
        simulate(SEED, index, config, present=HEALTHY, with_masks=True),
    )


def spread(mask: np.ndarray, mm: float, config: AtlasThoraxConfig) -> np.ndarray:
    return ndimage.distance_transform_edt(~mask, sampling=config.spacing_mm) <= mm


def lungs(case: Simulated, *parts: str) -> np.ndarray:
    return np.isin(
        case.labels, [label for label, name in case.names.items() if all(part in name for part in ("lung_", *parts))]
    )


def test_same_case_in_another_process(coarse: AtlasThoraxConfig) -> None:
    code = (
        "import hashlib\n"
        "from ctgen.data.atlas.config import AtlasThoraxConfig\n"
        "from ctgen.data.atlas.dataset import AtlasThorax\n"
        "case = AtlasThorax(AtlasThoraxConfig(cases=9, seed=4, size=(64, 84, 84), spacing_mm=(4.5, 4.5, 4.5)))[1]\n"
        "print(hashlib.sha256(case.volume.hu.tobytes() + case.report.findings.encode()).hexdigest())"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    from ctgen.data.atlas.dataset import case_from

    case = case_from(simulate(SEED, 1, coarse), SEED, 1, coarse)
    assert case.volume.hu.dtype == np.int16
    assert hashlib.sha256(case.volume.hu.tobytes() + case.report.findings.encode()).hexdigest() == other


def test_seeds_and_indices_are_different_people(coarse: AtlasThoraxConfig) -> None:
    cases = [simulate(seed, index, coarse, present=HEALTHY) for seed, index in [(0, 0), (0, 1), (1, 0), (1, 1), (2, 5)]]
    body = [(case.volume.hu > -500).sum() for case in cases]
    for first in range(len(cases)):
        for second in range(first):
            apart = np.abs(cases[first].volume.hu.astype(float) - cases[second].volume.hu).mean()
            assert apart > 60, "mean absolute HU difference"
    assert np.std(body) / np.mean(body) > 0.05


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("name", ["lung_nodule", "consolidation"])
def test_dense_findings_change_only_their_place(name: str, index: int, coarse: AtlasThoraxConfig) -> None:
    ill, well = pair(name, index, coarse.model_copy(update={"nodule_kinds": ("solid",)}))
    mask = ill.masks[name]
    change = ill.volume.hu.astype(float) - well.volume.hu
    assert change[mask].mean() > 400
    assert not change[~spread(mask, 60 if name == "consolidation" else 25, coarse)].any()
    # A nodule of two voxels is partial volume all through.
    typical = np.percentile(ill.volume.hu[mask], 90 if name == "lung_nodule" else 50)
    assert -110 < typical < 110


@pytest.mark.parametrize("index", [1, 2, 3])
def test_effusion_is_fluid_at_the_back_of_its_side(index: int, coarse: AtlasThoraxConfig) -> None:
    ill, well = pair("pleural_effusion", index, coarse)
    facts, mask = ill.findings["pleural_effusion"], ill.masks["pleural_effusion"]
    assert facts["kind"] == "free", "loculated ones are in test_loculated.py"
    sides = {part["side"] for part in facts["parts"]}
    assert -15 < np.percentile(ill.volume.hu[mask], 75) < 45, "a thin layer is partial volume at its edges"
    assert well.volume.hu[mask].mean() < -600
    for side in ("left", "right"):
        there = mask & lungs(well, side)
        assert there.any() == (side in sides)
        if there.any():
            assert np.argwhere(there)[:, 1].mean() > np.argwhere(lungs(well, side))[:, 1].mean() + 3
            assert np.argwhere(there)[:, 0].mean() < np.argwhere(lungs(well, side))[:, 0].mean()
    dry = ~spread(lungs(well, "left") if "left" in sides else lungs(well, "right"), 30, coarse)
    if len(sides) == 1:
        assert not (ill.volume.hu != well.volume.hu)[dry].any()


def test_cardiomegaly_enlarges_the_heart_alone(coarse: AtlasThoraxConfig) -> None:
    for index in range(3):
        ill, well = pair("cardiomegaly", index, coarse)
        assert ill.cardiothoracic_ratio > 0.5 > well.cardiothoracic_ratio
        heart = [label for label, name in ill.names.items() if name == "heart"]
        grown = np.isin(ill.labels, heart).sum() / np.isin(well.labels, heart).sum()
        assert grown > 1.3
        # The heart's pull ends 45 mm from the atlas's heart, which the widest patient is 1.6 times as large as; slices overlap.
        assert not (ill.volume.hu != well.volume.hu)[~spread(ill.masks["cardiomegaly"], 90, coarse)].any()


@pytest.mark.parametrize("index", [0, 1, 2])
def test_emphysema_thins_the_upper_lungs(index: int, coarse: AtlasThoraxConfig) -> None:
    ill, well = pair("emphysema", index, coarse)
    mask = ill.masks["emphysema"]
    assert np.median(ill.volume.hu[mask]) < -920
    assert (ill.volume.hu[mask].astype(float) - well.volume.hu[mask]).mean() < -40
    assert np.argwhere(mask)[:, 0].mean() > np.argwhere(lungs(well))[:, 0].mean() + 3
    # The upper abdomen gives way to a diaphragm that is pressed down.
    assert not (ill.volume.hu != well.volume.hu)[~spread(lungs(well), 105, coarse)].any()
    level = np.flatnonzero(lungs(well).any((1, 2)))[-1]
    assert not (ill.volume.hu != well.volume.hu)[level - 20 :][~spread(lungs(well), 20, coarse)[level - 20 :]].any()


def test_nodules_lie_in_their_lobe_and_have_their_size(coarse: AtlasThoraxConfig) -> None:
    for index in range(6):
        case = simulate(SEED, index, coarse, present={**HEALTHY, "lung_nodule": True}, with_masks=True)
        pieces, count = ndimage.label(case.masks["lung_nodule"], np.ones((3, 3, 3)))
        nodules = case.findings["lung_nodule"]["nodules"]
        assert count == len(nodules)
        by_size = sorted(range(1, count + 1), key=lambda piece: -(pieces == piece).sum())
        for nodule, piece in zip(nodules, by_size, strict=True):
            inside = pieces == piece
            lobe = lungs(case, nodule["lobe"])
            assert (inside & lobe).sum() > 0.6 * inside.sum()
            diameter = 2 * (0.75 / np.pi * inside.sum() * np.prod(coarse.spacing_mm)) ** (1 / 3)
            assert 0.5 * nodule["size_mm"] < diameter < 1.2 * nodule["size_mm"]


def test_facts_do_not_depend_on_presence(coarse: AtlasThoraxConfig) -> None:
    _, facts = draw_findings(0, 3, coarse)
    none, same = draw_findings(0, 3, coarse.model_copy(update={"prevalence": 0.0}))
    assert facts == same and not any(none.values())


def test_prevalence_is_kept() -> None:
    config = AtlasThoraxConfig(findings={"emphysema": 0.8}, prevalence=0.2)
    present = [draw_findings(9, index, config)[0] for index in range(300)]
    share = {name: np.mean([case[name] for case in present]) for name in FINDINGS}
    assert share.pop("emphysema") == pytest.approx(0.8, abs=0.08)
    assert all(value == pytest.approx(0.2, abs=0.08) for value in share.values())
