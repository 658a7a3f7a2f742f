"""Loculated pleural effusions: lenses where adhesions hold them, and nothing where gravity would draw them."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
from scipy import ndimage

from ctgen.data.atlas.config import FINDINGS, AtlasThoraxConfig
from ctgen.data.atlas.dataset import case_from
from ctgen.data.atlas.facts import listed
from ctgen.data.atlas.findings.loculated import PLACES, middle
from ctgen.data.atlas.findings.pleural_effusion import LOCULATED, wet_mm
from ctgen.data.atlas.findings.scene import Facts
from ctgen.data.atlas.reports.parser import parse
from ctgen.data.atlas.scan import Simulated, draw_findings, simulate
from ctgen.data.atlas.tissue import load_guides

HEALTHY = dict.fromkeys(FINDINGS, False)
SEED = 7
FINE = AtlasThoraxConfig(size=(96, 100, 110), spacing_mm=(3.0, 3.6, 3.6))


@lru_cache(maxsize=1)
def drawn() -> list[Facts]:
    return [draw_findings(SEED, index, FINE)[1]["pleural_effusion"] for index in range(300)]


def cases(place: str, count: int = 2) -> list[int]:
    return [index for index, facts in enumerate(drawn()) if facts["parts"][0].get("place") == place][:count]


@lru_cache(maxsize=4)
def pair(index: int) -> tuple[Simulated, Simulated]:
    ill = simulate(SEED, index, FINE, present={**HEALTHY, "pleural_effusion": True}, with_masks=True)
    return ill, simulate(SEED, index, FINE, present=HEALTHY, with_masks=True)


def structure(case: Simulated, *parts: str) -> np.ndarray:
    return np.isin(case.labels, [label for label, name in case.names.items() if any(part in name for part in parts)])


def test_about_one_in_seven_is_loculated() -> None:
    kinds = [facts["kind"] for facts in drawn()]
    assert np.mean([kind == "loculated" for kind in kinds]) == pytest.approx(LOCULATED, abs=0.06)
    for facts in drawn():
        if facts["kind"] == "loculated":
            assert len(facts["parts"]) == 1 and facts["side"] == facts["parts"][0]["side"] and not facts["collapse"]
            assert facts["parts"][0]["place"] in PLACES
        else:
            assert not any("place" in part for part in facts["parts"])
    assert {facts["parts"][0].get("place") for facts in drawn()} == {*PLACES, None}


@pytest.mark.parametrize("place", PLACES)
def test_a_lens_lies_at_its_place(place: str) -> None:
    for index in cases(place):
        ill, well = pair(index)
        facts, mask = ill.findings["pleural_effusion"], ill.masks["pleural_effusion"]
        part = facts["parts"][0]
        assert (mask & structure(ill, f"lobe_{part['side']}")).sum() == mask.sum() > 20
        assert -10 < np.percentile(ill.volume.hu[mask], 75) < 50
        assert well.volume.hu[mask].mean() < -550
        assert ndimage.label(mask, np.ones((3, 3, 3)))[1] == 1, "one collection"
        assert "atelectasis" not in ill.masks
        # Convex: between two of its points is fluid. The crescent of a free effusion has lung there.
        points = np.argwhere(mask)
        rng = np.random.default_rng(0)
        halves = (points[rng.integers(len(points), size=400)] + points[rng.integers(len(points), size=400)]) // 2
        assert mask[tuple(halves.T)].mean() > 0.8
        lung = structure(well, f"lobe_{part['side']}")
        span = np.argwhere(lung)
        share = (points.mean(0) - span.min(0)) / np.ptp(span, axis=0)
        assert 0.2 < share[0] < 0.85, "not at the base"
        depth = ndimage.distance_transform_edt(ndimage.binary_closing(lung, iterations=3), sampling=FINE.spacing_mm)
        if place == "major fissure":
            lower = structure(ill, f"lower_lobe_{part['side']}")
            assert 0.15 < (mask & lower).sum() / mask.sum() < 0.85, "in both lobes"
            assert depth[mask].max() > 12
        else:
            assert depth[mask].min() < 5
            axis, far = (
                (1, share[1]) if place == "posterior wall" else (2, 1 - share[2] if part["side"] == "right" else share[2])
            )
            assert far > 0.6, axis


def test_lung_aside_stays_as_it_was() -> None:
    for place in PLACES:
        ill, well = pair(cases(place, 1)[0])
        other = {"left": "right", "right": "left"}[ill.findings["pleural_effusion"]["side"]]
        # Overlapping slices blur along D alone, so the other side keeps every bit.
        inner = ndimage.binary_erosion(structure(well, f"lobe_{other}"), iterations=2)
        assert not (ill.volume.hu != well.volume.hu)[inner].any()


def test_free_effusions_are_as_before() -> None:
    for index, facts in enumerate(drawn()[:40]):
        if facts["kind"] == "free":
            row = listed({"pleural_effusion": {**facts, "parts": [{**facts["parts"][0], "size_mm": 9}]}})[0]
            assert row["kind"] == "free" and "place" not in row, index


def test_nodules_keep_out_of_the_fissure_that_holds_fluid() -> None:
    facts = drawn()[cases("major fissure", 1)[0]]
    part, guides = facts["parts"][0], load_guides()
    centre = middle(part, guides)[:, None]
    away = centre + np.array([0.0, 0.0, 0.0, 90.0]).reshape(1, 4) * np.array([[1.0], [0.0], [0.0]])
    wet = wet_mm(away, np.full(4, 30.0), facts, part["side"], guides)
    assert (wet[:3] == 30.0).all() and wet[3] == 0
    other = {"left": "right", "right": "left"}[part["side"]]
    assert not wet_mm(away, np.full(4, 30.0), facts, other, guides).any()


def test_reports_tell_it() -> None:
    for place in PLACES:
        index = cases(place, 1)[0]
        ill, _ = pair(index)
        for number in range(25):
            report = case_from(ill, SEED, number, FINE).report
            assert report is not None
            text = report.findings.lower()
            assert "loculated" in text and place.split()[0].replace("major", "fissure") in text
            assert [name for name, value in parse(report).items() if value] == ["Pleural effusion"]
    free = next(index for index, facts in enumerate(drawn()) if facts["kind"] == "free" and facts["side"] == "left")
    case, _ = pair(free)
    texts = [case_from(case, SEED, number, FINE).report.findings.lower() for number in range(60)]  # type: ignore[union-attr]
    assert not any("loculated" in text for text in texts)
    assert 2 < sum(" free " in text.replace("free of", "") for text in texts) < 40
