"""kill -9 anywhere, run again: the same final result as uninterrupted, bit for bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ctgen.volume import Volume
from ctgen.volume.io import write_volume
from tests.e2e.plugins import MORTAL, MORTAL_PARTS, install

RECIPE = """
name: mortal
data: {use: mortal, root: SCANS, default_report: "Normal chest.", valid_fraction: 0.4}
prepare: {size: [8, 16, 16], spacing_mm: [10, 20, 20], min_depth_mm: 0, min_lung_fraction: 0}
autoencoder: {use: mortal, cell: 8}
text_encoder: hash-text
backbone: {use: tiny-conv}
schedule: linear-flow
rollout: whole-volume
objective: latent-flow
train: {steps: 12, lr: 1e-3, batch: 2, checkpoint_every: 4, log_every: 1, warmup_steps: 2}
sample: {steps: 3, count: 2}
metrics: [reconstruction, hu-histogram, mortal]
export: mortal
"""

MOMENTS = [
    "read:2",
    "encode:1",
    "encoded:3",
    "train:3",
    "train:6",
    "train:8",
    "sample:1",
    "exported:1",
    "evaluated:2",
    "report:1",
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("mortal")
    random = np.random.default_rng(0)
    for index in range(5):
        hu = random.normal(0, 200, (8, 16, 16)).clip(-1000, 1000).astype(np.int16)
        write_volume(Volume.canonical(hu, (10.0, 20.0, 20.0)), root / "scans" / f"scan{index}.nii.gz")
    site = install(root / "site", "mortal", MORTAL)
    (site / "mortal_parts.py").write_text(MORTAL_PARTS)
    (root / "recipe.yaml").write_text(RECIPE.replace("SCANS", str(root / "scans")))
    return {"root": root, "site": site, "recipe": root / "recipe.yaml"}


def start(world: dict[str, Path], run_dir: Path, kill: Path | None = None) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(world["site"]), "OMP_NUM_THREADS": "1"}
    if kill is not None:
        environment["CTGEN_TEST_KILL"] = str(kill)
    command = [sys.executable, "-m", "ctgen", "run", str(world["recipe"]), "--run-dir", str(run_dir)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def results(run_dir: Path) -> dict[str, bytes]:
    """Everything that must not depend on interruptions; times are left out."""
    found: dict[str, bytes] = {}
    for pattern in ("prepare-*/cases/*.npy", "encode-*/latents.h5", "train-*/final/*.safetensors", "sample-*/*.nii.gz"):
        for path in sorted(run_dir.glob(pattern)):
            found[str(path.relative_to(run_dir))] = path.read_bytes()
    for path in run_dir.glob("evaluate-*/metrics.json"):
        values = json.loads(path.read_text())["values"]
        found["metrics"] = json.dumps(
            {name: scores for name, scores in values.items() if name != "cost"}, sort_keys=True
        ).encode()
    for path in run_dir.glob("train-*/metrics.jsonl"):
        lines = [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in path.read_text().splitlines()]
        found["losses"] = json.dumps(lines, sort_keys=True).encode()
    return found


@pytest.fixture(scope="module")
def undisturbed(world: dict[str, Path]) -> dict[str, bytes]:
    process = start(world, world["root"] / "whole")
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    found = results(world["root"] / "whole")
    assert len(found) >= 5 + 1 + 1 + 2 + 2
    return found


def test_killed_in_every_stage(world: dict[str, Path], undisturbed: dict[str, bytes]) -> None:
    """One run is killed at ten moments, one after another, and goes on each time."""
    order = world["root"] / "order"
    run_dir = world["root"] / "killed"
    for moment in MOMENTS:
        order.write_text(moment)
        process = start(world, run_dir, order)
        output = process.communicate(timeout=300)[0]
        assert process.returncode == -signal.SIGKILL, f"{moment}: not killed\n{output}"
    process = start(world, run_dir)
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    assert "skipped" in output
    found = results(run_dir)
    assert found.keys() == undisturbed.keys()
    different = [name for name in found if found[name] != undisturbed[name]]
    assert not different


def test_sigterm_saves_and_says_how_to_go_on(world: dict[str, Path], undisturbed: dict[str, bytes]) -> None:
    run_dir = world["root"] / "terminated"
    process = start(world, run_dir)
    deadline = time.monotonic() + 120
    while not list(run_dir.glob("train-*/metrics.jsonl")) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=120)[0]
    # on a fast machine the run may have ended before the signal came
    assert process.returncode in (130, 0), output
    if process.returncode == 130:
        assert "interrupted" in output.lower() or "stopped" in output.lower()
    process = start(world, run_dir)
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    assert results(run_dir) == undisturbed
