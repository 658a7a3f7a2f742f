from __future__ import annotations

from pathlib import Path

from ctgen_ctflow.configs import SIZES

from ctgen import Host, load_recipe


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
