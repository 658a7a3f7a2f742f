"""What the findings of lungs and airways do to the image, and whether their facts say so."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from ctgen.data.atlas.airways import load_bronchi, load_lobules
from ctgen.data.atlas.config import FINDINGS, NODULE_KINDS, AtlasThoraxConfig
from ctgen.data.atlas.scan import Simulated, draw_findings, simulate
from ctgen.data.atlas.tissue import LOBES

HEALTHY = dict.fromkeys(FINDINGS, False)
SEED = 21
FILLING = ("lung_opacity", "atelectasis", "pulmonary_fibrotic_sequela", "mosaic_attenuation_pattern", "bronchiectasis")


def pair(name: str, index: int, config: AtlasThoraxConfig) -> tuple[Simulated, Simulated, np.ndarray, np.ndarray]:
    """With and without a finding, its mask, and the change in HU; noise is the same in both."""
    ill = simulate(SEED, index, config, present={**HEALTHY, name: True}, with_masks=True)
    well = simulate(SEED, index, config, present=HEALTHY, with_masks=True)
    assert ill.masks is not None
    return ill, well, ill.masks[name], ill.volume.hu.astype(float) - well.volume.hu


def structure(case: Simulated, *parts: str) -> np.ndarray:
    return np.isin(case.labels, [label for label, name in case.names.items() if any(part in name for part in parts)])


def up(case: Simulated, mask: np.ndarray) -> float:
    """Mean height of a mask: 0 at the lungs' base, 1 at their apex."""
    rows = np.argwhere(structure(case, "lung_").any((1, 2)))
    return float((np.argwhere(mask)[:, 0].mean() - rows.min()) / np.ptp(rows))


def indices(name: str, count: int = 3, **facts: str) -> list[int]:
    """The first cases whose facts would have these values."""
    drawn = ((index, draw_findings(SEED, index, AtlasThoraxConfig())[1][name]) for index in range(80))
    return [index for index, each in drawn if all(each[key] == value for key, value in facts.items())][:count]


@pytest.mark.parametrize("pattern", ["patchy", "segmental", "diffuse"])
def test_ground_glass_leaves_vessels_visible(pattern: str, coarse: AtlasThoraxConfig) -> None:
    for index in indices("lung_opacity", 2, pattern=pattern):
        ill, well, mask, change = pair("lung_opacity", index, coarse)
        assert 60 < change[mask].mean() < 380
        aerated = mask & (well.volume.hu < -700)
        assert np.median(ill.volume.hu[aerated]) < -380, "not a consolidation"
        vessels = mask & (well.volume.hu > -350)
        assert np.abs(change[vessels]).mean() < 0.75 * change[aerated].mean() if vessels.any() else True
        facts = ill.findings["lung_opacity"]
        lobes = [patch["lobe"] for patch in facts["patches"]] or list(LOBES)
        assert (mask & structure(ill, *lobes)).sum() == mask.sum()


def test_opacity_is_as_large_at_every_resolution() -> None:
    index = indices("lung_opacity", 1, pattern="segmental")[0]
    volumes = []
    for step, size in ((6.0, (48, 64, 64)), (3.0, (96, 128, 128))):
        config = AtlasThoraxConfig(size=size, spacing_mm=(step, step, step))
        volumes.append(pair("lung_opacity", index, config)[2].sum() * step**3)
    assert volumes[0] == pytest.approx(volumes[1], rel=0.2)


@pytest.mark.parametrize("kind", ["linear", "subsegmental"])
def test_atelectasis_is_a_dense_band_in_its_lobe(kind: str, coarse: AtlasThoraxConfig) -> None:
    for index in indices("atelectasis", 3, kind=kind):
        ill, _, mask, change = pair("atelectasis", index, coarse)
        bands = ill.findings["atelectasis"]["bands"]
        assert (mask & structure(ill, *(band["lobe"] for band in bands))).sum() == mask.sum()
        assert change[mask].mean() > (150 if kind == "linear" else 250)
        pieces, count = ndimage.label(mask, np.ones((3, 3, 3)))
        assert count >= len(bands)
        longest = max(np.ptp(np.argwhere(pieces == piece), axis=0).max() + 1 for piece in range(1, count + 1))
        assert max(band["size_mm"] for band in bands) == pytest.approx(longest * coarse.spacing_mm[0], abs=9)


def test_apical_scars_are_at_the_apex(coarse: AtlasThoraxConfig) -> None:
    for index in indices("pulmonary_fibrotic_sequela", 3, pattern="apical"):
        ill, _, mask, change = pair("pulmonary_fibrotic_sequela", index, coarse)
        facts = ill.findings["pulmonary_fibrotic_sequela"]
        assert up(ill, mask) > 0.75 and change[mask].mean() > 150
        for side in ("left", "right"):
            assert (mask & structure(ill, f"lobe_{side}")).any() == (facts["side"] in (side, "bilateral"))


def test_mosaic_has_dark_and_bright_lobules(coarse: AtlasThoraxConfig) -> None:
    for index in indices("mosaic_attenuation_pattern", 3, zone="diffuse"):
        ill, well, mask, change = pair("mosaic_attenuation_pattern", index, coarse)
        bright = structure(ill, "lung_") & ~ndimage.binary_dilation(mask) & (well.volume.hu < -750)
        assert change[mask].mean() < -30 and change[bright].mean() > 30
        share = 100 * mask.sum() / structure(ill, "lung_").sum()
        assert ill.findings["mosaic_attenuation_pattern"]["percent"] == pytest.approx(share, abs=0.1)
        assert 8 < share < 60


