"""The volume that CT-CLIP reads: parity with its authors' code and with the challenge's evaluator."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from ctgen_ctflow.ct_clip_preprocess import AIR, SIZE, Rule, prepare, preprocess

from ctgen.volume import Volume
from ctgen.volume.io import read_volume

CASES: tuple[tuple[str, Rule], ...] = (
    ("ctclip_full", "ct-clip"),
    ("ctclip_small", "ct-clip"),
    ("vlm3d_full", "vlm3d-2025"),
    ("vlm3d_small", "vlm3d-2025"),
    ("vlm3d_aniso_small", "vlm3d-2025"),
)


@pytest.fixture(scope="module")
def folder(shared_folder: Path) -> Path:
    return shared_folder / "fixtures" / "ct-clip-preprocess"


@pytest.mark.parametrize(("name", "rule"), CASES)
def test_parity(name: str, rule: Rule, folder: Path) -> None:
    facts = json.loads((folder / "fixture.json").read_text())
    entry, tolerance = facts["expected.npz"]["arrays"][name], facts["tolerance"]
    given, expected = np.load(folder / "volume.npz"), np.load(folder / "expected.npz")
    spacing = tuple(entry.get("spacing_xyz", given["spacing_xyz"]))[::-1]
    x, y, z = entry.get("target_xyz", (480, 480, 240))
    size = tuple(entry.get("target_zxy", (z, x, y)))
    found = preprocess(given["hu"].transpose(2, 1, 0), spacing, size=size, rule=rule)
    assert found.shape == (1, *size) and found.dtype == torch.float32
    whole = found[0].numpy().copy()
    box = tuple(map(slice, entry.get("box_lo", (0, 0, 0)), entry.get("box_hi", size)))
    cut = whole[box].copy()
    assert np.abs(cut - expected[name]).max() <= tolerance["suggested_atol_float16_arrays"]
    probes = cut[tuple(expected[f"{name}_probe_index"].T)]
    assert np.abs(probes - expected[f"{name}_probe_value"]).max() <= tolerance["suggested_atol_probes"]
    if "outside_of_box" in entry:
        whole[box] = entry["outside_of_box"]
        assert (whole == np.float32(entry["outside_of_box"])).all()


def test_a_file_gives_the_same_as_its_voxels(folder: Path) -> None:
    given = np.load(folder / "volume.npz")
    expected = preprocess(given["hu"].transpose(2, 1, 0), given["spacing_xyz"][::-1])
    assert torch.equal(prepare(read_volume(folder / "volume.nii.gz")), expected)


def test_any_orientation_is_brought_to_the_one_that_is_read() -> None:
    hu = np.random.default_rng(0).integers(-1000, 1000, (6, 9, 11)).astype(np.int16)
    canonical = Volume.canonical(hu, (3.0, 1.5, 1.5))
    affine = canonical.affine.copy()
    affine[:3, 3] += affine[:3, 0] * 5
    affine[:3, 0] *= -1
    upside_down = Volume(np.ascontiguousarray(hu[::-1]), affine)
    found = prepare(upside_down, size=(12, 24, 24))
    assert torch.equal(found, prepare(canonical, size=(12, 24, 24)))
    assert found.shape == (1, 12, 24, 24) and (found[0, :, 0] == AIR).all(), "x: 22 voxels of 24, padded on both sides"
    assert SIZE == (240, 480, 480)


def test_spacing_in_single_precision_does_not_cost_a_voxel() -> None:
    hu = np.zeros((4, 50, 50), np.int16)
    single = float(np.float32(0.9))
    assert int(50 * (single / 0.75)) == 59 and int(50 * (0.9 / 0.75)) == 60
    found = prepare(Volume.canonical(hu, (1.5, single, single)), size=(4, 60, 60))
    assert torch.equal(found, torch.zeros(1, 4, 60, 60))


def test_values_are_clipped_and_scaled() -> None:
    hu = np.array([-8192, -1000, 0, 1000, 3071], np.int16)[:, None, None]
    found = preprocess(np.broadcast_to(hu, (5, 4, 4)), (1.5, 0.75, 0.75), size=(5, 4, 4))
    assert found[0, :, 0, 0].tolist() == [-1.0, -1.0, 0.0, 1.0, 1.0]


def test_what_is_no_volume_is_refused() -> None:
    with pytest.raises(ValueError, match="three spacings above 0"):
        preprocess(np.zeros((2, 2, 2)), (1.0, 0.0, 1.0))
    with pytest.raises(ValueError, match="less than one voxel"):
        preprocess(np.zeros((2, 2, 2)), (0.1, 1.0, 1.0))
