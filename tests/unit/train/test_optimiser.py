from __future__ import annotations

import copy
import json
import math

import pytest
import torch
from torch import nn

from ctgen.errors import ConfigError
from ctgen.train.loop import fit
from ctgen.train.optimiser import Average, ema_decay_at, lr_at, make_optimiser, set_lr

from .toys import Network, Points, Regression, settings


def test_warm_up_is_linear_and_the_first_update_is_not_zero():
    config = settings(lr=2e-4, warmup_steps=2000, steps=10_000)
    assert lr_at(1, config) == pytest.approx(1e-7)
    assert lr_at(500, config) == pytest.approx(5e-5)
    assert lr_at(2000, config) == lr_at(9000, config) == 2e-4
    assert lr_at(1, settings(lr=0.1, warmup_steps=0)) == 0.1


def test_inverse_square_root_follows_ctflow():
    config = settings(lr=2e-4, warmup_steps=2000, decay="inverse-sqrt", steps=1_000_000)
    for step in (2000, 2001, 100_000, 680_000):
        assert lr_at(step, config) == pytest.approx(2e-4 / math.sqrt(1 + 2 * (step - 2000) / 1e6), rel=1e-12)
    assert lr_at(10**12, config) == 1e-6
    # under the floor already in the warm-up, and with a peak below the floor
    assert lr_at(1, config) == pytest.approx(1e-7)
    assert lr_at(10**12, config, peak=1e-8) == pytest.approx(1e-8)


def test_the_published_learning_rates(shared_folder):
    """Relative 1e-12, the fixture's own tolerance; its step 0 is before the first update."""
    facts = json.loads((shared_folder / "fixtures" / "ctflow-rollout" / "fixture.json").read_text())
    for case in facts["learning_rate_schedule"]:
        config = settings(
            lr=case["lr"],
            warmup_steps=case["warmup_steps"],
            decay="inverse-sqrt",
            decay_rate=case["decay_rate"],
            decay_steps=case["ref_steps"],
            lr_floor=case["eta_min"],
            steps=10**6,
        )
        found = [lr_at(step, config) for step in case["steps"]]
        assert found == pytest.approx(case["values"], rel=1e-12, abs=0.0), case["name"]
        warming = [lr for step, lr in zip(case["steps"], found, strict=True) if 0 < step < case["warmup_steps"]]
        assert case["name"] != "L2 config" or min(warming) < case["eta_min"], "the floor does not hold in the warm-up"


def test_the_first_update_is_made_at_the_rate_of_step_one(tmp_path):
    """The rate is set before the optimiser steps: with lr(0) = 0 nothing would move."""
    objective = Regression()
    before = objective.model.first.weight.detach().clone()
    config = settings(steps=1, lr=1e-3, warmup_steps=10, weight_decay=0.0, checkpoint_every=1)
    fit(objective, Points(), config, tmp_path, spec={})
    moved = (objective.model.first.weight - before).abs()
    assert moved.max().item() == pytest.approx(1e-4, rel=1e-3), "Adam's first step is the learning rate"


def test_cosine_ends_at_a_hundredth():
    config = settings(lr=1e-3, warmup_steps=100, decay="cosine", steps=1100)
    assert lr_at(100, config) == pytest.approx(1e-3)
    assert lr_at(600, config) == pytest.approx(1e-3 * 0.505)
    assert lr_at(1100, config) == pytest.approx(1e-5)
    assert lr_at(50, config, peak=2.0) == pytest.approx(1.0)
    rates = [lr_at(step, config) for step in range(100, 1101)]
    assert rates == sorted(rates, reverse=True)


def test_only_trainable_parameters_are_updated():
    network = Network(0.0)
    optimiser = make_optimiser(network, settings(betas=(0.8, 0.95), weight_decay=0.3), lr=0.5)
    group = optimiser.param_groups[0]
    assert not any(parameter is network.frozen for parameter in group["params"])
    assert (group["lr"], group["betas"], group["weight_decay"]) == (0.5, (0.8, 0.95), 0.3)


