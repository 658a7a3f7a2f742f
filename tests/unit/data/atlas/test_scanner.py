"""What the scanner does to an image: each choice shows, and stays where it belongs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ctgen.data.atlas.config import FINDINGS, AtlasThoraxConfig
from ctgen.data.atlas.draws import stream
from ctgen.data.atlas.image import METAL_HU, STREAKS_MM, Build, finish
from ctgen.data.atlas.patient import Scanner, draw_scanner
from ctgen.data.atlas.scan import Simulated, simulate

HEALTHY = dict.fromkeys(FINDINGS, False)
PLAIN = Scanner(0.0, "none", "standard", 0.0, 0.6, "none", 3.0, False, 0.0, 0.0)
SPACING = (3.0, 3.0, 3.0)


def scan(hu: np.ndarray, **fields: object) -> np.ndarray:
    build = Build(np.full(hu.shape[0], 7e4), (hu.shape[1] / 2, hu.shape[2] / 2), (30.0, 30.0))
    scanner = replace(PLAIN, **fields)
    generators = stream(0, 0, "noise"), stream(0, 0, "artefacts")
    return finish(hu.astype(np.float32).copy(), np.ones(hu.shape, bool), build, SPACING, scanner, *generators)


def draws(count: int = 400, **fields: float) -> list[Scanner]:
    chances = {"contrast": 0.55, "couch": 0.5, "circle": 0.15, "motion": 0.05} | fields
    return [draw_scanner(2, index, noise_hu=(6.0, 22.0), step_mm=3.0, **chances) for index in range(count)]


def test_probabilities_are_kept() -> None:
    found = draws()
    assert np.mean([one.circle for one in found]) == pytest.approx(0.15, abs=0.05)
    assert np.mean([one.motion_mm > 0 for one in found]) == pytest.approx(0.05, abs=0.03)
    assert np.mean([one.phase != "none" for one in found]) == pytest.approx(0.55, abs=0.07)
    assert {one.phase for one in found} == {"none", "arterial", "venous"}
    assert all((one.contrast == 0) == (one.phase == "none") for one in found)
    assert {one.slice_mm for one in found} == {3.0, 3.75, 4.8}
    assert not any(one.circle or one.motion_mm for one in draws(circle=0.0, motion=0.0))


def test_new_chances_move_no_other_draw() -> None:
    for one, two in zip(draws(50, circle=0.0, motion=0.0), draws(50, circle=1.0, motion=1.0), strict=True):
        assert replace(one, circle=False, motion_mm=0.0) == replace(two, circle=False, motion_mm=0.0)


def test_circle_is_padding_around_the_same_image() -> None:
    hu = np.random.default_rng(0).normal(0, 300, (4, 40, 40))
    whole, cut = scan(hu), scan(hu, circle=True)
    changed = whole != cut
    assert (cut[changed] == -1024).all()
    assert changed[:, 0, 0].all() and not changed[:, 20].any()
    assert changed.mean() == pytest.approx(1 - np.pi / 4, abs=0.03)


def test_thick_slices_average_along_the_scan_alone() -> None:
    hu = np.zeros((21, 16, 16))
    hu[10:] = 1000.0
    thin, thick = scan(hu), scan(hu, slice_mm=6.0)
    assert np.abs(np.diff(thin[:, 8, 8])).max() == 1000
    assert 250 < np.abs(np.diff(thick[:, 8, 8])).max() < 750
    assert (thick == thick[:, :1, :1]).all()


def test_noise_has_its_strength_whatever_the_kernel() -> None:
    flat = np.zeros((12, 96, 96))
    for fields in ({"grain": 0.34}, {"grain": 0.42}, {"grain": 0.7, "kernel": "soft"}, {"slice_mm": 4.8}):
        middle = scan(flat, noise_hu=20.0, **fields)[:, 44:52, 44:52]
        assert middle.std() == pytest.approx(20.0, rel=0.15), fields
    sharp = scan(flat, noise_hu=20.0, grain=0.34, kernel="sharp", edge=1.0)[:, 44:52, 44:52]
    # Half of the edge is averaged away at 3 mm.
    assert sharp.std() == pytest.approx(20.0 * (1 + 1.6 / 3.0), rel=0.15)


def neighbours(noise: np.ndarray, axis: int) -> float:
    """Correlation of neighbours in the middle."""
    middle = noise[:, 24:72, 24:72].astype(float)
    one, two = np.moveaxis(middle, axis, 0)[:-1], np.moveaxis(middle, axis, 0)[1:]
    return float((one * two).mean() / (middle**2).mean())


def test_kernels_colour_the_noise() -> None:
    flat = np.zeros((12, 96, 96))
    soft = neighbours(scan(flat, noise_hu=50.0, grain=0.6, kernel="soft"), 2)
    standard = neighbours(scan(flat, noise_hu=50.0, grain=0.42), 2)
    sharp = neighbours(scan(flat, noise_hu=50.0, grain=0.3, kernel="sharp", edge=1.3), 2)
    assert soft > standard + 0.2 > 0.25
    assert sharp < -0.05, "finer than white"
    apart, overlapping = (neighbours(scan(flat, noise_hu=50.0, slice_mm=mm), 0) for mm in (3.0, 4.8))
    assert overlapping > apart + 0.2 > 0.2


def test_sharp_kernels_overshoot_at_edges() -> None:
    hu = np.zeros((3, 32, 32))
    hu[:, :, 16:] = 1000.0
    plain, sharp = scan(hu), scan(hu, kernel="sharp", edge=1.0)
    assert (plain == hu).all()
    assert sharp[1, 16, 16] > 1030 and sharp[1, 16, 15] < -30
    assert (sharp[:, :, :12] == 0).all() and (sharp[:, :, 20:] == 1000).all()


def test_motion_doubles_edges_in_a_band_of_slices() -> None:
    hu = np.zeros((60, 32, 32))
    hu[:, 16:] = 1000.0
    still, moved = scan(hu), scan(hu, motion_mm=6.0)
    touched = (still != moved).any((1, 2))
    assert 5 < touched.sum() < 30
    assert ((moved[touched] > 350) & (moved[touched] < 650)).any()
    assert not (still != moved)[:, :13].any() and not (still != moved)[:, 19:].any()


def test_metal_streaks_stay_near_metal() -> None:
    hu = np.zeros((5, 60, 60))
    assert (scan(hu, streaks=1.0) == 0).all()
    hu[2, 30:32, 30:32] = METAL_HU + 400
    streaked = scan(hu, streaks=1.0)
    change = np.abs(streaked.astype(float) - hu)
    y, x = np.mgrid[:60, :60] - 30.5
    far = np.hypot(y, x) * 3 > STREAKS_MM + 3
    assert change[2, 26:36, 26:36].max() > 60
    assert not change[2][far].any() and not change[[0, 1, 3, 4]].any()
    assert (streaked[2, 30:32, 30:32] == METAL_HU + 400).all()


def organ(case: Simulated, part: str) -> float:
    assert case.labels is not None
    return float(np.median(case.volume.hu[np.isin(case.labels, [label for label, name in case.names.items() if part in name])]))


def test_phases_differ_by_organ(coarse: AtlasThoraxConfig) -> None:
    config = coarse.model_copy(update={"contrast": 1.0})
    found: dict[str, Simulated] = {}
    for index in range(30):
        phase = draw_scanner(4, index, contrast=1.0, couch=0.5, noise_hu=config.noise_hu, step_mm=4.5).phase
        if phase not in found:
            found[phase] = simulate(4, index, config, present=HEALTHY, with_masks=True)
    plain = simulate(4, 0, coarse.model_copy(update={"contrast": 0.0}), present=HEALTHY, with_masks=True)
    assert abs(organ(plain, "aorta") - 45) < 20
    early, late = found["arterial"], found["venous"]
    assert organ(early, "aorta") > organ(late, "aorta") > organ(plain, "aorta") + 50
    assert organ(late, "liver") > organ(early, "liver") + 15
    assert organ(late, "liver") > organ(plain, "liver") + 30
    assert 4 < organ(plain, "liver") - organ(plain, "aorta") < 16
