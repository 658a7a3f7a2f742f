"""Sizes and identity of the STDiT's config."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ctgen_ctflow.configs import SIZES, StditConfig
from ctgen_ctflow.stdit import Stdit
from pydantic import ValidationError

from ctgen import Host, load_recipe
from ctgen.errors import RecipeError
from ctgen.interfaces import LatentSpec, TextSpec

PARAMETERS = {"S": 37_220_864, "B": 147_579_776, "L": 513_725_568}
"""At 16 latent channels and 768 text channels; that of L is published."""


@pytest.mark.parametrize("size", SIZES)
def test_a_size_is_its_numbers(size: str) -> None:
    named, written = StditConfig(size=size), StditConfig(**SIZES[size])
    assert {key: getattr(named, key) for key in SIZES[size]} == SIZES[size]
    assert named.identity() == written.identity() and "size" not in named.identity()
    assert StditConfig(size=size, **SIZES[size]).identity() == written.identity(), "the same numbers beside it are no mistake"
    with torch.device("meta"):
        network = Stdit(named, latent=LatentSpec(16, (1, 8, 8)), text=TextSpec(768, 512, 768))
    assert sum(parameter.numel() for parameter in network.parameters()) == PARAMETERS[size]


def test_a_size_and_other_numbers_contradict_each_other() -> None:
    with pytest.raises(
        ValidationError, match="layers: size S has 12, the recipe says 6; heads: size S has 6, the recipe says 8"
    ):
        StditConfig(size="S", layers=6, heads=8)
    with pytest.raises(ValidationError, match="'S', 'B' or 'L'"):
        StditConfig(size="XL")
    assert StditConfig(size=None, layers=3).layers == 3


def test_a_recipe_names_a_size_and_is_told_of_contradictions(tmp_path: Path) -> None:
    host, file = Host.discover(), tmp_path / "r.yaml"
    text = f"data: {{use: folder, root: {tmp_path}}}\nautoencoder: tiny-ae\ntext_encoder: hash-text\nschedule: flow-matching\n"
    text += "rollout: {use: slice-blocks, block: 4}\nobjective: latent-flow\nprepare: {size: [16, 64, 64]}\n"
    file.write_text(text + "backbone: {use: stdit, size: B, text: tokens}\n")
    recipe = load_recipe(file, host=host)
    assert recipe.backbone.config.width == 768
    again = tmp_path / "again.yaml"
    again.write_text(recipe.to_yaml())
    assert load_recipe(again, host=host).backbone == recipe.backbone
    assert load_recipe(file, ["backbone.size=S"], host=host).backbone.config.width == 384
    with pytest.raises(RecipeError, match="size B has 768, the recipe says 64"):
        load_recipe(file, ["backbone.width=64"], host=host)


def test_auto_is_correct_where_ctgen_made_the_weights() -> None:
    assert StditConfig().identity() == StditConfig(attention_transpose="correct").identity()
    assert StditConfig(weights="mini").identity()["attention_transpose"] == "correct"
    assert StditConfig(weights="/some/file").identity()["attention_transpose"] == "auto"
    assert StditConfig(attention_transpose="released").identity()["attention_transpose"] == "released"
