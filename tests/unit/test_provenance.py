from __future__ import annotations

import json
import platform
from importlib import metadata

import pytest

from ctgen.host import Host
from ctgen.provenance import provenance, recipe_hash, versions
from ctgen.recipe import load_recipe
from ctgen.stages.components import build_components

RECIPE = """
name: small
data: {use: atlas-thorax, cases: 2}
prepare: {size: [16, 32, 32]}
autoencoder: {use: tiny-ae}
text_encoder: hash-text
backbone: {use: tiny-conv, width: 4, layers: 1}
schedule: linear-flow
rollout: ROLLOUT
objective: latent-flow
train: {seed: 3}
sample: {seed: 5}
"""


@pytest.fixture
def load(tmp_path):
    def read(*overrides, rollout="whole-volume"):
        path = tmp_path / "recipe.yaml"
        path.write_text(RECIPE.replace("ROLLOUT", rollout))
        return load_recipe(path, overrides, host=Host.discover())

    return read


def test_it_says_what_a_result_comes_from(load):
    recipe = load()
    found = provenance(recipe, build_components(recipe, data=False))
    assert found["recipe"] == "small"
    assert found["seeds"] == {"train": 3, "sample": 5}
    assert {section: entry["label"] for section, entry in found["weights"].items()} == {
        "autoencoder": "NONE",
        "text_encoder": "NONE",
        "backbone": "RANDOM",
    }
    assert found["device"].startswith("cpu (") or "cpu" not in found["device"]
    json.dumps(found, allow_nan=False)


def test_versions_are_those_installed(load):
    found = versions(load())
    assert found["python"] == platform.python_version()
    for name in ("ctgen-framework", "torch", "numpy", "SimpleITK"):
        assert found[name] == metadata.version(name)


def test_plugins_count_where_they_are_used(load):
    assert "ctgen-ctflow" not in versions(load())
    assert versions(load(rollout="slice-blocks"))["ctgen-ctflow"] == metadata.version("ctgen-ctflow")


def test_the_hash_follows_the_resolved_recipe(load):
    assert recipe_hash(load()) == recipe_hash(load("train.seed=3"))
    assert recipe_hash(load()) != recipe_hash(load("train.seed=4"))
    assert len(recipe_hash(load())) == 16
