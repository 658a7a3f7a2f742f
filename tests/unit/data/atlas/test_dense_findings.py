"""Calcium and metal: how dense, where, and whether facts and sentences say so."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from ctgen.data.atlas.config import FINDINGS, AtlasThoraxConfig
from ctgen.data.atlas.draws import stream
from ctgen.data.atlas.facts import LABEL_OF
from ctgen.data.atlas.findings import arterial_wall_calcification, coronary_artery_wall_calcification, medical_material
from ctgen.data.atlas.findings.vessels import arterial_wall, coronaries, curve
from ctgen.data.atlas.grammar import Speaker
from ctgen.data.atlas.patient import draw_patient, draw_scanner
from ctgen.data.atlas.reports.compose import write_report
from ctgen.data.atlas.reports.parser import parse
from ctgen.data.atlas.scan import Simulated, draw_findings, simulate

HEALTHY = dict.fromkeys(FINDINGS, False)
SEED = 33
CALCIUM = ("arterial_wall_calcification", "coronary_artery_wall_calcification")
MODULES = (arterial_wall_calcification, coronary_artery_wall_calcification, medical_material)


def shown(name: str, index: int) -> tuple[Simulated, np.ndarray]:
    case = simulate(SEED, index, AtlasThoraxConfig(), present={**HEALTHY, name: True}, with_masks=True)
    assert case.masks is not None and name in case.findings
    return case, case.masks[name]


def from_structure(case: Simulated, *parts: str) -> np.ndarray:
    """Distance in mm of each voxel."""
    inside = np.isin(case.labels, [label for label, name in case.names.items() if any(part in name for part in parts)])
    return np.asarray(ndimage.distance_transform_edt(~inside, sampling=(3.0, 3.0, 3.0)))


def first(name: str, **facts: str) -> int:
    for index in range(200):
        drawn = draw_findings(SEED, index, AtlasThoraxConfig())[1][name]
        if all(drawn[key] == value for key, value in facts.items()):
            return index
    raise AssertionError(f"no case has {facts}")


def with_kind(kind: str) -> int:
    for index in range(200):
        items = draw_findings(SEED, index, AtlasThoraxConfig())[1]["medical_material"]["items"]
        if [item["kind"] for item in items] == [kind]:
            return index
    raise AssertionError(f"no case has {kind} alone")


@pytest.mark.parametrize("name", CALCIUM)
def test_calcium_is_dense_and_grows_with_severity(name: str) -> None:
    volumes = []
    for severity in ("mild", "moderate", "marked"):
        case, mask = shown(name, first(name, severity=severity))
        volumes.append(mask.sum())
        values = case.volume.hu[mask]
        assert 150 < np.median(values) < 1000 and np.quantile(values, 0.95) > 350
        near = (
            ("aorta", "carotid", "subclavian", "brachiocephalic_trunk") if name == CALCIUM[0] else ("heart", "aorta", "atrial")
        )
        away = from_structure(case, *near)[mask]
        assert np.median(away) < 8 and away.max() < 25
        facts = case.findings[name]
        assert sum(part["number"] for part in facts["parts"]) >= ndimage.label(mask, np.ones((3, 3, 3)))[1] - 1
    assert volumes[0] < volumes[1] < volumes[2]


def test_courses_of_the_coronary_arteries() -> None:
    courses = coronaries()
    centre = np.mean([course.mean(0) for course in courses.values()], 0)
    assert set(courses) == {"LAD", "LCX", "RCA"}
    assert courses["LAD"][-1, 2] > centre[2] > courses["RCA"][:, 2].mean(), "left is right of the middle of the image"
    assert courses["LAD"][:, 1].mean() < courses["LCX"][:, 1].mean(), "in front"
    for course in courses.values():
        assert np.sqrt(((course[1:] - course[:-1]) ** 2).sum(1)).max() < 3.5
        assert course[0, 0] > course[-1, 0]


def test_curve_passes_its_points() -> None:
    points = np.array([[0.0, 0, 0], [0, 10, 0], [10, 10, 0]])
    line = curve(points, 1.0)
    for point in points:
        assert np.abs(line - point).sum(1).min() < 1e-9


def test_arterial_wall_is_between_lumen_and_tissue() -> None:
    wall = arterial_wall()
    assert {name for name, points in wall.points.items() if len(points) > 200} == {"arch", "descending", "branches"}
    assert wall.distance_mm.min() < -8 and wall.distance_mm.max() > 20
    assert wall.points["branches"][:, 0].mean() > wall.points["arch"][:, 0].mean() > wall.points["descending"][:, 0].mean()


@pytest.mark.parametrize(
    ("kind", "least"), [("port", 2000), ("pacemaker", 2900), ("sternal_wires", 1200), ("coronary_stent", 600)]
)
def test_metal_is_brighter_than_bone(kind: str, least: float) -> None:
    case, mask = shown("medical_material", with_kind(kind))
    values = case.volume.hu[mask]
    assert np.quantile(values, 0.97) > least and case.volume.hu.max() <= 3071
    item = case.findings["medical_material"]["items"][0]
    assert item["kind"] == kind
    if kind in ("port", "pacemaker"):
        # The densest part is the device in the chest wall; the image's left half is the patient's right.
        chest = np.argwhere((case.volume.hu > 2000) & mask)
        lung = np.argwhere(from_structure(case, "lung_") == 0)
        assert (np.median(chest[:, 2]) < lung[:, 2].mean()) == (item["side"] == "right")
    if kind == "sternal_wires":
        assert np.quantile(from_structure(case, "sternum", "costal")[mask], 0.95) < 10
        assert item["wires"] >= 4
    if kind == "pacemaker":
        assert (from_structure(case, "heart")[mask] == 0).any(), "leads end in the heart"
    if kind == "coronary_stent":
        assert from_structure(case, "heart", "aorta")[mask].max() < 12


def test_a_central_line_runs_in_the_vena_cava() -> None:
    case, mask = shown("medical_material", with_kind("central_line"))
    assert (from_structure(case, "vena_cava", "brachiocephalic_vein")[mask] < 4).mean() > 0.5


def test_every_sentence_is_read_back() -> None:
    """Facts of many cases, told without painting them."""
    texts = set()
    for index in range(300):
        _, drawn = draw_findings(SEED, index, AtlasThoraxConfig())
        rows = []
        for number, module in enumerate(MODULES):
            facts = dict(drawn[module.NAME])
            facts["parts"] = [{"segment": key, "number": 3} for key in facts.get("segments", ())]
            facts["parts"] += [{"vessel": key, "number": 3} for key in facts.get("vessels", ())]
            rows += module.rows(facts) if index % 7 != number else []
        report = write_report(
            [{"label": LABEL_OF[row["name"]], **row} for row in rows],
            patient=draw_patient(SEED, index),
            scanner=draw_scanner(SEED, index, contrast=0.5, couch=1.0, noise_hu=(5, 20)),
            ratio=0.44,
            slice_mm=3.0,
            speaker=Speaker(stream(SEED, index, "report")),
        )
        assert {label for label, value in parse(report).items() if value} == {LABEL_OF[row["name"]] for row in rows}
        for row in rows:
            if "vessel" in row and row["name"] == CALCIUM[1]:
                long = {"LAD": "anterior descending", "LCX": "circumflex", "RCA": "right coronary"}[row["vessel"]]
                assert any(word in report.findings for word in (row["vessel"], long, "Left anterior", "Right coronary"))
        assert not [word for word in ("[", "]", "{", "}", "|", "  ", "..", " ,", " .") if word in report.findings]
        texts.add(report.findings)
    assert len(texts) == 300
