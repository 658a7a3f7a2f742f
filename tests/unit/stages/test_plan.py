"""Fingerprints change exactly with what matters."""

from __future__ import annotations

import os

import pytest
import torch
from safetensors.torch import save_file

from ctgen.atomic import write_json
from ctgen.host import Host
from ctgen.stages.components import build_components
from ctgen.stages.plan import STAGES, fingerprints, finished, folder_of, same_model, stages_of

from .tiny import RECIPE, load, write_recipe, write_scans

HOST = Host.discover()
FROM = {stage: set(STAGES[index:]) for index, stage in enumerate(STAGES)} | {"nothing": set()}


@pytest.fixture(scope="module")
def recipe_path(tmp_path_factory):
    return write_recipe(tmp_path_factory.mktemp("plan"), count=2)


def prints(path, *overrides):
    recipe = load(path, *overrides, host=HOST)
    return fingerprints(recipe, build_components(recipe))


@pytest.fixture(scope="module")
def plain(recipe_path):
    return prints(recipe_path)


@pytest.mark.parametrize(
    ("override", "first"),
    [
        ("data.default_report=Other.", "prepare"),
        ("data.valid_fraction=0.5", "prepare"),
        ("prepare.size=[8,24,16]", "prepare"),
        ("prepare.min_depth_mm=90", "prepare"),
        ("prepare.workers=3", "nothing"),
        ("autoencoder.channels=5", "encode"),
        ("text_encoder.width=12", "encode"),
        ("encode.batch_slices=2", "nothing"),
        ("encode.check_cases=1", "encode"),
        ("backbone.layers=2", "train"),
        ("schedule.shift=2", "train"),
        ("schedule=linear-flow", "train"),
        ("rollout.block=2", "train"),
        ("objective.text_dropout=0.3", "train"),
        ("train.steps=5", "train"),
        ("train.lr=2e-3", "train"),
        ("train.seed=1", "train"),
        ("train.log_every=7", "nothing"),
        ("train.checkpoint_every=7", "nothing"),
        ("train.keep_checkpoints=7", "nothing"),
        ("train.workers=1", "nothing"),
        ("sample.steps=3", "sample"),
        ("sample.solver=heun", "sample"),
        ("sample.seed=1", "sample"),
        ("sample.count=1", "sample"),
        ("export=mha", "sample"),
        ("evaluate.count=3", "evaluate"),
        ("metrics=[cost]", "evaluate"),
        ("report.slices=3", "report"),
        ("report.window=lung", "report"),
        ("name=other", "nothing"),
    ],
)
def test_a_field_changes_its_stage_and_those_after_it(recipe_path, plain, override, first):
    changed = prints(recipe_path, override)
    assert {stage for stage in STAGES if changed[stage] != plain[stage]} == FROM[first]


def test_they_are_the_same_each_time(recipe_path, plain):
    assert prints(recipe_path) == plain
    assert len(set(plain.values())) == len(STAGES)


def test_a_recipe_written_another_way_is_the_same(recipe_path, plain, tmp_path):
    resolved = tmp_path / "resolved.yaml"
    resolved.write_text(load(recipe_path, host=HOST).to_yaml(), encoding="utf-8")
    assert prints(resolved) == plain
    assert prints(recipe_path, "train.steps=4", "backbone=builtin:tiny-conv", "backbone.width=4", "backbone.layers=1") == plain


def test_weights_count_by_their_content(recipe_path, plain, tmp_path):
    recipe = load(recipe_path, host=HOST)
    state = build_components(recipe, data=False)["autoencoder"].state_dict()
    for name, factor in (("one", 1.0), ("copy", 1.0), ("two", 2.0)):
        save_file({key: value * factor for key, value in state.items()}, tmp_path / f"{name}.safetensors")
    one, copy, two = (
        prints(recipe_path, f"autoencoder.weights={tmp_path}/{name}.safetensors") for name in ("one", "copy", "two")
    )
    assert one == copy
    assert {stage for stage in STAGES if one[stage] != two[stage]} == FROM["encode"]
    assert {stage for stage in STAGES if one[stage] != plain[stage]} == FROM["encode"]


