"""`ctgen run` as a user types it: what it prints, writes and returns, and what a signal does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from ctgen.testing import phantom
from ctgen.volume.io import read_volume, write_volume
from tests.unit.stages.tiny import RECIPE, read, snapshot, stage_folder, write_recipe

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


def start(folder, *words):
    command = [sys.executable, "-m", "ctgen", *map(str, words)]
    return subprocess.Popen(
        command, cwd=folder, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def ctgen(folder, *words):
    process = start(folder, *words)
    out, err = process.communicate(timeout=300)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Four chests, a slab, an abdomen-like block and a broken file; the recipe over them."""
    root = tmp_path_factory.mktemp("run")
    write_recipe(root)
    write_volume(phantom((4, 32, 32), (10.0, 10.0, 10.0)), root / "scans" / "slab.nii.gz")
    (root / "scans" / "broken.nii.gz").write_bytes(b"\x1f\x8b\x08\x00broken")
    return root


@pytest.fixture(scope="module")
def done(world):
    return ctgen(world, "run", "recipe.yaml")


def test_it_ends_well_and_names_its_report(world, done):
    assert done.returncode == 0, done.stderr
    last = done.stdout.strip().splitlines()[-1]
    report = world / last.removeprefix("report: ")
    assert report.name == "report.html"
    assert report.parent.parent == world / "runs" / "tiny"
    text = report.read_text(encoding="utf-8")
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert "slab" in text and "covers 40 mm" in text


def test_output_is_plain_without_a_terminal(done):
    assert "\x1b" not in done.stdout + done.stderr
    assert "\r" not in done.stdout + done.stderr
    stages = [line.split(":")[0] for line in done.stdout.splitlines() if not line.startswith(" ")]
    assert stages == ["prepare", "encode", "train", "sample", "evaluate", "report", "report"]


def test_what_is_left_out_is_said(done):
    lines = done.stdout.splitlines()
    assert any(line.startswith("  left out: slab: covers 40 mm of the body") for line in lines)
    assert any(line.startswith("  left out: broken: ") for line in lines)


def test_the_run_folder_holds_the_results(world, done):
    run_dir = world / "runs" / "tiny"
    samples = stage_folder(run_dir, "sample")
    cases = read(stage_folder(run_dir, "prepare") / "manifest.json")["cases"]
    held_out = [case["id"] for case in cases if case["split"] == "valid"]
    volumes = sorted(samples.glob("*.nii.gz"))
    assert [path.name for path in volumes] == [f"{name}.nii.gz" for name in held_out]
    for path in volumes:
        facts = read(path.with_name(path.name.replace(".nii.gz", ".json")))
        prepared = read(stage_folder(run_dir, "prepare") / "cases" / f"{facts['id']}.json")
        assert read_volume(path).shape == tuple(prepared["shape"])
        assert facts["provenance"]["weights"]["backbone"]["label"] == "TRAINED"
    metrics = read(stage_folder(run_dir, "evaluate") / "metrics.json")["values"]
    assert set(metrics) == {"reconstruction", "hu-histogram", "continuity", "cost"}
    losses = (stage_folder(run_dir, "train") / "metrics.jsonl").read_text().splitlines()
    assert len(losses) == 4
    assert {path.name for path in stage_folder(run_dir, "report").glob("*.png")} >= {"loss.png", "histograms.png"}


def test_the_scans_are_not_touched(world, done):
    names = sorted(path.name for path in (world / "scans").iterdir())
    assert names == ["broken.nii.gz", *(f"scan{index}.nii.gz" for index in range(4)), "slab.nii.gz"]


def test_again_and_by_the_resolved_recipe_everything_is_skipped(world, done):
    run_dir = world / "runs" / "tiny"
    before = snapshot(run_dir)
    for recipe in ("recipe.yaml", "runs/tiny/recipe.yaml"):
        again = ctgen(world, "run", recipe, "--run-dir", "runs/tiny")
        assert again.returncode == 0, again.stderr
        assert again.stdout.count("already done, skipped") == 6
        assert again.stdout.splitlines()[-1] == done.stdout.splitlines()[-1]
    after = snapshot(run_dir)
    assert {name: value for name, value in after.items() if name != "recipe.yaml"} == {
        name: value for name, value in before.items() if name != "recipe.yaml"
    }


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--from", "trian"], "did you mean 'train'?"),
        (["--from", "train", "--run-dir", "fresh"], "not finished with this recipe in fresh: prepare, encode"),
        (["autoencoder.weights=none/vae.safetensors", "backbone.weights=none/net.safetensors"], "net.safetensors"),
        (["data.root=nowhere"], "no folder at"),
    ],
)
def test_mistakes_are_one_message_and_write_nothing(world, done, words, found):
    failed = ctgen(world, "run", "recipe.yaml", *words)
    assert failed.returncode == 2
    assert found in failed.stderr
    assert failed.stderr.startswith("error: ")
    assert "Traceback" not in failed.stderr
    assert not (world / "fresh").exists()


def wait_for(pattern, folder, process):
    deadline = time.monotonic() + 120
    while not list(folder.glob(pattern)) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)


