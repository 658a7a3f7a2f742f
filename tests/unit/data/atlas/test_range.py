"""Cropped scan ranges: the same patient, higher or lower; facts follow what the volume shows."""

from __future__ import annotations

import numpy as np
import pytest

from ctgen.data.atlas.config import FINDINGS, LONGEST_SCAN_MM, AtlasThoraxConfig
from ctgen.data.atlas.dataset import case_from
from ctgen.data.atlas.deform import RANGE_MARGIN_MM, range_within
from ctgen.data.atlas.facts import LABEL_OF, listed
from ctgen.data.atlas.patient import draw_patient, draw_scanner
from ctgen.data.atlas.reports.parser import parse
from ctgen.data.atlas.scan import _deform, simulate
from ctgen.data.atlas.tissue import load_guides, load_tissue

HEALTHY = dict.fromkeys(FINDINGS, False)
SHORT = AtlasThoraxConfig(size=(40, 84, 84), spacing_mm=(4.5, 4.5, 4.5), cropped=1.0)
"""180 mm: there is room to move in every patient."""
USUAL = SHORT.model_copy(update={"cropped": 0.0})


def atlas_mm() -> float:
    tissue = load_tissue(SHORT.spacing_mm)
    return len(tissue.labels) * tissue.spacing_mm[0]


def test_probability_and_amount() -> None:
    drawn = [draw_scanner(2, index, contrast=0.5, couch=0.5, noise_hu=(6, 22), cropped=0.1).range_mm for index in range(400)]
    moved = [mm for mm in drawn if mm]
    assert len(moved) / 400 == pytest.approx(0.1, abs=0.04)
    assert all(20 <= abs(mm) <= 90 for mm in moved) and {mm > 0 for mm in moved} == {True, False}


def test_it_is_the_same_patient_a_little_higher() -> None:
    person = draw_patient(3, 1)
    plain, _ = _deform(3, 1, USUAL, person, person.heart, 0.0)
    for slices in (-6, 5):
        moved, _ = _deform(3, 1, USUAL, person, person.heart, 0.0, slices * SHORT.spacing_mm[0])
        here, there = (slice(slices, None), slice(None, -slices)) if slices > 0 else (slice(None, slices), slice(-slices, None))
        apart = np.abs(plain.coordinates[:, here] - moved.coordinates[:, there])
        # Both are interpolated from 12 mm grids, which lie elsewhere in the patient.
        assert np.percentile(apart, 99) < 0.6 and np.median(apart) < 0.1


def test_the_range_stays_within_the_atlas() -> None:
    guides = load_guides()
    for index in range(60):
        person = draw_patient(5, index)
        for length in (96.0, 180.0, 240.0, LONGEST_SCAN_MM):
            up, down = (range_within(wanted, person, guides, length, atlas_mm()) for wanted in (90.0, -90.0))
            assert 0 <= up <= 90 and -90 <= down <= 0
            assert range_within(0.0, person, guides, length, atlas_mm()) == 0
            room = (atlas_mm() - 2 * RANGE_MARGIN_MM) * person.height - length
            assert up - down <= max(room, 0) + 0.5 * RANGE_MARGIN_MM + 8
            if length <= 180:
                assert up > 10 and down < -30


def test_no_slice_is_repeated_at_the_end() -> None:
    last = len(load_tissue(SHORT.spacing_mm).labels) - 1
    for index in range(8):
        person = draw_patient(5, index)
        for wanted in (90.0, -90.0):
            moved = range_within(wanted, person, load_guides(), 180.0, atlas_mm())
            scene, _ = _deform(5, index, SHORT, person, person.heart, 0.0, moved)
            inside = scene.coordinates[0][:, 30:54, 30:54]
            assert inside.min() > 0 and inside.max() < last


def test_the_case_says_how_far_and_ends_within_the_lungs() -> None:
    for index in range(6):
        case, whole = (simulate(6, index, config, present=HEALTHY, with_masks=True) for config in (SHORT, USUAL))
        assert case.volume.hu.shape == SHORT.size and whole.scanner.range_mm == 0
        assert 10 < abs(case.scanner.range_mm) <= 90
        lung = [label for label, name in case.names.items() if name.startswith("lung_")]
        end = -1 if case.scanner.range_mm < 0 else 0
        # The end that moved towards the middle of the chest cuts more lung than before, the other end less.
        here, there = (np.isin(each.labels[end], lung).sum() for each in (case, whole))
        assert here > there, case.scanner.range_mm


def test_findings_are_those_that_show() -> None:
    gone = 0
    for index in range(6):
        case = simulate(6, index, SHORT, present=dict.fromkeys(FINDINGS, True), with_masks=True)
        assert case.masks is not None
        for name in FINDINGS:
            shown = name in case.findings
            gone += not shown
            assert shown == (name in case.masks and bool(case.masks[name].any())) or name == "atelectasis", name
            if shown and name == "pleural_effusion":
                assert all(part["size_mm"] > 0 for part in case.findings[name]["parts"])
        made = case_from(case, 6, index, SHORT)
        assert made.report is not None and parse(made.report) == dict(made.labels or {})
        assert {label for label, there in (made.labels or {}).items() if there} == {
            LABEL_OF[row["name"]] for row in listed(case.findings)
        }
    assert gone > 0


def test_what_lies_outside_changes_nothing() -> None:
    """A nodule below or above the range: the volume is that of the patient without it."""
    hidden = 0
    for index in range(24):
        if simulate(6, index, SHORT, present={**HEALTHY, "lung_nodule": True}).findings:
            continue
        hidden += 1
        ill, well = (simulate(6, index, SHORT, present={**HEALTHY, "lung_nodule": there}) for there in (True, False))
        assert (ill.volume.hu == well.volume.hu).all()
        usual = simulate(6, index, USUAL.model_copy(update={"size": (64, 84, 84)}), present={**HEALTHY, "lung_nodule": True})
        assert "lung_nodule" in usual.findings
        if hidden == 2:
            break
    assert hidden
