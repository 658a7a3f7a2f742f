"""The section extractors: components by key, named by metrics."""

from __future__ import annotations

import json

import pytest

from ctgen.errors import RecipeError
from ctgen.host import Host
from ctgen.recipe import load_recipe
from ctgen.recipe.schema import json_schema

HEAD = """\
data: {use: atlas-thorax}
objective: {use: latent-flow}
autoencoder: tiny-ae
text_encoder: hash-text
backbone: tiny-conv
schedule: linear-flow
rollout: whole-volume
"""
FEATURES = (
    HEAD
    + """\
extractors:
  plain: hu-stats
  whole: {use: hu-stats, unit: volume}
metrics:
- {use: frechet, features: plain, planes: 2.5d}
- {use: kid, features: whole}
"""
)


@pytest.fixture(scope="module")
def host():
    return Host.discover()


def written(folder, text, name="recipe.yaml"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def problems(path, host, overrides=()):
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, list(overrides), host=host)
    return {problem.key: problem for problem in caught.value.problems}


def test_extractors_are_components_by_key(host, tmp_path):
    recipe = load_recipe(written(tmp_path, FEATURES), [], host=host)
    assert {key: use.config.unit for key, use in recipe.extractors.items()} == {"plain": "slice", "whole": "volume"}
    assert dict(recipe.uses())["extractors.whole"].kind == "feature_extractor"
    assert recipe.build("extractors.whole").unit == "volume"
    again = load_recipe(written(tmp_path, recipe.to_yaml(), "again.yaml"), ["name=recipe"], host=host)
    assert again == recipe
    assert str(recipe.origin["extractors.whole.unit"]).startswith(str(tmp_path / "recipe.yaml"))


def test_a_layer_over_extractors(host, tmp_path):
    base = written(tmp_path, FEATURES, "base.yaml")
    child = f"extends: {base.name}\nextractors:\n  whole: {{waves: 2}}\n  more: hu-stats\n"
    recipe = load_recipe(written(tmp_path, child), ["extractors.more.unit=volume", "metrics.1.features=more"], host=host)
    assert recipe.extractors["whole"].config.waves == 2 and recipe.extractors["whole"].config.unit == "volume"
    assert recipe.extractors["more"].config.unit == "volume" and recipe.metrics[1].config.features == "more"
    without = load_recipe(base, ["extractors.whole=null", "metrics=[]"], host=host)
    assert list(without.extractors) == ["plain"]


def test_mistakes_are_told_where_they_are(host, tmp_path):
    text = FEATURES.replace("features: plain", "features: plane").replace("whole: {use: hu-stats", "whole: {use: hu-stat")
    found = problems(written(tmp_path, text), host)
    assert "plain" in found["metrics.0.features"].hint and found["metrics.0.features"].mark.line == 12
    assert "hu-stats" in found["extractors.whole.use"].hint
    assert "metrics.1.features" not in found, "its extractor is there, and has a problem of its own"
    found = problems(written(tmp_path, HEAD + "metrics: [{use: kid, features: clip}]"), host)
    assert "extractors: {clip: {use: NAME}}" in found["metrics.0.features"].hint
    found = problems(written(tmp_path, HEAD + "extractors: [hu-stats]"), host)
    assert "mapping" in found["extractors"].message
    found = problems(written(tmp_path, FEATURES), host, ["extractors.whole.wave=3"])
    assert "waves" in found["extractors.whole.wave"].hint


def test_schema_and_resolved_recipe(host, tmp_path):
    schema = json_schema(host, plugins=["builtin"])
    assert "hu-stats" in json.dumps(schema["properties"]["extractors"]["additionalProperties"])
    plain = load_recipe(written(tmp_path, HEAD), [], host=host)
    assert plain.extractors == {} and "extractors" not in plain.as_dict()
