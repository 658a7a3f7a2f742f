"""Pericardial effusion, hiatal hernia, lymphadenopathy: what they look like, and that facts agree with masks."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from ctgen.data.atlas.config import FINDINGS, AtlasThoraxConfig, FindingName
from ctgen.data.atlas.findings.mediastinum import outside_mm
from ctgen.data.atlas.findings.scene import Scene
from ctgen.data.atlas.landmarks import STATIONS, load_landmarks
from ctgen.data.atlas.scan import Simulated, simulate

HEALTHY = dict.fromkeys(FINDINGS, False)


def pair(name: FindingName, index: int, config: AtlasThoraxConfig) -> tuple[Simulated, Simulated]:
    return (
        simulate(6, index, config, present={**HEALTHY, name: True}, with_masks=True),
        simulate(6, index, config, present=HEALTHY, with_masks=True),
    )


def of(case: Simulated, part: str) -> np.ndarray:
    return np.isin(case.labels, [label for label, name in case.names.items() if part in name])


@pytest.mark.parametrize("index", range(3))
def test_pericardial_fluid_lies_around_the_heart(index: int, coarse: AtlasThoraxConfig) -> None:
    ill, well = pair("pericardial_effusion", index, coarse)
    facts, mask = ill.findings["pericardial_effusion"], ill.masks["pericardial_effusion"]
    inner = ndimage.binary_erosion(mask) if ndimage.binary_erosion(mask).sum() > 20 else mask
    assert -40 < np.median(ill.volume.hu[inner]) < 45
    heart = of(well, "heart")
    away = ndimage.distance_transform_edt(~heart, sampling=coarse.spacing_mm)[mask]
    # The sac spans grooves of the heart: it may be a little farther than the layer is thick.
    assert away.max() < facts["thickness_mm"] + 15
    assert abs(facts["size_mm"] - facts["thickness_mm"]) < 9
    assert np.argwhere(mask)[:, 1].mean() > np.argwhere(heart)[:, 1].mean() - 1, "it is dependent"
    lung = mask & of(well, "lung_")
    assert (ill.volume.hu[lung].astype(float) - well.volume.hu[lung]).mean() > 350


@pytest.mark.parametrize("index", range(3))
def test_a_hernia_lies_behind_the_heart(index: int, coarse: AtlasThoraxConfig) -> None:
    ill, well = pair("hiatal_hernia", index, coarse)
    facts, mask = ill.findings["hiatal_hernia"], ill.masks["hiatal_hernia"]
    assert abs(facts["size_mm"] - facts["width_mm"]) < 0.35 * facts["width_mm"] + 5
    place, heart = np.argwhere(mask).mean(0), np.argwhere(of(well, "heart")).mean(0)
    assert place[1] > heart[1] and place[0] < heart[0] + 4
    values = ill.volume.hu[mask]
    if facts["contents"] == "air-fluid":
        air, rest = np.argwhere(mask & (ill.volume.hu < -600)), np.argwhere(mask & (ill.volume.hu > -100))
        assert len(air) and air[:, 1].mean() < rest[:, 1].mean(), "air rises to the front"
    elif facts["contents"] == "fat":
        assert np.percentile(values, 30) < -60
    else:
        assert -60 < np.median(values) < 90
    assert not (mask & of(well, "aorta")).any()


def test_every_station_has_room_and_its_side(coarse: AtlasThoraxConfig) -> None:
    slots = load_landmarks().stations_mm
    middle = slots["subcarinal"][0][2]
    assert tuple(slots) == STATIONS
    for name, points in slots.items():
        if name.endswith("left"):
            assert (points[0][2] > middle).all()
        elif name.endswith("right"):
            assert (points[0][2] < middle).all()
    seen = set()
    for index in range(10):
        case = simulate(6, index, coarse, present={**HEALTHY, "lymphadenopathy": True}, with_masks=True)
        if "lymphadenopathy" not in case.findings:
            continue
        nodes = case.findings["lymphadenopathy"]["nodes"]
        assert 1 <= len(nodes) <= 5
        assert all(10 <= node["size_mm"] <= node["short_mm"] + 6 for node in nodes)
        seen |= {node["station"] for node in nodes}
        mask = case.masks["lymphadenopathy"]
        # A node of two voxels is partial volume all through.
        assert 0 < np.percentile(case.volume.hu[mask], 90) < 160
    assert len(seen) >= 5


def test_a_signed_distance() -> None:
    scene = Scene.__new__(Scene)
    scene.spacing_mm = (1.0, 1.0, 1.0)
    grid = np.stack(np.meshgrid(*[np.arange(41) - 20.0] * 3, indexing="ij"))
    radius = np.sqrt((grid**2).sum(0))
    found = outside_mm(scene, radius < 12)
    near = np.abs(radius - 12) < 5
    assert np.abs(found - (radius - 12))[near].max() < 1.6
    assert (outside_mm(scene, radius < -1) == 1000).all()
