"""Sampling in one and in two processes, one by one and together: the same volumes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from ctgen.volume.io import read_volume
from tests.e2e.test_run import ctgen
from tests.unit.stages.tiny import read, stage_folder, write_recipe

CASES = tuple(f"scan{index}" for index in range(5))
HELD_OUT = (f"data.valid=[{','.join(CASES)}]", "sample.count=5")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A trained run with five held-out cases."""
    root = tmp_path_factory.mktemp("processes")
    write_recipe(root, count=6)
    done = ctgen(root, "run", "recipe.yaml", *HELD_OUT, "--until", "train", "--run-dir", "trained")
    assert done.returncode == 0, done.stderr
    return root


def sampled(world, name, *words, processes=1):
    """The sample folder of a copy of the trained run."""
    shutil.copytree(world / "trained", world / name)
    command = ["run", "recipe.yaml", *HELD_OUT, *words, "--from", "sample", "--until", "sample", "--run-dir", name]
    launcher = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"] if processes > 1 else []
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(
        [sys.executable, "-m", *launcher, "ctgen", *command],
        cwd=world,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return stage_folder(world / name, "sample")


@pytest.fixture(scope="module")
def alone(world):
    return sampled(world, "alone")


def test_two_processes_write_the_same_bytes(world, alone):
    shared = sampled(world, "two", processes=2)
    assert shared.name == alone.name
    for case_id in CASES:
        assert (shared / f"{case_id}.nii.gz").read_bytes() == (alone / f"{case_id}.nii.gz").read_bytes()
        one, two = (read(folder / f"{case_id}.json") for folder in (alone, shared))
        one.pop("seconds"), two.pop("seconds")
        assert one == two
    one, two = (read(folder / "stage.json")["summary"] for folder in (alone, shared))
    assert one["volumes"] == two["volumes"] == 5
    assert one["evaluations_per_volume"] == two["evaluations_per_volume"]
    assert not list(shared.glob(".*"))


def test_cases_denoised_together_are_the_same_to_one_hu(world, alone):
    together = sampled(world, "together", "sample.batch=4")
    assert together.name == alone.name  # the batch is in no fingerprint
    for case_id in CASES:
        one, four = (read_volume(folder / f"{case_id}.nii.gz") for folder in (alone, together))
        assert np.abs(one.hu.astype(int) - four.hu).max() <= 1
        assert np.array_equal(one.affine, four.affine)


def test_stages_after_it_say_how_to_go_on(world):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "ctgen"]
    done = subprocess.run(
        [*launcher, "run", "recipe.yaml", *HELD_OUT, "--from", "evaluate", "--run-dir", "alone"],
        cwd=world,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode != 0
    assert "stage evaluate runs in one process" in done.stderr
    assert "--until sample" in done.stderr


def test_generate_takes_a_batch(world):
    reports = "".join(f"case{index},Report number {index}.\n" for index in range(3))
    (world / "reports.csv").write_text("VolumeName,Findings_EN\n" + reports)
    words = ("generate", "trained", "--reports", "reports.csv", "--slices", "6")
    for batch in ("1", "3"):
        done = ctgen(world, *words, "--batch", batch, "-o", f"batch-{batch}")
        assert done.returncode == 0, done.stderr
    for index in range(3):
        one, three = (read_volume(world / f"batch-{batch}" / f"case{index}.nii.gz") for batch in "13")
        assert np.abs(one.hu.astype(int) - three.hu).max() <= 1
    again = ctgen(world, *words, "--batch", "1", "-o", "batch-3")
    assert again.stdout.count("kept") == 3
