"""Reading right recipes: layers, overrides, provenance, the resolved recipe."""

from __future__ import annotations

import pytest

from ctgen.errors import ConfigError, RecipeError
from ctgen.interfaces import LatentSpec, TextSpec
from ctgen.recipe import load_recipe


def write(folder, name, text):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def messages(caught):
    return [str(found) for found in caught.value.problems]


def test_a_recipe_has_typed_sections(host, full):
    recipe = load_recipe(full, host=host)
    assert recipe.name == "full"
    assert (recipe.data.name, recipe.data.kind, recipe.data.config.cases) == ("scans", "dataset", 4)
    assert recipe.text_encoder.name == "reader"
    assert recipe.export.name == "nifti"
    assert [use.name for use in recipe.metrics] == ["score", "other-score"]
    assert recipe.metrics[1].config.bins == 16
    assert recipe.train.lr == 1e-4 and recipe.train.steps == 40 and recipe.train.precision == "no"
    sizes = recipe.sizes()
    assert (sizes.grid, sizes.block, sizes.latent, sizes.text) == ((16, 8, 8), 8, LatentSpec(4, (1, 8, 8)), TextSpec(32, 16))


def test_identity_names_the_plugin_and_leaves_neutral_fields_out(host, full):
    use = load_recipe(full, ["data.cache=no"], host=host).data
    assert use.identity() == {"use": "fakes:scans", "cases": 4, "root": "scans", "pattern": None}
    assert "workers" not in load_recipe(full, host=host).prepare.identity()


def test_the_resolved_recipe_repeats_the_run(host, full, tmp_path):
    overrides = [
        "train.lr=3e-05",
        "train.weight_decay=0",
        "data.root=no",
        "data.pattern='12'",
        "sample.length=40",
        "metrics.0.weights={a: 1e-9}",
    ]
    recipe = load_recipe(full, [*overrides, "metrics.1.part.names=[yes, '1e-4', 'null']"], host=host)
    again = load_recipe(write(tmp_path, "other/recipe.yaml", recipe.to_yaml()), host=host)
    assert again == recipe
    assert again.name == "full"
    assert again.data.config.root == "no" and again.data.config.pattern == "12" and again.sample.length == 40
    assert again.metrics[1].config.part.names == ["yes", "1e-4", "null"]
    assert again.to_yaml() == recipe.to_yaml()
    assert load_recipe(full, ["train.lr=4e-05"], host=host) != recipe


def test_a_child_changes_what_it_says_and_keeps_the_rest(host, full, tmp_path):
    child = write(
        tmp_path, "below/child.yaml", "extends: ../full.yaml\nbackbone: {width: 128}\ntrain: {steps: 7}\nmetrics: [score]\n"
    )
    recipe = load_recipe(child, host=host)
    assert recipe.name == "child"
    assert (recipe.backbone.config.width, recipe.backbone.config.depth) == (128, 2)
    assert (recipe.train.steps, recipe.train.lr) == (7, 1e-4)
    assert len(recipe.metrics) == 1


def test_a_changed_use_drops_the_parents_fields(host, full, tmp_path):
    child = write(tmp_path, "child.yaml", "extends: full.yaml\nbackbone: other-net\ndata: {use: simulated, seed: 3}\n")
    recipe = load_recipe(child, host=host)
    assert recipe.backbone.config.model_dump() == {"layers": 2}
    assert recipe.data.config.seed == 3
    same = write(tmp_path, "same.yaml", "extends: full.yaml\nbackbone: 'fakes:net'\n")
    assert load_recipe(same, host=host).backbone.config.depth == 2, "the same component by its longer name"


def test_null_removes_a_component_and_an_empty_settings_section_changes_nothing(host, full, tmp_path):
    text = "extends: full.yaml\nobjective: codec-training\nbackbone: ~\nmetrics: ~\ntrain:\n"
    recipe = load_recipe(write(tmp_path, "child.yaml", text), host=host)
    assert recipe.backbone is None and recipe.metrics == ()
    assert recipe.train.steps == 40
    with pytest.raises(ConfigError, match="no component section 'backbone'"):
        recipe.use("backbone")


def test_only_what_the_objective_needs_is_required(host, tmp_path):
    path = write(tmp_path, "codec.yaml", "data: scans\nautoencoder: codec\nobjective: codec-training\n")
    recipe = load_recipe(path, host=host)
    assert recipe.backbone is None and recipe.rollout is None
    sizes = recipe.sizes()
    assert sizes.block == sizes.grid[0] and sizes.text.width == 0


