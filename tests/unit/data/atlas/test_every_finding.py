"""What every finding of the registry keeps, whoever wrote it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import ndimage

from ctgen.data.atlas.config import FINDINGS, AtlasThoraxConfig
from ctgen.data.atlas.dataset import AtlasThorax, case_from
from ctgen.data.atlas.facts import LABEL_OF, listed
from ctgen.data.atlas.findings.registry import MODULES, ORDER, PRESSING
from ctgen.data.atlas.reports.parser import parse, statements
from ctgen.data.atlas.reports.registry import DENIERS, TELLERS
from ctgen.data.atlas.scan import Simulated, draw_findings, simulate

HEALTHY = dict.fromkeys(FINDINGS, False)
FIRST = ("pleural_effusion", "cardiomegaly", "lung_nodule", "consolidation", "emphysema")
REACH_MM = {
    "cardiomegaly": 90.0,
    "consolidation": 60.0,
    "emphysema": 130.0,
    "lung_opacity": 45.0,
    "pericardial_effusion": 60.0,
    "medical_material": 40.0,
}
"""How far from its mask a finding may change a voxel; 25 mm for those not named. Emphysema presses the upper abdomen down."""
ALL_OVER_THE_LUNGS = {
    "pleural_effusion",
    "emphysema",
    "mosaic_attenuation_pattern",
    "interlobular_septal_thickening",
    "pulmonary_fibrotic_sequela",
}
"""Effusions press the whole lung; a mosaic's bright lobules are not in its mask; septa haze the lung between them."""


def lungs_of(case: Simulated) -> np.ndarray:
    return np.isin(case.labels, [label for label, name in case.names.items() if name.startswith("lung_")])


def test_registries_agree() -> None:
    assert set(MODULES) == set(FINDINGS) == set(LABEL_OF) == set(DENIERS)
    assert set(TELLERS) == set(FINDINGS)
    assert set(PRESSING) <= set(ORDER)


def test_leaving_findings_out_moves_no_draw(coarse: AtlasThoraxConfig) -> None:
    few = coarse.model_copy(update={"kinds": FIRST})
    for index in range(20):
        present, facts = draw_findings(2, index, few)
        all_present, all_facts = draw_findings(2, index, coarse)
        assert facts == all_facts
        assert all(present[name] == all_present[name] for name in FIRST)
        assert not any(present[name] for name in FINDINGS if name not in FIRST)


@pytest.mark.parametrize("name", FINDINGS)
def test_a_finding_changes_its_place_alone(name: str, coarse: AtlasThoraxConfig) -> None:
    shown = 0
    for index in range(3):
        ill = simulate(5, index, coarse, present={**HEALTHY, name: True}, with_masks=True)
        well = simulate(5, index, coarse, present=HEALTHY, with_masks=True)
        assert not well.findings and not well.masks
        changed = ill.volume.hu != well.volume.hu
        if name not in ill.findings:
            assert not changed.any(), "what does not show is not there"
            continue
        shown += 1
        mask = ill.masks[name]
        assert mask.dtype == bool and mask.shape == ill.volume.hu.shape and mask.any()
        if name != "cardiomegaly":
            assert changed[mask].mean() > 0.9
        place = mask | lungs_of(ill) if name in ALL_OVER_THE_LUNGS else mask
        far = ndimage.distance_transform_edt(~place, sampling=coarse.spacing_mm) > REACH_MM.get(name, 25.0)
        assert not changed[far].any()
        rows = listed(ill.findings)
        json.dumps(rows)
        assert name in {row["name"] for row in rows}
        assert all(row["size"] in ("small", "moderate", "large") for row in rows)
    assert shown >= 2


@pytest.mark.parametrize("name", FINDINGS)
def test_its_report_tells_it_and_nothing_else(name: str, coarse: AtlasThoraxConfig) -> None:
    case = simulate(5, 0, coarse, present={**HEALTHY, name: True})
    truth = {row["label"] for row in listed(case.findings)}
    for index in range(40):
        report = case_from(case, 5, index, coarse).report
        assert report is not None
        assert {label for label, value in parse(report).items() if value} == truth
        assert not [word for word in ("[", "]", "{", "}", "|", "  ", "..", " ,", " .") if word in report.findings]


def test_labels_come_back_from_reports() -> None:
    data = AtlasThorax(AtlasThoraxConfig(cases=90, seed=11, size=(24, 32, 32), spacing_mm=(12.0, 12.0, 12.0)))
    denied = set()
    for case in (data[index] for index in range(len(data))):
        assert case.report is not None and parse(case.report) == dict(case.labels or {})
        denied |= {name for name, there in statements(case.report.findings) if not there}
    assert denied >= set(FINDINGS)


def test_told_and_denied_is_an_error() -> None:
    from ctgen.interfaces import Report

    with pytest.raises(ValueError, match="lung_nodule"):
        parse(Report("A nodule is seen. There is no nodule."))


def test_unknown_findings_are_refused(coarse: AtlasThoraxConfig) -> None:
    with pytest.raises(ValueError, match="not simulated: plague"):
        simulate(0, 0, coarse, present={"plague": True})  # type: ignore[dict-item]


def test_noise_is_the_same_with_and_without(coarse: AtlasThoraxConfig) -> None:
    ill = simulate(5, 1, coarse, present={**HEALTHY, "lung_nodule": True})
    well = simulate(5, 1, coarse, present=HEALTHY)
    assert np.mean(ill.volume.hu == well.volume.hu) > 0.99
