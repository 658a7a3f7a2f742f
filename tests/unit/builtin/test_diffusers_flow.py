"""diffusers' flow-matching scheduler as a schedule, against ours and against diffusers itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from ctgen.errors import ConfigError
from ctgen.host import Host
from ctgen.interfaces import CaseRequest, Condition, LatentSpec, Report, TextFeatures, TextSpec
from ctgen.recipe.settings import PrepareSettings, SampleSettings
from ctgen.sample.generator import ComposedGenerator
from ctgen.sample.solvers import euler
from ctgen.stages.components import seeded
from ctgen.testing import check_schedule

HOST = Host.discover()
CELLS = 16 * 32 * 32


def schedule(**fields):
    return HOST.create("schedule", "diffusers-flow", **fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"shift": 3.0},
        {"spacing": "scheduler"},
        {"spacing": "scheduler", "shift": 3.0},
        {"dynamic_shift": True},
        {"dynamic_shift": True, "shift_type": "linear"},
        {"sigmas": "karras"},
        {"sigmas": "exponential"},
        {"sigmas": "beta"},
        {"stochastic": True, "train_steps": 200},
    ],
    ids=str,
)
def test_every_option_is_a_schedule(fields):
    check_schedule(schedule(**fields))


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_times_are_ours(shift):
    ours = HOST.create("schedule", "flow-matching", shift=shift).sampling_times(30, CELLS)
    assert (schedule(shift=shift).sampling_times(30, CELLS) - ours).abs().max() < 1e-6


def test_the_scheduler_s_own_spacing_is_its_own():
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(12)
    assert torch.equal(schedule(spacing="scheduler", shift=3.0).sampling_times(12, CELLS).float(), scheduler.sigmas)


def test_dynamic_shift_is_that_of_flux():
    """mu on the line through (256 tokens, 0.5) and (4096, 1.15); t becomes exp(mu) t / (1 + (exp(mu) - 1) t)."""
    tokens = CELLS / 8
    mu = 0.5 + (1.15 - 0.5) * (tokens - 256) / (4096 - 256)
    even = torch.linspace(1, 0, 21, dtype=torch.float64)
    expected = math.exp(mu) * even / (1 + (math.exp(mu) - 1) * even)
    assert (schedule(dynamic_shift=True).sampling_times(20, CELLS) - expected).abs().max() < 1e-6
    fewer = schedule(dynamic_shift=True).sampling_times(20, CELLS // 4)
    assert bool((fewer[1:-1] < expected[1:-1]).all())


def test_shift_terminal_is_the_last_time_before_data():
    times = schedule(shift_terminal=0.1).sampling_times(10, CELLS)
    assert float(times[-2]) == pytest.approx(0.1, abs=1e-6)
    with pytest.raises(ConfigError, match="one step"):
        schedule(shift_terminal=0.1).sampling_times(1, CELLS)


def test_training_times_are_the_scheduler_s():
    found = schedule(shift=3.0, train_steps=50).training_times(400, torch.Generator().manual_seed(0))
    allowed = FlowMatchEulerDiscreteScheduler(num_train_timesteps=50, shift=3.0).sigmas.double()
    assert set(found.tolist()) <= set(allowed.tolist())
    assert len(set(found.tolist())) > 40


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dynamic_shift": True, "shift": 2.0}, "no effect with dynamic_shift"),
        ({"dynamic_shift": True, "base_tokens": 4096}, "must be below max_tokens"),
        ({"dynamic_shift": True, "shift_type": "linear", "base_shift": 0.0}, "must be above 0"),
    ],
)
def test_options_that_do_not_go_together_are_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        schedule(**fields)


@pytest.mark.parametrize("shift", [1.0, 2.5])
def test_it_agrees_with_flow_matching_and_euler_over_a_network(shift):
    """CTFlow's own backbone, 20 steps: equal to 1e-6 of the latent's size."""
    with seeded("diffusers"):
        spec = {"latent": LatentSpec(4, (1, 8, 8)), "text": TextSpec(16, 8, 16)}
        backbone = HOST.create("backbone", "stdit", layers=2, width=32, heads=2, **spec).eval()
        for parameter in backbone.parameters():
            parameter.data += 0.05 * torch.randn(parameter.shape)
    random = torch.Generator().manual_seed(1)
    text = TextFeatures(torch.randn(1, 8, 16, generator=random), torch.ones(1, 8, dtype=torch.bool), torch.randn(1, 16))
    condition = Condition(text=text, context=torch.randn(1, 4, 8, 8, 8, generator=random))
    noise = torch.randn(1, 4, 8, 8, 8, generator=random)

    @torch.no_grad()
    def velocity(z, t):
        return backbone(z, torch.full((1,), t), condition)

    theirs, ours = schedule(shift=shift), HOST.create("schedule", "flow-matching", shift=shift)
    expected = euler(velocity, noise, ours.sampling_times(20, 512))
    found = theirs.integrate(velocity, noise, theirs.sampling_times(20, 512), generator=random)
    assert (expected - noise).norm() > 0.1 * noise.norm()
    assert (found - expected).norm() <= 1e-6 * expected.norm()


def generator(fields, **sample):
    with seeded("volume"):
        backbone = HOST.create(
            "backbone", "tiny-conv", width=4, layers=1, latent=LatentSpec(16, (1, 4, 4)), text=TextSpec(8, 16)
        )
        for parameter in backbone.parameters():
            parameter.data += 0.05 * torch.randn(parameter.shape)
    parts = {
        "autoencoder": HOST.create("autoencoder", "tiny-ae", cell=4, channels=16),
        "text_encoder": HOST.create("text_encoder", "hash-text", width=8, max_tokens=16),
        "backbone": backbone.eval(),
        "schedule": HOST.create("schedule", **fields),
        "rollout": HOST.create("rollout", "slice-blocks", block=4, overlap=2),
    }
    prepare = PrepareSettings(size=(12, 16, 16), spacing_mm=(10, 20, 20), min_depth_mm=0)
    return ComposedGenerator(parts, prepare, SampleSettings(**{"steps": 6, **sample}))


def volumes(fields, seed=0, batch=1, **sample):
    requests = [CaseRequest(name, Report("A nodule."), slices=7) for name in ("a", "b")]
    found = generator(fields, **sample).run_together(requests, seed, batch=batch)
    return {request.id: (made.volume.hu.astype(int), made.evaluations) for request, made in found}


@pytest.mark.parametrize("sample", [{}, {"guidance": 2.0, "guidance_method": "cfg-zero-star"}])
def test_whole_volumes_agree(sample):
    ours = volumes({"name": "flow-matching", "sigma_min": 0.0, "shift": 2.0}, **sample)
    theirs = volumes({"name": "diffusers-flow", "shift": 2.0}, **sample)
    for name in ours:
        assert np.abs(ours[name][0] - theirs[name][0]).max() <= 1
        assert ours[name][1] == theirs[name][1]


def test_stochastic_steps_draw_from_the_case_alone():
    fields = {"name": "diffusers-flow", "stochastic": True}
    alone, together = volumes(fields), volumes(fields, batch=2)
    plain = volumes({"name": "diffusers-flow"})
    for name in alone:
        assert np.abs(alone[name][0] - together[name][0]).max() <= 1
        assert np.abs(alone[name][0] - plain[name][0]).max() > 1
    assert np.abs(alone["a"][0] - volumes(fields, seed=1)["a"][0]).max() > 1
