"""`ctgen generate` as a user types it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from ctgen.testing import phantom
from ctgen.volume import Volume
from ctgen.volume.io import read_volume, write_volume
from tests.e2e.test_run import ctgen
from tests.unit.stages.tiny import read, snapshot, write_recipe


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A finished run that has lost its scans, as on another machine."""
    root = tmp_path_factory.mktemp("generate")
    write_recipe(root, count=2)
    done = ctgen(root, "run", "recipe.yaml", "--until", "train")
    assert done.returncode == 0, done.stderr
    shutil.rmtree(root / "scans")
    (root / "plain").mkdir()
    return root


@pytest.fixture(scope="module")
def made(world):
    reports = world / "reports.csv"
    reports.write_text("VolumeName,Findings_EN,Impressions_EN\nvalid_1.nii.gz,Nodule.,Follow up.\nvalid_2.nii.gz,Normal.,\n")
    words = ("generate", "runs/tiny", "--reports", "reports.csv", "-o", "out", "--slices", "6", "--seed", "3")
    return words, ctgen(world, *words)


def test_reports_of_a_table(world, made):
    done = made[1]
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (world / "out").iterdir()) == [
        f"valid_{number}{suffix}" for number in (1, 2) for suffix in (".json", ".nii.gz", ".png")
    ]
    assert "with the weights trained in runs/tiny/train-" in done.stdout
    assert read(world / "out" / "valid_1.json")["report"]["impressions"] == "Follow up."


def test_the_files_open_elsewhere_with_the_same_geometry(world, made):
    path = world / "out" / "valid_1.nii.gz"
    volume = read_volume(path)
    image = sitk.ReadImage(str(path))
    assert image.GetSpacing() == pytest.approx((20, 20, 20))
    assert image.GetOrigin() == pytest.approx((-150, -150, -50))
    assert np.array_equal(sitk.GetArrayFromImage(image), volume.hu)
    affine = nibabel.load(path).affine
    assert np.allclose(affine, [[-20, 0, 0, 150], [0, -20, 0, 150], [0, 0, 20, -50], [0, 0, 0, 1]])


def test_the_same_command_again_keeps_what_is_there(world, made):
    before = snapshot(world / "out")
    again = ctgen(world, *made[0])
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("already there from the same request; kept") == 2
    assert snapshot(world / "out") == before


def test_another_request_is_refused(world, made):
    before = snapshot(world / "out")
    refused = ctgen(world, *made[0][:-1], "4")
    assert refused.returncode == 2
    assert "exists, made by another request" in refused.stderr
    assert snapshot(world / "out") == before


def test_reports_as_json_and_several_draws(world, made):
    (world / "reports.json").write_text(json.dumps([{"input_image_name": "valid_1", "report": "Nodule."}]))
    words = ("--reports", "reports.json", "--count", "2", "--steps", "1", "--slices", "4", "--format", "mha")
    done = ctgen(world, "generate", "runs/tiny", *words, "-o", "draws", "--spacing", "10")
    assert done.returncode == 0, done.stderr
    volumes = [read_volume(world / "draws" / f"valid_1_{draw}.mha") for draw in (0, 1)]
    assert all(volume.shape == (4, 32, 32) for volume in volumes)
    assert not np.array_equal(volumes[0].hu, volumes[1].hu)


