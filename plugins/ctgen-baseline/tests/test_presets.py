"""The presets are valid, and say what the repository's recipes say."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctgen import Host, load_recipe

RECIPES = Path(__file__).parents[3] / "recipes"
HOST = Host.discover()


def test_the_preset_holds_the_latents_that_ctflow_has(tmp_path: Path) -> None:
    written = tmp_path / "r.yaml"
    written.write_text(f"extends: preset:baseline\ndata: {{use: folder, root: {tmp_path}}}\n", encoding="utf-8")
    sizes = load_recipe(written, host=HOST).sizes()
    assert (sizes.latent.channels, sizes.grid, sizes.block) == (16, (256, 32, 32), 256)


@pytest.mark.skipif(not RECIPES.is_dir(), reason="the recipes of the source tree are not here")
def test_recipes_agree() -> None:
    recipe = load_recipe(RECIPES / "baseline.yaml", host=HOST).as_dict()
    preset = load_recipe("preset:baseline-mini", host=HOST).as_dict()
    assert {key for key in recipe if recipe[key] != preset[key]} <= {"name"}
    trained = load_recipe(RECIPES / "mini" / "baseline.yaml", host=HOST).as_dict()
    assert trained["backbone"] == {**recipe["backbone"], "weights": "random"}
    # both networks are trained on the same cases, latents and texts
    ctflow = load_recipe(RECIPES / "mini" / "backbone.yaml", host=HOST).as_dict()
    for section in ("data", "prepare", "autoencoder", "text_encoder"):
        assert trained[section] == ctflow[section], section
