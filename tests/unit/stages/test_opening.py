"""Opening a trained run to generate with it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ctgen.atomic import read_json, write_json
from ctgen.errors import CheckpointError, MissingFileError, StageError
from ctgen.recipe import load_recipe
from ctgen.stages import open_run, run
from ctgen.stages.components import build, checkpoint_file, restore
from ctgen.stages.sample import composed

from .tiny import Said, load, stage_folder, write_recipe


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("opening")
    path = write_recipe(root, count=3)
    run(load(path), run_dir=root / "run", until="train")
    return path


@pytest.fixture
def copied(trained, tmp_path):
    return trained, Path(shutil.copytree(trained.parent / "run", tmp_path / "run"))


def test_the_trained_weights_are_used(copied):
    path, run_dir = copied
    context = open_run(load(path), run_dir, Said())
    folder = stage_folder(run_dir, "train")
    assert context.folders == {"train": folder}
    generator = composed(context)
    state = load_file(folder / "final" / "backbone.safetensors")
    assert all(torch.equal(value, state[key]) for key, value in generator.backbone.state_dict().items())
    weights = generator.backbone.weights
    assert (weights.label, weights.source) == ("TRAINED", "4 steps from RANDOM (random initialisation)")
    assert weights.sha256 == read_json(folder / "summary.json")["weights_sha256"]


def test_the_scans_need_not_be_there(copied):
    """A run folder is copied to another machine, or a scan is added: the model is the same."""
    _, run_dir = copied
    recipe = load_recipe(run_dir / "recipe.yaml", [f"data.root={run_dir}/nowhere"])
    assert open_run(recipe, run_dir, Said()).folders["train"] == stage_folder(run_dir, "train")


def test_how_it_samples_does_not_matter(copied):
    path, run_dir = copied
    assert open_run(load(path, "sample.steps=9", "report.slices=1"), run_dir, Said()).folders


@pytest.mark.parametrize("override", ["train.steps=5", "backbone.layers=2", "autoencoder.cell=4", "rollout.block=2"])
def test_another_model_is_not_taken_for_it(copied, override):
    path, run_dir = copied
    with pytest.raises(StageError, match="not finished with this recipe") as caught:
        open_run(load(path, override), run_dir, Said())
    assert f"ctgen run {path} --run-dir {run_dir}" in caught.value.hint
    assert str(stage_folder(run_dir, "train")) in caught.value.hint


def test_unfinished_training_is_no_model(copied):
    path, run_dir = copied
    (stage_folder(run_dir, "train") / "stage.json").unlink()
    with pytest.raises(StageError, match="not finished"):
        open_run(load(path), run_dir, Said())


def test_the_newest_of_several_is_taken(copied):
    path, run_dir = copied
    first = stage_folder(run_dir, "train")
    second = Path(shutil.copytree(first, run_dir / "train-00000000"))
    for folder, when in ((first, 100), (second, 200)):
        os.utime(folder / "stage.json", ns=(when, when))
    assert open_run(load(path), run_dir, Said()).folders["train"] == second
    os.utime(first / "stage.json", ns=(300, 300))
    assert open_run(load(path), run_dir, Said()).folders["train"] == first


def test_a_recipe_that_cannot_be_read_any_more_is_passed_over(copied):
    path, run_dir = copied
    old = run_dir / "train-00000000"
    old.mkdir()
    (old / "recipe.yaml").write_text("name: old\nbackbone: gone\n")
    write_json(old / "stage.json", {"stage": "train"})
    assert open_run(load(path), run_dir, Said()).folders["train"] != old


def test_other_weights_beside_the_model_are_an_error(copied):
    path, run_dir = copied
    summary = stage_folder(run_dir, "train") / "summary.json"
    write_json(summary, {**read_json(summary), "beside": {"autoencoder": "0" * 64, "text_encoder": ""}})
    with pytest.raises(StageError, match="the weights of autoencoder have changed since"):
        open_run(load(path), run_dir, Said())


def test_weights_of_another_shape_are_one_error_with_the_differences(trained):
    backbone = build(load(trained, "backbone.width=8"), "backbone")
    folder = stage_folder(trained.parent / "run", "train")
    with pytest.raises(CheckpointError, match=r"\d+ differences, first: .*file \(.*here \("):
        restore(backbone, folder / "final" / "backbone.safetensors")


def test_training_may_start_from_another_runs_stage_folder(trained, tmp_path):
    folder = stage_folder(trained.parent / "run", "train")
    recipe = load(trained, f"train.init={folder}")
    backbone = build(recipe, "backbone")
    state = load_file(folder / "final" / "backbone.safetensors")
    assert all(torch.equal(value, state[key]) for key, value in backbone.state_dict().items())
    assert backbone.weights.label == "FILE"
    newest = sorted((folder / "checkpoints").iterdir())[-1]
    assert checkpoint_file(newest).name == "ema.safetensors"


def test_with_another_start_the_components_own_weights_need_not_be_there(trained, tmp_path):
    folder = stage_folder(trained.parent / "run", "train")
    backbone = build(load(trained, f"backbone.weights={tmp_path}/gone.safetensors", f"train.init={folder}"), "backbone")
    assert backbone.weights.label == "FILE"


def test_a_start_that_is_not_there_is_an_error_before_any_work(trained, tmp_path):
    with pytest.raises(MissingFileError, match=r"train\.init: no weights at"):
        run(load(trained, f"train.init={tmp_path}/none"), run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_init_none_ignores_what_the_component_has(tmp_path, trained):
    weights = stage_folder(trained.parent / "run", "train") / "final" / "backbone.safetensors"
    kept = build(load(trained, f"backbone.weights={weights}"), "backbone")
    fresh = build(load(trained, f"backbone.weights={weights}", "train.init=none"), "backbone")
    plain = build(load(trained), "backbone")
    state = load_file(weights)
    assert all(torch.equal(value, state[key]) for key, value in kept.state_dict().items())
    assert all(torch.equal(value, plain.state_dict()[key]) for key, value in fresh.state_dict().items())
    assert fresh.weights.label == "RANDOM"
