"""Patients differ, and the map from a case to the atlas is one-to-one for all of them."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest

from ctgen.data.atlas.arms import lay_arms
from ctgen.data.atlas.config import AtlasThoraxConfig
from ctgen.data.atlas.deform import coordinates
from ctgen.data.atlas.findings import pleural_effusion
from ctgen.data.atlas.findings.scene import Scene
from ctgen.data.atlas.patient import Patient, draw_patient
from ctgen.data.atlas.scan import _deform, draw_findings
from ctgen.data.atlas.second_shape import load_second_shape
from ctgen.data.atlas.tissue import load_guides, load_tissue

WIDE = AtlasThoraxConfig(size=(36, 72, 78), spacing_mm=(8.0, 8.0, 8.0))
"""More than the patient is wide."""
EXTREME = (
    {"heart_turn_deg": (13.0, -11.0), "heart": 0.79},
    {"heart_turn_deg": (-13.0, 11.0), "diaphragm_mm": 26.0},
    {"second": 1.0, "diaphragm_mm": -26.0, "fat": float(np.exp(0.75)), "belly": 0.5, "front": 0.5},
    {"second": 1.0, "fat": float(np.exp(-0.7)), "belly": -0.4, "front": -0.3, "warp_mm": 5.0, "sway_mm": 6.5},
    {"curve_mm": 20.0, "curve_length_mm": 260.0, "kyphosis_mm": 22.0, "taper": 0.1, "barrel": 0.1, "second": 1.0},
    {"warp_mm": 5.0, "sway_mm": 6.5, "taper": -0.1, "barrel": -0.1, "curve_mm": 20.0},
)


@lru_cache(maxsize=1)
def scenes() -> list[tuple[Patient, Scene]]:
    people = [draw_patient(3, index) for index in range(60)]
    return [(person, _deform(3, index, WIDE, person, person.heart, 0.0)[0]) for index, person in enumerate(people)]


def smallest_volume(where: np.ndarray) -> float:
    slopes = np.stack([np.stack(np.gradient(component)) for component in where.astype(float)])
    return float(np.linalg.det(np.moveaxis(slopes, (0, 1), (-2, -1))).min())


@pytest.mark.parametrize("heart", [0.75, 1.0, 1.85])
def test_map_is_one_to_one_for_extreme_patients(heart: float) -> None:
    tissue = load_tissue((8.0, 8.0, 8.0))
    for index, fields in enumerate(EXTREME):
        person = replace(draw_patient(17, index), **fields)
        where = coordinates(
            17, index, person, load_guides(), heart_scale=heart, size=(60, 80, 90), spacing_mm=(5.0, 5.0, 5.0),
            atlas_shape=tissue.labels.shape, atlas_spacing=tissue.spacing_mm,
        )  # fmt: skip
        assert smallest_volume(where) > 0.02, fields


def test_map_is_one_to_one_for_many() -> None:
    assert min(smallest_volume(scene.coordinates) for _, scene in scenes()) > 0


def test_lung_beside_an_effusion_is_not_folded() -> None:
    config = AtlasThoraxConfig(size=(64, 84, 84), spacing_mm=(4.5, 4.5, 4.5))
    for index in range(4):
        person = draw_patient(6, index)
        scene, _ = _deform(6, index, config, person, person.heart, 0.0)
        before = scene.coordinates.copy()
        pleural_effusion.press(scene, draw_findings(6, index, config)[1]["pleural_effusion"])
        assert scene.fluid is not None
        # Lung stays on its side of the fluid: no voxel shows what lay deeper than 80 mm from it.
        moved = np.abs(scene.coordinates - before).max((1, 2, 3)) * np.array(scene.tissue.spacing_mm)
        assert 0 < moved.max() < 80
        free = scene.fluid == 0
        assert np.isfinite(scene.coordinates[:, free]).all()


def test_people_differ_by_a_tenth_and_more() -> None:
    volumes, hearts, bodies = [], [], []
    for _, scene in scenes():
        heart = scene.of("heart", "atrial_app")
        level = int(np.argwhere(heart)[:, 0].mean())
        volumes.append(scene.of("lung_").sum())
        hearts.append(heart.any((0, 1)).sum())
        bodies.append((scene.labels[level] > 0).any(0).sum())
    for values in (volumes, hearts, bodies):
        # Over 200 seeds each is 12 % or more (benchmarks/simulator_realism.py); 60 seeds scatter around that.
        assert np.std(values) / np.mean(values) > 0.1


def test_sex_and_age_show() -> None:
    people = [draw_patient(8, index) for index in range(400)]
    women, men = ([one for one in people if one.sex == sex] for sex in ("female", "male"))
    assert np.mean([one.height for one in women]) < np.mean([one.height for one in men]) - 0.03
    assert np.mean([one.width for one in women]) < np.mean([one.width for one in men]) - 0.03
    assert np.mean([one.fat for one in women]) > np.mean([one.fat for one in men])
    young, old = [one for one in people if one.age < 40], [one for one in people if one.age > 70]
    assert np.mean([one.bone for one in old]) < np.mean([one.bone for one in young]) - 0.08
    assert np.mean([one.heart for one in old]) > np.mean([one.heart for one in young])
    assert np.mean([one.lung_hu for one in old]) < np.mean([one.lung_hu for one in young])
    assert np.mean([one.soft_hu for one in old]) < np.mean([one.soft_hu for one in young])


@pytest.mark.parametrize(
    ("name", "value", "axis"), [("curve_mm", 20.0, 2), ("kyphosis_mm", 20.0, 1), ("taper", 0.1, 2), ("barrel", 0.1, 1)]
)
def test_each_shape_moves_its_axis(name: str, value: float, axis: int) -> None:
    flat = replace(draw_patient(1, 0), rotation_deg=(0.0, 0.0, 0.0), second=0.0, **{name: 0.0})
    bent = replace(flat, **{name: value})
    one, two = (_deform(1, 0, WIDE, person, 1.0, 0.0)[0].coordinates for person in (flat, bent))
    moved = np.abs(one - two).mean((1, 2, 3)) * np.array(load_tissue(WIDE.spacing_mm).spacing_mm)
    assert moved[axis] > 1.5
    assert moved[axis] > 2 * moved[3 - axis]


def test_hearts_turn_and_the_rest_stays() -> None:
    still = replace(draw_patient(1, 1), heart_turn_deg=(0.0, 0.0))
    turned = replace(still, heart_turn_deg=(12.0, 0.0))
    one, two = (_deform(1, 1, WIDE, person, 1.0, 0.0)[0] for person in (still, turned))
    apart = np.abs(one.coordinates - two.coordinates).max(0)
    assert apart[one.of("heart")].mean() > 2
    assert np.percentile(apart[one.of("scapula", "humerus")], 95) < 0.2


def test_second_shape_is_one_to_one_at_every_fraction() -> None:
    shape = load_second_shape()
    slopes = np.stack([np.stack(np.gradient(axis.astype(float), shape.cell_mm)) for axis in shape.field_mm])
    slopes = np.moveaxis(slopes, (0, 1), (-2, -1))
    assert np.abs(shape.field_mm).max() > 8, "another chest"
    for part in (0.25, 0.5, 0.75, 1.0):
        assert np.linalg.det(np.eye(3) + part * slopes).min() > 0.1


def test_arms_down_fill_the_air_beside_the_body_alone() -> None:
    person = replace(draw_patient(1, 2), arms="down")
    scene, _ = _deform(1, 2, WIDE, person, 1.0, 0.0)
    scene.hu = np.where(scene.labels > 0, 40.0, -1000.0).astype(np.float32)
    before, labels = scene.hu.copy(), scene.labels.copy()
    lay_arms(scene, person)
    changed = scene.hu != before
    assert changed.any() and not changed[labels > 0].any()
    assert (scene.labels == labels)[labels > 0].all()
    columns = np.flatnonzero(changed.any((0, 1)))
    assert columns.min() < 20 and columns.max() > WIDE.size[2] - 20, "one on each side"
    assert scene.of("humerus")[changed].any() and scene.hu[changed].max() > 300
