"""Emphysema lowers and flattens the diaphragm, and does nothing else below the lungs' surface."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest

from ctgen.data.atlas.config import FINDINGS, AtlasThoraxConfig
from ctgen.data.atlas.dataset import case_from
from ctgen.data.atlas.diaphragm import MOST_MM, UP_MM, flatten, lowered_mm, lowering_mm
from ctgen.data.atlas.patient import draw_patient
from ctgen.data.atlas.reports.emphysema import TOLD_MM
from ctgen.data.atlas.reports.parser import parse
from ctgen.data.atlas.scan import Simulated, _deform, draw_findings, simulate

HEALTHY = dict.fromkeys(FINDINGS, False)
SEED = 7
FINE = AtlasThoraxConfig(size=(96, 100, 110), spacing_mm=(3.0, 3.6, 3.6))


@lru_cache(maxsize=4)
def pair(index: int) -> tuple[Simulated, Simulated]:
    ill = simulate(SEED, index, FINE, present={**HEALTHY, "emphysema": True}, with_masks=True)
    return ill, simulate(SEED, index, FINE, present=HEALTHY, with_masks=True)


def first(severity: str) -> int:
    return next(i for i in range(40) if draw_findings(SEED, i, FINE)[1]["emphysema"]["severity"] == severity)


def structure(case: Simulated, *parts: str) -> np.ndarray:
    return np.isin(case.labels, [label for label, name in case.names.items() if any(part in name for part in parts)])


def top(mask: np.ndarray) -> float:
    """Height in mm of the highest voxels."""
    return float(np.flatnonzero(mask.sum((1, 2)) > 6).max() * FINE.spacing_mm[0])


def test_severe_emphysema_lowers_the_domes_alone() -> None:
    ill, well = pair(first("severe"))
    facts = ill.findings["emphysema"]
    assert 8 <= facts["diaphragm_flattened_mm"] <= 24
    sunk = top(structure(well, "liver")) - top(structure(ill, "liver"))
    assert sunk == pytest.approx(facts["diaphragm_flattened_mm"], abs=2 * FINE.spacing_mm[0])
    lungs, before = structure(ill, "lung_"), structure(well, "lung_")
    assert 1.02 < lungs.sum() / before.sum() < 1.2
    # Flatter, and not just lower: the recess stays where it is.
    base, base_before = (np.argwhere(mask)[:, 0].min() * FINE.spacing_mm[0] for mask in (lungs, before))
    assert abs(base - base_before) <= FINE.spacing_mm[0]
    still = (
        structure(ill, "vertebra", "scapula", "sternum", "clavicula"),
        structure(well, "vertebra", "scapula", "sternum", "clavicula"),
    )
    assert (still[0] != still[1]).sum() < 0.01 * still[1].sum()
    ribs = structure(ill, "rib_"), structure(well, "rib_")
    assert (ribs[0] != ribs[1]).sum() < 0.05 * ribs[1].sum()


def test_mild_emphysema_leaves_it() -> None:
    ill, well = pair(first("mild"))
    assert ill.findings["emphysema"]["diaphragm_flattened_mm"] == 0
    assert (ill.labels == well.labels).all()


def test_more_severe_is_flatter() -> None:
    drawn = [draw_findings(SEED, index, FINE)[1]["emphysema"] for index in range(60)]
    low = {
        kind: [one["diaphragm_flattened_mm"] for one in drawn if one["severity"] == kind]
        for kind in ("mild", "moderate", "severe")
    }
    assert max(low["mild"]) == 0 < 5 <= min(low["moderate"]) <= max(low["moderate"]) <= min(low["severe"])
    assert max(low["severe"]) <= MOST_MM


def test_what_moves_fades_along_the_scan_and_never_folds() -> None:
    axes = (np.arange(0, 332, 3.0), np.arange(0, 340, 10.0), np.arange(0, 470, 10.0))
    points = np.stack(np.meshgrid(*axes, indexing="ij"))
    rise = lowering_mm(points, MOST_MM).astype(float)
    assert rise.min() >= 0 and MOST_MM * 0.9 < rise.max() <= MOST_MM
    assert np.gradient(rise, 3.0, axis=0).min() > -0.7, "one-to-one above -1"
    assert not rise[axes[0] > 165 + UP_MM].any() and not rise[0].any()


@pytest.mark.parametrize(
    "fields", [{"diaphragm_mm": 26.0}, {"diaphragm_mm": -26.0, "second": 1.0}, {"heart": 0.79, "kyphosis_mm": 22.0}]
)
def test_the_map_stays_one_to_one(fields: dict[str, float]) -> None:
    config = AtlasThoraxConfig(size=(60, 80, 90), spacing_mm=(4.8, 5.0, 5.0))
    person = replace(draw_patient(17, 3), **fields)
    for heart in (0.75, 1.85):
        scene, _ = _deform(17, 3, config, person, heart, 0.0)
        assert lowered_mm(scene) == 0
        flatten(scene, MOST_MM)
        slopes = np.stack([np.stack(np.gradient(axis)) for axis in scene.coordinates.astype(float)])
        assert np.linalg.det(np.moveaxis(slopes, (0, 1), (-2, -1))).min() > 0.01
        assert 10 < lowered_mm(scene) < 30


def test_where_emphysema_does_not_show_the_diaphragm_stays() -> None:
    """A short scan of one patient's lung bases only."""
    index = first("severe")
    config = AtlasThoraxConfig(size=(12, 60, 70), spacing_mm=(4.0, 6.0, 6.0))
    person = draw_patient(SEED, index)
    low = replace(person, shift_mm=(100.0, *person.shift_mm[1:]))
    scene, _ = _deform(SEED, index, config, low, person.heart, 0.0)
    from ctgen.data.atlas.findings import emphysema

    before = scene.coordinates.copy()
    assert scene.of_lungs.any() and not emphysema.press(scene, draw_findings(SEED, index, config)[1]["emphysema"])
    assert (scene.coordinates == before).all()


def test_beside_an_effusion_fluid_stays_in_the_chest() -> None:
    index = first("severe")
    both = simulate(SEED, index, FINE, present={**HEALTHY, "emphysema": True, "pleural_effusion": True}, with_masks=True)
    wet = simulate(SEED, index, FINE, present={**HEALTHY, "pleural_effusion": True}, with_masks=True)
    fluid, alone = both.masks["pleural_effusion"], wet.masks["pleural_effusion"]
    assert (fluid & structure(both, "lung_")).sum() == fluid.sum()
    assert 0.8 < fluid.sum() / alone.sum() < 1.3
    assert both.findings["emphysema"]["diaphragm_flattened_mm"] > 5
    assert np.median(both.volume.hu[fluid]) < 45 and np.median(both.volume.hu[fluid]) > -30


def test_some_reports_tell_it() -> None:
    ill, _ = pair(first("severe"))
    assert ill.findings["emphysema"]["diaphragm_flattened_mm"] >= TOLD_MM
    texts = []
    for index in range(60):
        report = case_from(ill, SEED, index, FINE).report
        assert report is not None and [name for name, value in parse(report).items() if value] == ["Emphysema"]
        texts.append(report.findings.lower())
        assert not ("hemidiaphragms are" in texts[-1] or "contours of the diaphragm" in texts[-1])
    told = ["flattening of" in text or "flattened diaphragm" in text for text in texts]
    assert 0.3 < np.mean(told) < 0.9