def test_initial_weights_of_the_trained_network_count_from_train_on(recipe_path, plain, tmp_path):
    state = build_components(load(recipe_path, host=HOST), data=False)["backbone"].state_dict()
    save_file(state, tmp_path / "net.safetensors")
    loaded = prints(recipe_path, f"backbone.weights={tmp_path}/net.safetensors")
    assert {stage for stage in STAGES if loaded[stage] != plain[stage]} == FROM["train"]


def test_the_bytes_of_the_data_set_count(tmp_path):
    path = write_recipe(tmp_path, count=2)
    first = prints(path)
    file = tmp_path / "scans" / "scan0.nii.gz"
    assert prints(path) == first
    os.utime(file, ns=(1, 1))
    touched = prints(path)
    assert touched["prepare"] != first["prepare"]
    write_scans(tmp_path / "scans", 3)
    assert prints(path)["prepare"] not in (first["prepare"], touched["prepare"])


def test_a_data_set_may_say_what_its_bytes_are(recipe_path):
    class Bytes:
        ids = ("a",)

        def __init__(self, text):
            self.text = text

        def fingerprint(self):
            return self.text

    recipe = load(recipe_path, host=HOST)
    parts = build_components(recipe)
    first, same, other = (fingerprints(recipe, {**parts, "data": Bytes(text)}) for text in ("x", "x", "y"))
    assert first == same
    assert first["prepare"] != other["prepare"]


def test_another_version_of_a_plugin_is_another_result(recipe_path, plain):
    host = Host.discover()
    (record,) = (record for record in host.plugins if record.name == "ctflow")
    record.version = "99.0"
    recipe = load(recipe_path, host=host)
    changed = fingerprints(recipe, build_components(recipe))
    # its schedule and rollout are used, its data sets and codecs are not
    assert {stage for stage in STAGES if changed[stage] != plain[stage]} == FROM["train"]


def test_upstream_changes_reach_every_later_stage(recipe_path, plain):
    changed = prints(recipe_path, "prepare.fill_hu=-900")
    assert not set(changed.values()) & set(plain.values())


@pytest.mark.parametrize(
    ("objective", "needed"),
    [
        ("a-vae", ("prepare", "train", "evaluate", "report")),
        ("latent-flow", STAGES),
    ],
)
def test_an_objective_calls_for_the_stages_it_needs(tmp_path, objective, needed):
    path = write_recipe(tmp_path, RECIPE.replace("latent-flow", objective), count=1)
    assert stages_of(load(path, host=HOST)) == needed


def test_a_stage_is_finished_with_its_own_fingerprint_only(tmp_path):
    folder = folder_of(tmp_path, "train", {"train": "0123456789abcdef"})
    assert folder == tmp_path / "train-01234567"
    assert not finished(folder, "0123456789abcdef")
    write_json(folder / "stage.json", {"fingerprint": "0123456789abcdef"})
    assert finished(folder, "0123456789abcdef")
    # the folder's name holds eight digits only
    assert not finished(folder, "01234567ffffffff")


@pytest.mark.parametrize(
    ("override", "same"),
    [
        ("data.default_report=Other.", True),
        ("sample.steps=7", True),
        ("report.slices=3", True),
        ("train.log_every=3", True),
        ("train.steps=7", False),
        ("backbone.layers=2", False),
        ("autoencoder.channels=5", False),
        ("prepare.size=[8,24,16]", False),
        ("rollout.block=2", False),
    ],
)
def test_one_model_whatever_it_was_shown_and_is_used_for(recipe_path, override, same):
    assert same_model(load(recipe_path, host=HOST), load(recipe_path, override, host=HOST)) is same


def test_building_components_leaves_the_global_generator_alone(recipe_path):
    torch.manual_seed(5)
    expected = torch.randn(3)
    torch.manual_seed(5)
    build_components(load(recipe_path, host=HOST))
    assert torch.equal(torch.randn(3), expected)
