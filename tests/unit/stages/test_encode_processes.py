"""Encoding under torchrun: two processes, one cache, the same as one process makes; and half precision."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from ctgen.data.latent_stats import case_stats, half_warning, together
from ctgen.interfaces import Posterior
from ctgen.stages import run

from .test_growing import TEXT, assert_same_cache
from .tiny import load, read, stage_folder, write_recipe


def torchrun(recipe, run_dir, *arguments):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "ctgen", "run"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, str(recipe), "--run-dir", str(run_dir), *arguments],
        env=environment, capture_output=True, text=True, timeout=240,
    )  # fmt: skip


@pytest.mark.slow
def test_two_processes_make_the_cache_of_one(tmp_path):
    recipe = write_recipe(tmp_path, TEXT, count=5)
    for name in ("one", "two"):
        run(load(recipe), run_dir=tmp_path / name, until="prepare")
    run(load(recipe), run_dir=tmp_path / "one", until="encode")
    done = torchrun(recipe, tmp_path / "two", "--from", "encode", "--until", "train")
    assert done.returncode == 0, done.stderr
    one, two = (stage_folder(tmp_path / name, "encode") for name in ("one", "two"))
    assert_same_cache(one, two)
    assert read(one / "manifest.json") == read(two / "manifest.json")
    assert sorted(path.name for path in (one / "shards").iterdir()) == sorted(path.name for path in (two / "shards").iterdir())
    assert not (two / "parts").exists()
    assert stage_folder(tmp_path / "two", "train").joinpath("stage.json").is_file()
    # resumed with another number of processes after it was broken off between two shards
    (two / "stage.json").unlink()
    (two / "manifest.json").unlink()
    (two / "latents.h5").unlink()
    sorted((two / "shards").iterdir())[0].unlink()
    run(load(recipe), run_dir=tmp_path / "two", until="encode")
    assert_same_cache(one, two)


def test_statistics_add_up_over_cases():
    generator = torch.Generator().manual_seed(0)
    whole = torch.randn((1, 3, 10, 4, 4), generator=generator) * torch.tensor([1.0, 2.0, 3.0]).reshape(1, 3, 1, 1, 1) + 5
    logvar = torch.full_like(whole, -2.0)
    parts = [Posterior(part, var) for part, var in zip(whole.split(5, dim=2), logvar.split(5, dim=2), strict=True)]
    found = together([case_stats(part) for part in parts])
    assert found["latent_mean"] == pytest.approx(whole.mean().item(), rel=1e-4)
    assert found["latent_std"] == pytest.approx(whole.std(unbiased=False).item(), rel=1e-4)
    wanted = whole[0].flatten(1)
    assert found["by_channel"]["mean"] == pytest.approx(wanted.mean(1).tolist(), rel=1e-4)
    assert found["by_channel"]["std"] == pytest.approx(wanted.std(1, unbiased=False).tolist(), rel=1e-4)
    error = (whole - whole.half().float()).square().mean().sqrt().item()
    assert found["half"]["rounding"] == pytest.approx(error / whole.std(unbiased=False).item(), rel=1e-3)
    assert found["half"]["rounding_to_noise"] == pytest.approx(error / torch.tensor(-1.0).exp().item(), rel=1e-3)
    assert found["half"]["flushed"] == 0
    assert half_warning(found) == ""


@pytest.mark.parametrize(("mean", "says"), [(1e-8, "turns 100.0% of them to 0"), (2000.0, "changes the latents by")])
def test_what_half_precision_costs_is_said(mean, says):
    values = torch.randn((1, 2, 4, 8, 8), generator=torch.Generator().manual_seed(0)) * (1e-9 if mean < 1 else 0.5) + mean
    assert says in half_warning(together([case_stats(Posterior(values))]))