def oblique(volume):
    """As another scanner stores it: feet first, left and right exchanged, tilted by 10 degrees."""
    angle = np.deg2rad(10.0)
    tilt = np.eye(4)
    tilt[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine = tilt @ volume.affine
    for axis in (0, 2):
        affine[:3, 3] += affine[:3, axis] * (volume.shape[axis] - 1)
        affine[:3, axis] *= -1
    return Volume(np.ascontiguousarray(volume.hu[::-1, :, ::-1]), affine), tilt


def test_a_head_with_an_oblique_and_flipped_affine_is_continued_in_its_own_world(world):
    head = phantom((20, 32, 32), (9.0, 10.0, 10.0), seed=7)
    turned, tilt = oblique(head)
    write_volume(head, world / "head.nii.gz")
    write_volume(turned, world / "turned.nii.gz")
    for name in ("head", "turned"):
        words = ("--report", "Nodule.", "--head", f"{name}.nii.gz", "-o", f"after-{name}.nii.gz")
        done = ctgen(world, "generate", "runs/tiny", *words)
        assert done.returncode == 0, done.stderr
    plain, after = (read_volume(world / f"after-{name}.nii.gz") for name in ("head", "turned"))
    assert np.array_equal(plain.hu, after.hu)
    assert np.allclose(after.affine, tilt @ plain.affine, atol=1e-4)
    assert np.allclose(after.spacing_mm, plain.spacing_mm, atol=1e-4)
    facts = read(world / "after-turned.json")
    assert facts["seam"]["slice"] == facts["head_slices"] == 4
    assert facts["head"]["file"].endswith("turned.nii.gz")


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["recipe.yaml", "--report", "x"], "has no trained weights yet"),
        (["out-of-nowhere", "--report", "x"], "out-of-nowhere"),
        (["plain", "--report", "x"], "not a run folder"),
        (["runs/tiny"], "no report given"),
        (["runs/tiny", "--report", " "], "the report is empty"),
        (["runs/tiny", "--report", "x", "--spacing", "1,2"], "not a voxel spacing"),
        (["runs/tiny", "--report", "x", "--head", "short.nii.gz"], "covers 2 slices of 20 mm, 4 are needed"),
    ],
)
def test_mistakes_are_one_message(world, tmp_path, words, found):
    if "short.nii.gz" in words:
        write_volume(phantom((4, 32, 32), (10.0, 10.0, 10.0)), world / "short.nii.gz")
    if words[0] == "recipe.yaml":
        # its own run is in runs/tiny; another name has none
        (tmp_path / "recipe.yaml").write_text((world / "recipe.yaml").read_text().replace("name: tiny", "name: other"))
        words = [str(tmp_path / "recipe.yaml"), *words[1:]]
    failed = ctgen(world, "generate", *words, "-o", str(tmp_path / "x"))
    assert failed.returncode == 2, failed.stderr
    assert found in failed.stderr
    assert "Traceback" not in failed.stderr
    assert not list(tmp_path.rglob("*.nii.gz"))


def test_a_recipe_finds_its_run(world):
    done = ctgen(world, "generate", "recipe.yaml", "--report", "Nodule.", "--slices", "4", "-o", "by-recipe.nii.gz")
    assert done.returncode == 0, done.stderr
    assert read_volume(world / "by-recipe.nii.gz").shape == (4, 16, 16)


def test_eight_reports_become_one_sheet(world):
    script = Path(__file__).parents[2] / "benchmarks" / "eight_reports.py"
    command = [sys.executable, str(script), "runs/tiny", "sheet.png", "--seed", "3", "--slices", "6", "--keep", "eight"]
    done = subprocess.run(command, cwd=world, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert len(list((world / "eight").glob("*.nii.gz"))) == 8
    with Image.open(world / "sheet.png") as picture:
        assert picture.width > 8 * 100
    assert "sheet.png: runs/tiny, seed 3" in done.stdout and "| emphysema | Emphysema | " in done.stdout


def test_sides_are_counted_over_pairs(world):
    script = Path(__file__).parents[2] / "benchmarks" / "sides.py"
    command = [sys.executable, str(script), "runs/tiny", "--seeds", "2", "--slices", "6", "-o", "counted"]
    done = subprocess.run(command, cwd=world, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    written = read(world / "counted" / "sides.json")
    found = written["models"]["runs/tiny"]
    weights = written["provenance"]["runs/tiny"]["weights"]
    assert weights["backbone"]["label"].startswith("TRAINED") and len(weights["backbone"]["sha256"]) == 64
    assert weights["backbone"]["sha256"][:16] in (world / "counted" / "sides.md").read_text()
    assert set(found) == {"effusion", "effusion, short", "consolidation"}
    assert all(one["pairs"] == 2 and 0 <= one["low"] <= one["told"] <= one["high"] <= 1 for one in found.values())
    assert "| runs/tiny | effusion | 2 | " in (world / "counted" / "sides.md").read_text()

    # fluid in the right lung, which lies at small x, takes its air away
    count = (
        "import sys; sys.path.insert(0, sys.argv[1]); from sides import air_ratio; from ctgen.volume.io import read_volume; "
    )
    count += "print(*(air_ratio(read_volume(name)) for name in sys.argv[2:]))"
    healthy = phantom((6, 32, 32), (10.0, 10.0, 10.0))
    wet = healthy.hu.copy()
    wet[..., :16][wet[..., :16] < -400] = 10
    names = [str(write_volume(volume, world / f"{name}.nii.gz")) for name, volume in
             (("healthy", healthy), ("wet", Volume(wet, healthy.affine)))]  # fmt: skip
    told = subprocess.run(
        [sys.executable, "-c", count, str(script.parent), *names], capture_output=True, text=True, timeout=120
    )
    ratios = [float(word) for word in told.stdout.split()]
    assert 0.5 < ratios[0] < 2 and ratios[1] < 0.1 * ratios[0], told.stderr
