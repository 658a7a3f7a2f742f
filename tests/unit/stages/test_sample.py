"""The sample and evaluate stages: lengths, heads, resuming, what is scored."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from ctgen.atomic import sha256_of
from ctgen.errors import ConfigError, RecipeError
from ctgen.stages import run
from ctgen.volume.io import read_volume

from .tiny import load, read, snapshot, stage_folder, write_recipe

HELD_OUT = "data.valid=[scan0,scan1,scan2]"


@pytest.fixture(scope="module")
def recipe_path(tmp_path_factory):
    return write_recipe(tmp_path_factory.mktemp("sample"), count=5)


@pytest.fixture(scope="module")
def trained(recipe_path):
    run_dir = recipe_path.parent / "run"
    run(load(recipe_path, HELD_OUT), run_dir=run_dir, until="train")
    return run_dir


@pytest.fixture
def sample(recipe_path, trained, tmp_path):
    """A call that samples in a copy of the trained run and returns the sample folder."""
    run_dir = Path(shutil.copytree(trained, tmp_path / "run"))

    def go(*overrides, until="sample"):
        return run(load(recipe_path, HELD_OUT, *overrides), run_dir=run_dir, until=until).folders[until]

    return go


def test_a_json_tells_how_each_volume_was_made(sample):
    folder = sample("sample.count=3", "sample.seed=4")
    assert sorted(path.name for path in folder.glob("*.nii.gz")) == ["scan0.nii.gz", "scan1.nii.gz", "scan2.nii.gz"]
    facts = read(folder / "scan1.json")
    assert facts["id"] == "scan1"
    assert facts["synthetic"] is True
    assert facts["seed"] == 4
    assert facts["sha256"] == sha256_of(folder / "scan1.nii.gz")
    assert facts["report"]["findings"] == "Normal chest."
    assert facts["provenance"]["weights"]["backbone"]["label"] == "TRAINED"
    assert facts["shape"] == [8, 16, 16]
    summary = read(folder / "stage.json")["summary"]
    assert summary["volumes"] == 3
    assert summary["evaluations_per_volume"] == 4.0


def test_a_case_is_the_same_whatever_is_sampled_with_it(sample):
    many, few = sample("sample.count=3"), sample("sample.count=1")
    assert many != few
    assert (many / "scan0.nii.gz").read_bytes() == (few / "scan0.nii.gz").read_bytes()


def test_finished_volumes_are_kept_and_half_finished_ones_made_again(sample):
    folder = sample("sample.count=3")
    whole = snapshot(folder)
    (folder / "stage.json").unlink()
    (folder / "scan1.json").unlink()
    (folder / "scan1.nii.gz").write_bytes(b"half")
    (folder / "scan2.json").unlink()
    (folder / "scan2.nii.gz").unlink()
    sample("sample.count=3")
    again = snapshot(folder)
    for name in ("scan0.nii.gz", "scan0.json"):
        assert again[name] == whole[name]
    for name in ("scan1.nii.gz", "scan2.nii.gz"):
        assert again[name][0] == whole[name][0]


def test_lengths(sample):
    assert read_volume(sample("sample.length=5", "sample.count=1") / "scan0.nii.gz").shape[0] == 5
    folder = sample("sample.length=model", "rollout.max_blocks=20", "sample.count=1")
    facts = read(folder / "scan0.json")
    assert facts["note"]
    assert read(folder / "stage.json")["summary"]["notes"] == [facts["note"]]


def test_heads_of_the_real_cases_are_continued(sample):
    folder = sample("sample.mode=gt-head", "sample.count=1")
    facts = read(folder / "scan0.json")
    assert facts["head_slices"] == 4
    prepared = stage_folder(folder.parent, "prepare")
    made = read_volume(folder / "scan0.nii.gz")
    assert np.allclose(made.affine, read(prepared / "cases" / "scan0.json")["affine"])
    real = np.load(prepared / "cases" / "scan0.npy")[:4]
    assert np.corrcoef(real.ravel(), made.hu[:4].ravel())[0, 1] > 0.6


def test_block_wise_follows_the_real_cases(sample):
    folder = sample("sample.mode=block-wise", "sample.count=2")
    facts = [read(folder / f"scan{number}.json") for number in range(2)]
    assert all(one["mode"] == "block-wise" and one["head_slices"] == 0 and one["shape"] == [8, 16, 16] for one in facts)
    prepared = stage_folder(folder.parent, "prepare")
    assert np.allclose(read_volume(folder / "scan0.nii.gz").affine, read(prepared / "cases" / "scan0.json")["affine"])
    free = read_volume(sample("sample.count=1") / "scan0.nii.gz").hu
    # the first block has no slices below it in either mode; the second has real ones here
    made = read_volume(folder / "scan0.nii.gz").hu
    assert np.array_equal(made[:4], free[:4]) and not np.array_equal(made[4:], free[4:])


def test_heads_without_their_mode_are_refused(recipe_path):
    with pytest.raises(RecipeError, match="head_blocks is for mode gt-head"):
        load(recipe_path, "sample.head_blocks=2")


def test_a_head_as_long_as_the_case_is_an_error_with_numbers(sample):
    with pytest.raises(ConfigError, match=r"8 slices of 20 mm were asked for, but the head alone has 8"):
        sample("sample.mode=gt-head", "sample.head_blocks=2")


def test_evaluation_covers_held_out_cases_and_what_was_generated(sample):
    folder = sample("sample.count=1", "evaluate.count=2", until="evaluate")
    assert sorted(path.name for path in (folder / "reconstructed").iterdir()) == ["scan0.nii.gz", "scan1.nii.gz"]
    assert read(folder / "stage.json")["summary"] == {"cases": 2, "generated": 1}
    values = read(folder / "metrics.json")["values"]
    assert values["reconstruction"]["psnr_db"]["n"] == 2
    assert values["cost"]["seconds_per_volume"]["n"] == 1


def test_another_format(sample):
    folder = sample("export=mha", "sample.count=1", until="report")
    run_dir = folder.parent
    assert (stage_folder(run_dir, "sample") / "scan0.mha").is_file()
    assert (folder / "report.html").is_file()


def test_the_same_metric_twice_with_other_settings(sample):
    metrics = "metrics=[hu-histogram, {use: hu-histogram, window_hu: [-100, 100]}]"
    values = read(sample(metrics, "sample.count=1", until="evaluate") / "metrics.json")["values"]
    assert list(values) == ["hu-histogram", "hu-histogram #2"]
    assert values["hu-histogram"] != values["hu-histogram #2"]