def test_septa_are_thick_near_the_pleura() -> None:
    config = AtlasThoraxConfig()
    index = indices("interlobular_septal_thickening", 1, zone="basal", severity="moderate")[0]
    ill, _, mask, change = pair("interlobular_septal_thickening", index, config)
    depth = ndimage.distance_transform_edt(structure(ill, "lung_"), sampling=config.spacing_mm)
    assert change[mask].mean() > 80
    assert depth[mask].mean() < 0.75 * depth[depth > 0].mean() and up(ill, mask) < 0.45
    between = structure(ill, "lung_") & (ndimage.distance_transform_edt(~mask, sampling=config.spacing_mm) > 4)
    assert np.abs(change[between]).mean() < 0.25 * change[mask].mean(), "lines, not haze"


def test_bronchiectasis_has_air_and_walls_in_its_lobes() -> None:
    config = AtlasThoraxConfig(size=(130, 170, 180), spacing_mm=(2.0, 2.0, 2.0))
    index = indices("bronchiectasis", 1, severity="severe")[0]
    ill, _, mask, change = pair("bronchiectasis", index, config)
    facts = ill.findings["bronchiectasis"]
    assert (mask & structure(ill, *facts["lobes"])).sum() == mask.sum()
    assert all((mask & structure(ill, lobe)).any() for lobe in facts["lobes"])
    wall, air = mask & (change > 150), mask & (change < -15)
    assert wall.sum() > 0.25 * mask.sum() and air.sum() > 0.05 * mask.sum()
    assert (ndimage.distance_transform_edt(~wall, sampling=config.spacing_mm)[air] < 8).all(), "air is inside walls"


def test_peribronchial_cuffs_are_central() -> None:
    config = AtlasThoraxConfig()
    for index in indices("peribronchial_thickening", 2, severity="moderate"):
        ill, _, mask, change = pair("peribronchial_thickening", index, config)
        depth = ndimage.distance_transform_edt(structure(ill, "lung_"), sampling=config.spacing_mm)
        assert change[mask].mean() > 80
        assert depth[mask].mean() > 0.8 * depth[depth > 0].mean()
        assert (mask & structure(ill, "lobe_left")).any() and (mask & structure(ill, "lobe_right")).any()


@pytest.mark.parametrize(("kind", "low", "high"), [("ground-glass", -720, -430), ("calcified", 150, 760), ("solid", -60, 120)])
def test_nodules_have_the_hu_of_their_kind(kind: str, low: float, high: float) -> None:
    config = AtlasThoraxConfig(nodule_kinds=(kind,), size=(130, 170, 180), spacing_mm=(2.0, 2.0, 2.0))
    seen = []
    for index in range(12):
        _, facts = draw_findings(SEED, index, config)
        nodule = facts["lung_nodule"]["nodules"][0]
        if nodule["kind"] == kind and nodule["size_mm"] >= 9 and len(seen) < 3:
            ill, _, mask, _ = pair("lung_nodule", index, config)
            pieces, _ = ndimage.label(mask)
            largest = pieces == np.bincount(pieces.ravel())[1:].argmax() + 1
            core = ndimage.binary_erosion(largest)
            seen.append(np.median(ill.volume.hu[core if core.any() else largest]))
    assert seen and all(low < value < high for value in seen)


def test_kinds_of_nodules_move_nothing_else() -> None:
    kinds = set()
    for index in range(40):
        every = draw_findings(SEED, index, AtlasThoraxConfig())[1]["lung_nodule"]["nodules"]
        solid = draw_findings(SEED, index, AtlasThoraxConfig(nodule_kinds=("solid",)))[1]["lung_nodule"]["nodules"]
        for one, other in zip(every, solid, strict=True):
            assert other["kind"] == "solid"
            assert all(one[key] == other[key] for key in ("lobe", "size_mm", "anchor_mm", "shape_seed", "hu"))
            kinds.add(one["kind"])
    assert kinds == set(NODULE_KINDS)


def test_findings_stay_out_of_fluid_and_of_each_other(coarse: AtlasThoraxConfig) -> None:
    several = (*FILLING, "pleural_effusion", "consolidation", "lung_nodule")
    for index in range(3):
        case = simulate(SEED, index, coarse, present={**HEALTHY, **dict.fromkeys(several, True)}, with_masks=True)
        assert case.masks is not None and set(several) <= set(case.findings) | {"pleural_effusion"}
        for name in FILLING:
            if name in case.masks:
                wet = case.masks[name] & case.masks["pleural_effusion"]
                assert wet.sum() <= 0.05 * case.masks[name].sum()
                for solid in ("consolidation", "lung_nodule"):
                    assert name == "atelectasis" or not (case.masks[name] & case.masks[solid]).any()


def test_the_grown_airways() -> None:
    bronchi = load_bronchi()
    assert set(bronchi.lobe) == set(LOBES) and len(bronchi.start) > 250
    children = bronchi.parent >= 0
    np.testing.assert_allclose(bronchi.start[children], bronchi.end[bronchi.parent[children]])
    assert (bronchi.generation[children] == bronchi.generation[bronchi.parent[children]] + 1).all()
    assert (bronchi.radius_mm[children] < bronchi.radius_mm[bronchi.parent[children]]).all()


def test_lobules_have_their_size() -> None:
    lobules = load_lobules()
    voxels = np.bincount(lobules.first[lobules.first >= 0])
    diameter = 2 * (0.75 / np.pi * np.median(voxels[voxels > 50]) * 2.5 * 1.40625**2) ** (1 / 3)
    assert 10 < diameter < 20
    assert not (lobules.first == lobules.second)[lobules.first >= 0].any()