def test_ctrl_c_ends_with_130_and_the_same_command_goes_on(tmp_path):
    write_recipe(tmp_path, RECIPE.replace("steps: 4,", "steps: 3000,").replace("checkpoint_every: 2", "checkpoint_every: 100"))
    process = start(tmp_path, "run", "recipe.yaml", "--until", "train")
    wait_for("runs/tiny/train-*/metrics.jsonl", tmp_path, process)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, out + err
    assert "Traceback" not in err
    assert "same command" in err
    steps = len((stage_folder(tmp_path / "runs" / "tiny", "train") / "metrics.jsonl").read_text().splitlines())
    assert 0 < steps < 3000
    process = start(tmp_path, "run", "recipe.yaml", "--until", "train")
    metrics = stage_folder(tmp_path / "runs" / "tiny", "train") / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while len(metrics.read_text().splitlines()) <= steps and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert process.returncode in (0, 130), err
    assert out.count("already done, skipped") == 2
    numbers = [json.loads(line)["step"] for line in metrics.read_text().splitlines()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) > steps


REAL = RECIPE.replace("size: [8, 16, 16], spacing_mm: [20, 20, 20], min_depth_mm: 100", "GRID").replace(
    "GRID", "size: [16, 32, 32], spacing_mm: [12, 12, 12]"
)
HEAD = "chestCTA_totalseg_aorta_1p5mm.nii.gz"


@pytest.fixture(scope="module")
def real(shared_folder, tmp_path_factory):
    """A run over real scans: mixed spacings and orientations, slabs and an abdomen among them."""
    scans = shared_folder / "data" / "ct"
    if not scans.is_dir():
        pytest.skip(f"no scans at {scans}")
    root = tmp_path_factory.mktemp("real")
    (root / "recipe.yaml").write_text(REAL.replace("SCANS", str(scans)), encoding="utf-8")
    return root, scans, ctgen(root, "run", "recipe.yaml")


@pytest.mark.slow
def test_real_scans_run_through_and_the_rest_is_left_out_with_reasons(real):
    root, _, done = real
    assert done.returncode == 0, done.stderr
    run_dir = root / "runs" / "tiny"
    manifest = read(stage_folder(run_dir, "prepare") / "manifest.json")
    reasons = {entry["id"]: entry["reason"] for entry in manifest["skipped"]}
    assert {name.split("_")[0] for name in reasons} == {"abdomen", "chestslab", "upperabdomenslab"}
    for name, reason in reasons.items():
        assert reason.startswith("no chest: " if name.startswith("abdomen") else "covers ")
        assert f"  left out: {name}: {reason}" in done.stdout
    assert len(manifest["cases"]) == 5
    assert all(case["spacing_mm"] == pytest.approx([12, 12, 12]) for case in manifest["cases"])
    assert list(stage_folder(run_dir, "sample").glob("*.nii.gz"))
    assert (root / done.stdout.strip().splitlines()[-1].removeprefix("report: ")).is_file()


@pytest.mark.slow
def test_a_real_scan_is_continued_where_it_lies(real):
    root, scans, _ = real
    made = ctgen(root, "generate", "runs/tiny", "--report", "Nodule.", "--head", scans / HEAD, "-o", "x.nii.gz")
    assert made.returncode == 0, made.stderr
    volume, facts = read_volume(root / "x.nii.gz"), read(root / "x.json")
    prepared = stage_folder(root / "runs" / "tiny", "prepare")
    record = read(prepared / "cases" / f"{HEAD.removesuffix('.nii.gz')}.json")
    assert np.allclose(volume.affine, np.array(record["affine"]), atol=1e-4)
    assert np.allclose(volume.spacing_mm, record["spacing_mm"], atol=1e-4)
    assert facts["head_slices"] == facts["seam"]["slice"] == 4
    assert facts["seam"]["mean_abs_step_hu"] > 0
    assert facts["seam"]["ratio"] > 0
    # the kept slices show the scan: a coarse codec's error, not another body
    real_hu = np.load(prepared / "cases" / f"{HEAD.removesuffix('.nii.gz')}.npy")[:4].clip(-1000, 1000)
    kept = volume.hu[:4]
    assert np.corrcoef(real_hu.ravel(), kept.ravel())[0, 1] > 0.8


@pytest.mark.slow
def test_the_world_of_the_output_is_that_of_the_scan(real):
    """Not just ctgen's own idea of it: SimpleITK finds the scan's lowest slice inside the continued volume."""
    import SimpleITK as sitk

    root, scans, _ = real
    if not (root / "x.nii.gz").exists():
        pytest.skip("the volume was not made")
    scan, made = (sitk.ReadImage(str(path)) for path in (scans / HEAD, root / "x.nii.gz"))
    middle = [count // 2 for count in made.GetSize()]
    point = made.TransformIndexToPhysicalPoint([middle[0], middle[1], 1])
    index = scan.TransformPhysicalPointToContinuousIndex(point)
    assert all(-0.5 <= at <= count - 0.5 for at, count in zip(index, scan.GetSize(), strict=True))
