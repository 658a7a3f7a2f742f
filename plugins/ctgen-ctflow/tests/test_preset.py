from __future__ import annotations

from pathlib import Path

import pytest
from ctgen_ctflow.configs import SIZES

from ctgen import Host, load_recipe
from ctgen.recipe import Recipe
from ctgen.sample.guidance import Guidance


def test_the_ct_rate_recipe_says_what_the_preset_says(tmp_path: Path) -> None:
    """It is written out with comments; its numbers must not drift away."""
    recipes = Path(__file__).parents[3] / "recipes"
    if not recipes.is_dir():
        pytest.skip("the recipes of the source tree are not here")
    host = Host.discover()
    written = load_recipe(recipes / "ctflow-ct-rate.yaml", host=host).as_dict()
    plain = tmp_path / "r.yaml"
    plain.write_text(f"extends: preset:ctflow\ndata: {{use: folder, root: {tmp_path}}}\n")
    preset = load_recipe(plain, host=host).as_dict()
    # what the published files say of themselves, needed to know sizes without them
    assert written["text_encoder"].pop("vocabulary_size") == 30522
    del preset["text_encoder"]["vocabulary_size"]
    different = {key for key in preset if written[key] != preset[key]}
    assert different == {"name", "data", "metrics"}
    differences = (written["schedule"]["sigma_min"], written["rollout"]["start_probability"], written["train"]["steps"])
    assert differences == (1e-5, 0.5, 1_000_000)


def test_the_preset_is_the_published_model(tmp_path: Path) -> None:
    recipe_file = tmp_path / "r.yaml"
    recipe_file.write_text(f"extends: preset:ctflow\ndata: {{use: folder, root: {tmp_path}}}\n")
    recipe = load_recipe(recipe_file, host=Host.discover())
    backbone = recipe.backbone.config.model_dump()
    assert {key: backbone[key] for key in SIZES["L"]} == SIZES["L"]
    sizes = recipe.sizes()
    assert (sizes.latent.channels, sizes.grid, sizes.block) == (16, (256, 32, 32), 16)
    assert (sizes.text.width, sizes.text.pooled_width, sizes.text.max_tokens) == (768, 768, 512)
    assert recipe.train.decay == "inverse-sqrt" and recipe.sample.steps == 200 and recipe.sample.length == "model"


def evaluations(recipe: Recipe, depth: int) -> int:
    """Of the network, for a volume of ``depth`` latent slices."""
    use, sample, rollout = recipe.use("schedule"), recipe.sample, recipe.rollout.config
    schedule = recipe.host.build("schedule", use.name, use.config)
    guidance = Guidance(sample.guidance, sample.guidance_interval, sample.guidance_method)
    times = schedule.sampling_times(sample.steps, 0)[:-1].tolist()
    assert sample.solver in ("euler", "dpm"), "one evaluation per step"
    blocks = 1 + -(-(depth - rollout.block) // rollout.step)
    return blocks * sum(1 + guidance.applies(time) for time in times)


def test_plus_makes_a_volume_with_a_quarter_of_the_evaluations_and_the_same_weights(tmp_path: Path) -> None:
    recipes = []
    for name in ("ctflow-mini", "ctflow-plus-mini"):
        file = tmp_path / f"{name}.yaml"
        file.write_text(f"extends: preset:{name}\n", encoding="utf-8")
        recipes.append(load_recipe(file, host=Host.discover()))
    plain, plus = recipes
    assert evaluations(plain, 96) == 150
    assert evaluations(plus, 96) <= 150 / 4
    for section in ("autoencoder", "text_encoder", "backbone", "schedule"):
        assert plain.use(section) == plus.use(section), section
    trained = plus.rollout.config.train_blocks
    assert plain.rollout.config.block in trained
    assert min(abs(plus.rollout.config.block - length) for length in trained) <= 4