def test_overrides_win_and_their_order_does_not_matter_for_use(host, full):
    for words in (
        ["data.seed=9", "data.use=simulated"],
        ["data.use=simulated", "data.seed=9"],
        ["data.seed=9", "data=simulated"],
    ):
        assert load_recipe(full, words, host=host).data.config.seed == 9
    recipe = load_recipe(
        full, ["prepare.size=[8, 64, 64]", "train.steps=1", "train.steps=2", "train.ema_warmup=off"], host=host
    )
    assert recipe.prepare.size == (8, 64, 64) and recipe.train.steps == 2 and recipe.train.ema_warmup is False
    assert load_recipe(full, ["data.root=a=b"], host=host).data.config.root == "a=b"
    assert load_recipe(full, ["name=trial-2"], host=host).name == "trial-2"


def test_metrics_by_index_or_whole(host, full):
    recipe = load_recipe(full, ["metrics.1.bins=5", "metrics.0=other-score"], host=host)
    assert [(use.name, use.config.bins) for use in recipe.metrics] == [("other-score", 64), ("other-score", 5)]
    recipe = load_recipe(full, ["metrics.1.use=score"], host=host)
    assert recipe.metrics[1].config.bins == 64, "another metric does not inherit fields"
    recipe = load_recipe(full, ["metrics=[{use: score, bins: 3}]", "metrics.0.part.weight=2"], host=host)
    assert (recipe.metrics[0].config.bins, recipe.metrics[0].config.part.weight) == (3, 2.0)
    assert load_recipe(full, ["metrics=[]"], host=host).metrics == ()


def test_every_value_knows_where_it_came_from(fakes, host, full, tmp_path, monkeypatch):
    fakes.with_preset(
        host,
        tmp_path / "packages",
        monkeypatch,
        "base",
        "name: their-name\nreport: {slices: 3}\nschedule: {use: path, shift: 2}\n",
    )
    base = write(tmp_path, "full.yaml", "extends: preset:base\n" + full.read_text())
    child = write(tmp_path, "child.yaml", "extends: full.yaml\ntrain: {steps: 7}\n")
    recipe = load_recipe(child, ["train.batch=2", "metrics.1.bins=3"], host=host)
    assert recipe.name == "child"
    shown = {key: str(mark) for key, mark in recipe.origin.items()}
    assert shown["train.steps"] == f"{child}:2:16"
    assert shown["train.lr"] == f"{base}:13:7"
    assert shown["train.batch"] == "command line"
    assert shown["train.seed"] == "default"
    assert shown["report.slices"] == "preset:base:2:18"
    assert shown["backbone.use"] == f"{base}:5:17"
    assert shown["metrics.0.use"] == f"{base}:9:11"
    assert shown["metrics.1.bins"] == "command line"
    assert shown["prepare.size"] == f"{base}:10:17"
    assert shown["export.use"] == "default" and shown["name"] == "default"


def test_a_preset_can_be_run_and_extended(fakes, host, full, tmp_path, monkeypatch):
    fakes.with_preset(host, tmp_path / "one", monkeypatch, "base", full.read_text())
    fakes.with_preset(host, tmp_path / "two", monkeypatch, "longer", "extends: preset:base\ntrain: {steps: 99}\n")
    recipe = load_recipe("preset:longer", host=host)
    assert (recipe.name, recipe.source, recipe.train.steps, recipe.backbone.config.depth) == ("longer", "preset:longer", 99, 2)
    assert str(recipe.origin["train.lr"]) == "preset:base:12:7"


@pytest.mark.parametrize(
    ("files", "chain"),
    [
        ({"a": "a"}, "a.yaml -> a.yaml"),
        ({"a": "b", "b": "c", "c": "b"}, "b.yaml -> c.yaml -> b.yaml"),
    ],
)
def test_a_circle_prints_its_chain(host, tmp_path, files, chain):
    for name, parent in files.items():
        write(tmp_path, f"{name}.yaml", f"extends: {parent}.yaml\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe(tmp_path / "a.yaml", host=host)
    assert len(caught.value.problems) == 1
    assert chain in str(caught.value).replace(f"{tmp_path}/", "")


def test_building_takes_the_context_of_the_kind(host, full):
    recipe = load_recipe(full, host=host)
    with pytest.raises(ConfigError, match="latent"):
        recipe.build("backbone")
    with pytest.raises(ConfigError, match="no component section"):
        recipe.build("backbones")