def test_muon_moves_matrices_of_repeated_layers_and_adamw_the_rest():
    network = nn.Sequential(nn.Embedding(5, 4), nn.ModuleDict({"inner": nn.Linear(4, 4)}))
    config = settings(optimiser="muon", weight_decay=0.0, muon_lr_ratio=3.0)
    optimiser = make_optimiser(network, config, lr=0.1)
    set_lr(optimiser, 0.1)
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    for value in network.parameters():
        value.grad = torch.full_like(value, 1.0) + torch.eye(*value.shape) if value.ndim == 2 else torch.ones_like(value)
    optimiser.step()
    step = before["1.inner.weight"] - network[1]["inner"].weight
    # orthogonalised (Newton-Schulz leaves singular values near 1), then scaled by 0.2 sqrt(width)
    assert torch.linalg.svdvals(step / (3 * 0.1 * 0.2 * 2.0)).tolist() == pytest.approx([1.0] * 4, abs=0.4)
    # AdamW's first step is the learning rate, whatever the gradient
    assert (before["1.inner.bias"] - network[1]["inner"].bias).tolist() == pytest.approx([0.1] * 4, rel=1e-4)
    assert (before["0.weight"] - network[0].weight).flatten().tolist() == pytest.approx([0.1] * 20, rel=1e-4)


def test_muon_takes_the_rate_from_outside_and_its_state_comes_back():
    torch.manual_seed(0)
    network = nn.ModuleList([nn.ModuleDict({"a": nn.Linear(3, 3)})])
    optimiser = make_optimiser(network, settings(optimiser="muon"), lr=0.1)
    steps(network, optimiser, 3)
    state, values = copy.deepcopy(optimiser.state_dict()), copy.deepcopy(network.state_dict())
    steps(network, optimiser, 2)
    expected = copy.deepcopy(network.state_dict())

    network.load_state_dict(values)
    again = make_optimiser(network, settings(optimiser="muon"), lr=9.0)
    again.load_state_dict(state)
    steps(network, again, 2)
    assert all(torch.equal(network.state_dict()[name], value) for name, value in expected.items())
    set_lr(again, 0.0)
    steps(network, again, 1)
    assert all(torch.equal(network.state_dict()[name], value) for name, value in expected.items())


def steps(network: nn.ModuleList, optimiser: torch.optim.Optimizer, count: int) -> None:
    for _ in range(count):
        optimiser.zero_grad()
        network[0]["a"](torch.eye(3)).square().sum().backward()
        optimiser.step()


def test_muon_without_repeated_layers_is_refused():
    with pytest.raises(ConfigError, match="no matrices of repeated layers"):
        make_optimiser(nn.Linear(2, 2), settings(optimiser="muon"), lr=0.1)


def test_average_against_the_closed_form():
    """e_n = sum of p_k (1 - d_k) prod_{j>k} d_j + e_0 prod d_j."""
    config = settings(ema_decay=0.9)
    model = nn.Linear(2, 1, bias=False)
    model.weight.data.fill_(5.0)
    average = Average(model)
    values = [1.0, -2.0, 3.0, 7.0]
    for step, value in enumerate(values, start=1):
        model.weight.data.fill_(value)
        average.update(model, ema_decay_at(step, config))
    decays = [min(0.9, (1 + step) / (10 + step)) for step in range(1, 5)]
    expected = 5.0 * math.prod(decays)
    for k, value in enumerate(values):
        expected += value * (1 - decays[k]) * math.prod(decays[k + 1 :])
    assert average.values["weight"].tolist() == [[pytest.approx(expected, rel=1e-5)] * 2]
    assert ema_decay_at(10**6, config) == 0.9
    assert ema_decay_at(1, settings(ema_decay=0.9, ema_warmup=False)) == 0.9


def test_average_copies_buffers_and_frozen_parameters_and_swaps_exactly():
    model = Network(0.0)
    average = Average(model)
    with torch.no_grad():
        model.frozen.fill_(4.0)
        model.first.weight.add_(1.0)
    model.calls += 3
    average.update(model, 0.5)
    assert average.values["calls"].item() == 3
    assert average.values["frozen"].tolist() == [4.0, 4.0]
    own = {name: value.clone() for name, value in model.state_dict().items()}
    with average.applied_to(model):
        assert torch.equal(model.first.weight, average.values["first.weight"])
        assert not torch.equal(model.first.weight, own["first.weight"])
    assert all(torch.equal(value, own[name]) for name, value in model.state_dict().items())
