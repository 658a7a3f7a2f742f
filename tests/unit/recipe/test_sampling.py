"""The section sample beside the recipe's other sections."""

from __future__ import annotations

import pytest

from ctgen.errors import RecipeError
from ctgen.recipe import load_recipe
from ctgen.recipe.sampling import guidance_warning
from ctgen.recipe.settings import SampleSettings

RECIPE = """
name: guided
data: {use: atlas-thorax}
prepare: {size: [8, 16, 16], spacing_mm: [20, 20, 20]}
autoencoder: {use: tiny-ae, cell: 8, channels: 4}
text_encoder: {use: hash-text, width: 8, max_tokens: 16}
backbone: {use: tiny-conv, width: 4, layers: 1}
schedule: linear-flow
rollout: whole-volume
objective: {use: latent-flow, text_dropout: 0.1}
sample:
  guidance: 3
"""


@pytest.fixture
def load(tmp_path):
    path = tmp_path / "guided.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    return lambda *overrides: load_recipe(path, overrides)


def complaint(load, *overrides):
    with pytest.raises(RecipeError) as caught:
        load(*overrides)
    return str(caught.value)


def test_guidance_with_text_dropout_is_right(load):
    assert load().sample.guidance == 3.0
    assert guidance_warning(load()) == ""


def test_guidance_that_is_never_trained_is_an_error_at_its_place(load):
    for more in ((), ("train.init=none",)):
        text = complaint(load, "objective.text_dropout=0", *more)
        assert "guided.yaml:12:13: sample.guidance" in text
        assert "objective.text_dropout" in text


def test_weights_from_elsewhere_may_know_it_and_that_is_said(load, tmp_path):
    recipe = load("objective.text_dropout=0", f"train.init={tmp_path}")
    assert "objective.text_dropout is 0" in guidance_warning(recipe)
    assert "train.init" not in guidance_warning(load("objective.text_dropout=0", "sample.guidance=1"))
    (tmp_path / "w.safetensors").touch()
    other = load("objective.text_dropout=0", f"backbone.weights={tmp_path / 'w.safetensors'}")
    assert guidance_warning(other)


def test_a_negative_report_needs_no_prediction_without_one(load):
    recipe = load("objective.text_dropout=0", "sample.negative_report=Normal chest CT.")
    assert guidance_warning(recipe) == ""


def test_a_solver_that_does_not_go_with_the_schedule_is_an_error_at_its_place(load):
    text = complaint(load, "schedule.use=diffusers-flow", "sample.solver=dpm")
    assert "sample.solver" in text and "'diffusers-flow'" in text and "only with euler" in text
    assert load("schedule.use=diffusers-flow").sample.solver == "euler"
    assert load("sample.solver=dpm").sample.solver == "dpm"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sample.guidance_interval=[0.8, 0.2]", "low 0.8 must be below high 0.2"),
        ("sample.guidance_interval=[0.2, 1.2]", "at most 1"),
        ("sample.guidance=-1", "at least 0"),
        ("sample.rtol=0", "rtol"),
        ("sample.solver=rk4", "solver"),
    ],
)
def test_values_out_of_order(load, override, message):
    assert message in complaint(load, override)


def test_zero_steps_must_leave_some(load):
    text = complaint(load, "sample.guidance_method=cfg-zero-star", "sample.guidance_zero_steps=4", "sample.steps=4")
    assert "guidance_zero_steps 4 leaves nothing of 4 steps" in text
    assert load("sample.guidance_zero_steps=40").sample.guidance_zero_steps == 40  # plain cfg has none


def test_what_changes_nothing_is_in_no_fingerprint():
    plain = SampleSettings().identity()
    assert not {name for name in plain if name.startswith("guidance")} and "rtol" not in plain and "batch" not in plain
    same = SampleSettings(batch=4, rtol=1e-3, guidance_interval=(0.1, 0.9), guidance_method="cfg-zero-star")
    assert same.identity() == plain
    guided = SampleSettings(guidance=2.0).identity()
    assert {name for name in guided if name not in plain} == {"guidance", "guidance_interval", "guidance_method"}
    assert SampleSettings(negative_report="Normal.").identity() == plain
    assert SampleSettings(guidance=2.0, negative_report=" ").identity() == guided
    assert SampleSettings(guidance=2.0, negative_report="Normal.").identity()["negative_report"] == "Normal."
    assert SampleSettings(linear_guidance_interval=(0.1, 0.2)).identity() == plain
    linear = SampleSettings(linear_guidance=1.2).identity()
    assert {name for name in linear if name not in plain} == {"linear_guidance", "linear_guidance_interval"}
    zero = SampleSettings(guidance=2.0, guidance_method="cfg-zero-star").identity()
    assert zero["guidance_zero_steps"] == 1
    assert SampleSettings(solver="dopri5").identity()["rtol"] == 1e-5


def test_impressions_in_training_need_those_in_the_cache(load):
    text = complaint(load, "objective.impressions_only=0.5")
    assert "objective.impressions_only: no text features of impressions alone are made" in text
    assert "encode: {impressions: true}" in text
    assert load("objective.impressions_only=0.5", "encode.impressions=true").encode.impressions


def test_linear_guidance_needs_to_know_how_widely_latents_spread(load):
    text = complaint(load, "sample.linear_guidance=1.2")
    assert "sample.linear_guidance: linear_guidance 1.2 needs the latent's standard deviation" in text and "'tiny-conv'" in text
    narrow = complaint(load, "backbone={use: stdit, layers: 1, width: 8, heads: 1}", "sample.linear_guidance=1.2")
    assert "'stdit' is not given one" in narrow and "write backbone.latent_std" in narrow
    spread = load("backbone={use: stdit, layers: 1, width: 8, heads: 1, latent_std: [2.0]}", "sample.linear_guidance=1.2")
    assert spread.sample.linear_guidance == 1.2
