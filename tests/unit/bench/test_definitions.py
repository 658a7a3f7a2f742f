"""Suites and protocols: those that are shipped can be read, mistakes are named with their place."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctgen.bench.cases import Cases
from ctgen.bench.models import model_specs
from ctgen.bench.pinned import differences
from ctgen.bench.reading import load_protocol, load_suite
from ctgen.errors import ConfigError, MissingFileError, RecipeError, UnknownComponentError
from ctgen.host import Host
from ctgen.interfaces import Report
from ctgen.recipe import load_recipe
from tests.unit.stages.tiny import RECIPE

HOST = Host.discover()


@pytest.mark.parametrize("name", [suite.name for suite in HOST.suites])
def test_every_suite_can_be_read_and_names_protocols_that_exist(name):
    suite = load_suite(name, HOST, ["root=/data"] if name == "ct-rate" else [])
    for protocol in suite.settings.protocols:
        load_protocol(protocol, HOST)


@pytest.mark.parametrize("name", [protocol.name for protocol in HOST.protocols])
def test_every_protocol_can_be_read_and_runs_or_says_where_its_weights_are(name, tmp_path):
    protocol = load_protocol(name, HOST)
    assert len(protocol.missing) >= len(protocol.settings.weights)
    for key, need in protocol.settings.weights.items():
        assert any(need.file in reason and need.where in reason for reason in protocol.missing), key
    for need in protocol.settings.weights.values():
        (tmp_path / need.file).write_bytes(b"")
    found = load_protocol(name, HOST, [str(tmp_path)])
    assert found.missing == ()
    assert found.name == name


def test_the_mini_suites_share_no_seed_with_a_recipe(request):
    seeds = {load_suite(name, HOST).data.config.seed for name in ("mini", "mini-64", "mini-64-impressions")}
    recipes = [path for path in (request.config.rootpath / "recipes").rglob("*.yaml") if "ct-rate" not in path.name]
    trained = {getattr(load_recipe(path, host=HOST).data.config, "seed", None) for path in recipes}
    assert not seeds & trained


def test_a_suite_may_give_models_the_impressions_alone():
    whole, short = load_suite("mini-64", HOST), load_suite("mini-64-impressions", HOST)
    assert "reports" not in whole.identity() and short.identity()["reports"] == "impressions"

    class Real:
        folder = Path()

        def report(self, case_id):
            return Report("Much is said.", "Nodule." if case_id == "a" else "")

        def record(self, case_id):
            return {"shape": [96, 128, 128], "spacing_mm": [3.0, 3.0, 3.0]}

    asked = [Cases(suite, Real(), ("a", "b"), {}) for suite in (whole, short)]
    assert [cases.request("a").report for cases in asked] == [Report("Much is said.", "Nodule."), Report("Nodule.")]
    assert [cases.request("b").report for cases in asked] == [Report("Much is said.")] * 2
    assert asked[1].report("a") == Report("Much is said.", "Nodule."), "scores are of the whole report"


@pytest.mark.parametrize("name", ["ctflow", "baseline"])
def test_a_mini_preset_is_the_recipe_of_the_repository(request, name):
    path = request.config.rootpath / "recipes" / f"{name}.yaml"
    if name == "baseline" and not path.is_file():
        pytest.skip("no recipes/baseline.yaml")
    preset, recipe = load_recipe(f"preset:{name}-mini", host=HOST).as_dict(), load_recipe(path, host=HOST).as_dict()
    assert {**preset, "name": ""} == {**recipe, "name": ""}


def test_all_mistakes_of_a_suite_are_told_with_their_place(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("data: {use: atlas-thorx}\nsede: 3\nprotocols: []\n", encoding="utf-8")
    with pytest.raises(RecipeError) as caught:
        load_suite(str(path), HOST)
    text = str(caught.value)
    assert "bad.yaml:1:13" in text and "did you mean 'atlas-thorax'?" in text
    assert "bad.yaml:2:1" in text and "did you mean 'seed'?" in text


def test_a_metric_that_names_no_extractor_of_its_protocol_is_a_mistake(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text("metrics: {fid: {use: frechet, features: net}}\n", encoding="utf-8")
    with pytest.raises(RecipeError, match="no extractor 'net'"):
        load_protocol(str(path), HOST)


def test_where_weights_lie_is_no_part_of_a_protocol(tmp_path):
    found = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "inception-2015-12-05.pt").write_bytes(b"x")
        found.append(load_protocol("styleganv-fid", HOST, [str(tmp_path / name)]).fingerprint())
    assert found[0] == found[1]


def test_differences_name_the_leaf():
    one, other = {"a": {"b": (1, 2), "c": 3}}, {"a": {"b": [1, 2], "c": 4}}
    assert list(differences(one, other)) == ["a.c: 3 there, 4 here"]


def test_words_become_models(tmp_path):
    (tmp_path / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    (tmp_path / "volumes").mkdir()
    words = ["ctflow", "preset:ctflow", f"mine={tmp_path}", f"folder:{tmp_path / 'volumes'}"]
    words[1] = f"published={words[1]}"
    specs = model_specs(words, HOST)
    assert [(spec.name, spec.kind) for spec in specs] == [
        ("ctflow", "preset"),
        ("published", "preset"),
        ("mine", "run"),
        ("volumes", "folder"),
    ]
    assert model_specs(["ctflow"], HOST, variant="mini")[0].source == "preset:ctflow-mini"
    assert model_specs(["ctflow"], HOST)[0].source == "preset:ctflow"


def test_words_that_are_nothing_are_refused_with_the_nearest(tmp_path):
    with pytest.raises(UnknownComponentError, match="did you mean 'ctflow"):
        model_specs(["ctflo"], HOST)
    with pytest.raises(MissingFileError, match="folder:"):
        model_specs([str(tmp_path)], HOST)
    with pytest.raises(ConfigError, match="give one another name"):
        model_specs(["ctflow", "ctflow"], HOST)
