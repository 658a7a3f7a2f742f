"""Costs of a recipe against the same recipe run for real."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import is_dataclass

import pytest
import torch
from torch.utils._pytree import tree_leaves

from ctgen.commands.validating import validate_all
from ctgen.errors import ConfigError
from ctgen.estimate import costs
from ctgen.estimate.costs import estimate
from ctgen.estimate.device import Room
from ctgen.estimate.table import table
from ctgen.estimate.tally import Tally
from ctgen.interfaces import CaseRequest, Report
from ctgen.recipe import load_recipe
from ctgen.sample.generator import ComposedGenerator
from ctgen.stages.components import build_components
from ctgen.testing.source import MemorySource
from ctgen.train.batches import generator_for
from ctgen.train.optimiser import Average, make_optimiser

PLAIN = """\
data: {{use: folder, root: {root}}}
autoencoder: {{use: tiny-ae, cell: 4, channels: 16}}
text_encoder: {{use: hash-text, width: 8, max_tokens: 16}}
backbone: {{use: stdit, layers: 2, width: 64, heads: 4}}
schedule: flow-matching
rollout: {{use: slice-blocks, block: 4}}
objective: {{use: latent-flow, context_noise: 0.1, text_dropout: 0.1}}
prepare: {{size: [12, 64, 64], spacing_mm: [10, 8, 8]}}
train: {{batch: 3}}
sample: {{steps: 5}}
"""


@pytest.fixture
def recipe(tmp_path):
    def load(*overrides):
        path = tmp_path / "recipe.yaml"
        path.write_text(PLAIN.format(root=tmp_path))
        return load_recipe(path, overrides)

    return load


def parts_of(recipe):
    parts = build_components(recipe, data=False)
    for section in ("autoencoder", "text_encoder"):
        parts[section].requires_grad_(False)
    return parts


def test_parameters_are_those_of_the_real_components(recipe):
    found, parts = estimate(recipe()), parts_of(recipe())
    for section in ("autoencoder", "text_encoder", "backbone"):
        assert found.parts[section].parameters == sum(one.numel() for one in parts[section].parameters())
    assert not any(work.problem for work in found.work.values())


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("sample.solver=heun",),
        ("sample.solver=midpoint", "rollout.overlap=2"),
        ("rollout.overlap=1", "rollout.overlap_mode=renoise"),
        ("sample.guidance=2", "sample.guidance_interval=[0.2,0.8]"),
        ("rollout=whole-volume",),
    ],
)
def test_evaluations_are_those_of_the_real_sampler(recipe, overrides, monkeypatch):
    monkeypatch.setattr(costs._Run, "_training", lambda self: None)
    loaded = recipe(*overrides)
    found = estimate(loaded)
    generator = ComposedGenerator(parts_of(loaded), loaded.prepare, loaded.sample)
    made = generator.run(CaseRequest("a", Report("None."), slices=12), 0)
    assert found.blocks * found.evaluations_per_block == made.evaluations
    assert found.work["backbone"].volume_flops == made.evaluations * found.work["backbone"].flops


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("train.precision=bf16",),
        ("backbone.gradient_checkpointing=true",),
        ("train.accumulate=2", "train.precision=bf16"),
        ("backbone={use: tiny-conv, width: 8}",),
        ("train.optimiser=muon",),
    ],
)
def test_memory_of_a_step_is_that_of_a_real_step(recipe, overrides):
    """The same tally, on tensors with data."""
    loaded = recipe(*overrides)
    everything = estimate(loaded)
    found = everything.training[everything.chosen]
    assert not found.problem

    parts = parts_of(loaded)
    backbone = parts["backbone"]
    objective = loaded.host.build(
        "objective", loaded.objective.name, loaded.objective.config,
        components={name: parts[name] for name in ("autoencoder", "text_encoder", "backbone")},
        schedule=parts["schedule"], rollout=parts["rollout"],
    )  # fmt: skip
    source = MemorySource(parts["autoencoder"], parts["text_encoder"], size=(12, 64, 64))
    with torch.no_grad():
        batch = objective.batch(source, 3, generator_for("x"))
    # cases of the estimate have reports as long as can be
    batch["text"] = dataclasses.replace(batch["text"], tokens=torch.zeros(3, 16, 8), mask=torch.ones(3, 16, dtype=torch.bool))
    optimiser = make_optimiser(backbone, loaded.train, lr=1e-4)
    backbone.train()

    def step() -> None:
        for _ in range(loaded.train.accumulate):
            with torch.autocast("cpu", torch.bfloat16, enabled=loaded.train.precision == "bf16"):
                loss = objective.loss(batch, 1, generator_for("x"))["loss"]
            (loss / loaded.train.accumulate).backward()
        torch.nn.utils.clip_grad_norm_(backbone.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()

    step()
    with Tally() as tally:
        step()
    held = sum(leaf.nbytes for leaf in tree_leaves([vars(leaf) if is_dataclass(leaf) else leaf for leaf in batch.values()]))
    assert tally.peak + held == pytest.approx(found.gradients + found.activations, rel=0.01)
    assert tally.flops == found.flops > 0
    assert found.weights == sum(value.nbytes for value in (*backbone.parameters(), *backbone.buffers()))
    assert found.average == sum(value.nbytes for value in Average(backbone).values.values())
    trained = sum(one.nbytes for one in backbone.parameters() if one.requires_grad)
    assert found.gradients == trained
    # two moments; Muon has one for its matrices
    low, high = (1.0, 2.0) if loaded.train.optimiser == "muon" else (2.0, 2.1)
    assert low * trained <= found.optimiser < high * trained


def test_checkpointing_is_estimated_both_ways(recipe):
    found = estimate(recipe("backbone.layers=8"))
    assert found.chosen == "off" and set(found.training) == {"off", "on"}
    assert found.training["on"].activations < 0.5 * found.training["off"].activations
    assert found.training["on"].flops > found.training["off"].flops
    assert estimate(recipe("backbone.gradient_checkpointing=true")).chosen == "on"


def test_a_backbone_that_reads_values_has_no_number(recipe, monkeypatch):
    from ctgen_ctflow.stdit import Stdit

    forward = Stdit.forward
    monkeypatch.setattr(
        Stdit, "forward", lambda self, noisy, time, condition: forward(self, noisy * float(noisy.max()), time, condition)
    )
    found = estimate(recipe())
    assert found.parts["backbone"].parameters and found.work["backbone"].flops is None
    assert "DataDependent" in found.work["backbone"].problem and "DataDependent" in found.training["off"].problem
    assert found.sampling_bytes is None
    text = table(found, recipe())
    assert text.count("not known") == 5 and "DataDependent" in text


def test_files_that_are_not_there_are_not_needed_and_what_they_alone_tell_is_not_guessed(recipe, tmp_path):
    large = "text_encoder={use: ct-clip, weights: /no/weights.pt, vocabulary: /no/vocab.txt"
    known = estimate(recipe(large + ", vocabulary_size: 3000}", "backbone.weights=/no/stdit"))
    assert known.parts["text_encoder"].parameters > 3000 * 128 and known.sampling_without == ()
    unknown = estimate(recipe(large + "}"))
    assert "vocab" in unknown.parts["text_encoder"].problem
    assert unknown.sampling_without == ("text_encoder", "text") and unknown.training["off"].without == ("text_encoder",)
    text = table(unknown, recipe())
    assert "not known: ct-clip vocabulary: weights not found" in text and text.count("without text_encoder") == 3


def test_the_verdict(recipe):
    found = estimate(recipe())
    needed = found.training["off"].total
    for room, verdict in ((2 * needed, "fits: "), (needed + 1, "only just fits"), (needed - 1, "does not fit")):
        text = table(dataclasses.replace(found, device=Room("cpu", room, "as given")), recipe())
        line = next(line for line in text.splitlines() if line.startswith("  in all"))
        assert verdict in line and "as given" in line


def test_another_objective(recipe):
    found = estimate(
        recipe(
            "objective={use: a-vae, crop: 32}", "autoencoder={use: flux-vae, architecture: mini, weights: random}",
            "prepare.size=[12,64,64]",
        )
    )  # fmt: skip
    memory = found.training[found.chosen]
    assert not memory.problem and memory.activations > 0


def test_the_command_prints_lines_or_json(recipe, capsys, tmp_path):
    recipe()
    path = str(tmp_path / "recipe.yaml")
    assert validate_all([path], estimate=True, memory_gb=24)
    out = capsys.readouterr().out
    assert "backbone stdit" in out and "22.4 GiB as given" in out and "evaluations (euler, 5 steps)" in out
    assert validate_all([path, "train.batch=1"], estimate=True, as_json=True)
    found = json.loads(capsys.readouterr().out)[path]
    assert found["training"]["off"]["activations"] > 0 and found["blocks"] == 3
    with pytest.raises(ConfigError, match="belong to --estimate"):
        validate_all([path], as_json=True)
