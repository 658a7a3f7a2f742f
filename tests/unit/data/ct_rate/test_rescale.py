"""HU as stored, or by the table's rescale: decided by evidence, refused with numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctgen.data.ct_rate.spoil import head
from ctgen.data.intensity import histogram_of
from ctgen.data.rescale import decide, judge, sampled, to_hu
from ctgen.errors import VolumeError
from ctgen.volume.io import is_volume_file, read_volume

HERE = Path("volume.nii.gz")
USUAL, PADDED = (1.0, -1024.0), (1.0, -8192.0)


def reading(stored: np.ndarray, rescale: tuple[float, float] | None, mode: str = "auto") -> str | None:
    return judge(sampled(stored), rescale, mode).reading  # type: ignore[arg-type]


@pytest.mark.parametrize("rescale", [USUAL, PADDED])
def test_each_kind_of_file_is_told_from_the_other(chest: np.ndarray, rescale: tuple[float, float]) -> None:
    intercept = int(rescale[1])
    assert reading(chest, rescale) == "hu"
    assert reading(chest - intercept, rescale) == "csv-rescale"
    assert reading(chest + intercept, rescale) is None
    twice = judge(sampled(chest + intercept), rescale)
    assert twice.stored.moved_by == intercept
    assert "computed twice" in twice.why
    assert f"stored: {chest.min() + intercept} to" in str(twice)


@pytest.mark.parametrize("floor", [-8192, -3024, -2048, -1024])
@pytest.mark.parametrize("intercept", [-8192, -1024])
def test_padding_of_the_field_of_view_changes_nothing(chest: np.ndarray, floor: int, intercept: int) -> None:
    padded = chest.copy()
    padded[:, :14] = floor
    rescale = (1.0, float(intercept))
    for stored, wanted in ((padded, "hu"), (padded - intercept, "csv-rescale")):
        decision = decide(HERE, sampled(stored.astype(np.int16)), rescale)
        assert decision.reading == wanted
        hu = to_hu(stored.astype(np.int16), decision, HERE, -1024.0)
        assert np.array_equal(hu, np.maximum(padded, -1024))
        assert hu.dtype == np.int16


def test_a_head_is_hu_too() -> None:
    hu = head((40, 48, 48), (5.0, 5.0, 5.0), 0)
    assert reading(hu, USUAL) == "hu"
    assert reading(hu + 1024, USUAL) == "csv-rescale"
    assert reading(hu - 1024, USUAL) is None


def test_a_head_in_padding_of_minus_1024_is_hu_too() -> None:
    # nearly no air is left but the spike of the padding, which as stored values would be padding of -2048
    hu = head((40, 48, 48), (5.0, 5.0, 5.0), 0).astype(np.float32)
    soft = (hu + np.roll(hu, 1, axis=2) + np.roll(hu, 1, axis=1)) / 3
    padded = np.where(soft < -950, -1024, soft).astype(np.int16)
    assert reading(padded, USUAL) == "hu"
    assert reading(padded + 1024, USUAL) == "csv-rescale"


def test_noise_of_a_sharp_kernel_does_not_matter(chest: np.ndarray) -> None:
    noisy = (chest + np.random.default_rng(1).normal(0, 150, chest.shape)).clip(-1024, 3071).astype(np.int16)
    assert reading(noisy, USUAL) == "hu"
    assert reading(noisy + 1024, USUAL) == "csv-rescale"
    assert reading(noisy - 1024, USUAL) is None


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([-1024, -8192]), st.sampled_from([0.5, 1.0, 2.0]), st.booleans())
def test_whatever_slope_and_intercept_the_way_back_is_found(intercept: int, slope: float, stored_raw: bool) -> None:
    hu = head((20, 24, 24), (10.0, 10.0, 10.0), 3) // 2 * 2
    stored = ((hu - intercept) / slope).astype(np.float32) if stored_raw else hu.astype(np.float32)
    decision = decide(HERE, sampled(stored), (slope, float(intercept)))
    assert decision.reading == ("csv-rescale" if stored_raw else "hu")
    assert np.array_equal(to_hu(stored, decision, HERE, -1024.0), hu)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda hu: (hu / 1000).clip(-1, 1).astype(np.float32), "normalised intensities"),
        (lambda hu: ((hu + 1024) / 12).clip(0, 255).astype(np.int16), "grey levels"),
        (lambda hu: np.full_like(hu, -1000), "every voxel is -1000"),
        (lambda hu: np.full_like(hu, -9000) + (hu > 600), "nothing but air"),
        (lambda hu: np.where(hu < -200, 40, hu).astype(np.int16), "no air peak"),
    ],
)
def test_what_cannot_be_hu_is_refused_with_numbers(chest: np.ndarray, change: object, words: str) -> None:
    stored = change(chest)  # type: ignore[operator]
    for rescale in (USUAL, None):
        with pytest.raises(VolumeError, match=words) as caught:
            decide(HERE, sampled(stored), rescale)
        assert "stored: " in caught.value.message
        assert "soft tissue" in caught.value.message


def test_without_a_row_only_what_is_hu_as_stored_is_read(chest: np.ndarray) -> None:
    assert reading(chest, None) == "hu"
    assert reading(chest + 1024, None) is None
    assert "never applied" in judge(sampled(chest + 1024), None).why
    assert reading(chest, (1.0, 0.0)) == "hu"


def test_asking_for_a_reading(chest: np.ndarray) -> None:
    assert reading(chest, USUAL, "hu") == "hu"
    assert reading(chest + 1024, USUAL, "csv-rescale") == "csv-rescale"
    # the trap of CT-CLIP's loader: the table's rescale on files that hold HU
    with pytest.raises(VolumeError, match="implausible HU"):
        decide(HERE, sampled(chest), USUAL, "csv-rescale")
    with pytest.raises(VolumeError, match="never applied"):
        decide(HERE, sampled(chest + 1024), USUAL, "hu")
    with pytest.raises(VolumeError, match="not known"):
        decide(HERE, sampled(chest), None, "csv-rescale")
    # odd but not wrong: no air around and none inside
    solid = np.where(chest < -200, 40, chest).astype(np.int16)
    assert reading(solid, USUAL, "hu") == "hu"


def test_two_plausible_readings_are_refused_unless_the_floor_tells(chest: np.ndarray) -> None:
    rng = np.random.default_rng(2)
    # as much in place as stored as after the rescale: no volume of a body, but nothing else tells
    values = np.concatenate([np.full(3000, 40), np.full(3000, 1064), np.full(3000, -700), np.full(3000, 500)])
    mixed = (values + rng.normal(0, 20, len(values))).astype(np.int16).reshape(12, 10, 100)
    assert reading(mixed, USUAL) is None
    assert "nothing tells which is right" in judge(sampled(mixed), USUAL).why
    mixed[0, :2] = -3024
    assert reading(mixed, USUAL) == "hu"


def test_the_decision_goes_into_manifests(chest: np.ndarray) -> None:
    record = json.loads(json.dumps(judge(sampled(chest + 1024), USUAL).to_json()))
    assert record["decision"] == "csv-rescale"
    assert (record["slope"], record["intercept"]) == (1.0, -1024.0)
    assert record["stored"]["low"] == record["rescaled"]["low"] + 1024
    assert record["rescaled"]["soft_share"] > 0.2 > record["stored"]["empty_share"]


def test_a_sample_of_voxels_says_the_same_as_all(chest: np.ndarray) -> None:
    some = histogram_of(chest, at_most=20_000)
    assert 10_000 <= some.total <= 20_000
    assert judge(some, USUAL).stored.score == pytest.approx(judge(histogram_of(chest), USUAL).stored.score, abs=0.03)


def test_values_beyond_int16_are_not_wrapped(chest: np.ndarray) -> None:
    stored = chest.astype(np.float32) + 40_000
    decision = decide(HERE, sampled(stored), (1.0, -40_000.0))
    assert np.array_equal(to_hu(stored, decision, HERE, -1024.0), chest)


@pytest.mark.slow
def test_real_scans_of_all_kinds(shared_folder: Path) -> None:
    files = [path for path in sorted((shared_folder / "data" / "ct").rglob("*")) if is_volume_file(path)]
    assert files
    for path in files:
        hu = sampled(read_volume(path).hu)
        for rescale in (USUAL, PADDED):
            assert judge(hu, rescale).reading == "hu", path
            assert judge(hu.rescaled(1.0, -rescale[1]), rescale).reading == "csv-rescale", path
            assert judge(hu.rescaled(1.0, rescale[1]), rescale).stored.moved_by == rescale[1], path
            assert judge(hu.rescaled(1.0, rescale[1]), None).reading is None, path
