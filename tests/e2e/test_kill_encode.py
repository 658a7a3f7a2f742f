"""kill -9 during encode, ten times at random moments: the cache equals an uninterrupted one, dataset by dataset."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from ctgen.testing import phantom
from ctgen.volume.io import write_volume

RECIPE = """
name: mortal
data: {use: folder, root: SCANS, default_report: "Normal chest."}
prepare: {size: [8, 16, 16], spacing_mm: [20, 20, 20], min_depth_mm: 0, min_lung_fraction: 0}
autoencoder: {use: tiny-ae, cell: 8}
text_encoder: hash-text
backbone: {use: tiny-conv}
schedule: linear-flow
rollout: whole-volume
objective: latent-flow
encode: {shard_cases: 3}
metrics: [reconstruction]
"""

# One process that has imported everything forks those that are killed: a start takes a moment and not seconds.
SCRIPT = """
import os, random, signal, sys, time
from ctgen.recipe import load_recipe
from ctgen.stages import encode, run

recipe, run_dir, kills, seed = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
moments = random.Random(seed)
real = encode.encode_slices

def slow(*arguments):
    time.sleep(0.02)
    return real(*arguments)

encode.encode_slices = slow
run(load_recipe(recipe), run_dir=run_dir, until="prepare")
killed = 0
while killed < kills:
    reads, writes = os.pipe()
    child = os.fork()
    if not child:
        begin = encode.run
        encode.run = lambda *arguments: (os.write(writes, b"x"), begin(*arguments))[1]
        run(load_recipe(recipe), run_dir=run_dir, until="encode")
        os._exit(0)
    os.close(writes)
    assert os.read(reads, 1) == b"x", "the child ended before it encoded"
    os.close(reads)
    time.sleep(moments.uniform(0.0, 0.12))
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status):
        break
    killed += 1
run(load_recipe(recipe), run_dir=run_dir, until="encode")
print(killed)
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mortal")
    for index in range(30):
        write_volume(phantom((8, 16, 16), (20.0, 20.0, 20.0), seed=index), root / "scans" / f"scan{index:02d}.nii.gz")
    (root / "recipe.yaml").write_text(RECIPE.replace("SCANS", str(root / "scans")))
    (root / "script.py").write_text(SCRIPT)
    return root / "script.py"


def encoded(script: Path, name: str, kills: int, seed: int = 0) -> tuple[int, dict[str, dict[str, np.ndarray]], Path]:
    """How often it was killed, case -> dataset -> values, and the folder."""
    root = script.parent
    command = [sys.executable, str(script), str(root / "recipe.yaml"), str(root / name), str(kills), str(seed)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (folder,) = (root / name).glob("encode-*")
    with h5py.File(folder / "latents.h5", "r") as file:
        cache = {case_id: {key: group[key][()] for key in group} for case_id, group in file.items()}
    return int(done.stdout.split()[-1]), cache, folder


def test_killed_ten_times_at_random_moments(script: Path) -> None:
    _, whole, _ = encoded(script, "whole", 0)
    killed, cache, folder = encoded(script, "killed", 10, seed=3)
    assert killed == 10
    assert list(cache) == list(whole) == [f"scan{index:02d}" for index in range(30)]
    for case_id, arrays in whole.items():
        assert arrays.keys() == cache[case_id].keys() >= {"mean", "tokens"}
        for name, values in arrays.items():
            assert values.dtype == cache[case_id][name].dtype
            np.testing.assert_array_equal(values, cache[case_id][name])
    # nothing is left lying about
    assert not (folder / "parts").exists()
    assert not list(folder.rglob(".writing-*"))
    assert len(list((folder / "shards").iterdir())) == 10
