"""Guidance: formulas against closed forms and diffusers, when it applies, what it costs."""

from __future__ import annotations

import pytest
import torch

from ctgen.sample.guidance import Guidance, optimal_scale


def velocities(seed=0):
    return torch.randn((2, 3, 4, 2, 5, 5), generator=torch.Generator().manual_seed(seed))


def test_scale_one_is_the_conditional_and_zero_the_unconditional():
    conditional, unconditional = velocities()
    assert torch.allclose(Guidance(1.0).combine(conditional, unconditional), conditional, atol=1e-6)
    assert torch.allclose(Guidance(0.0).combine(conditional, unconditional), unconditional)
    beyond = Guidance(3.0).combine(conditional, unconditional)
    assert torch.allclose(beyond, 3 * conditional - 2 * unconditional, atol=1e-5)


def test_the_interval_includes_its_ends():
    guidance = Guidance(2.0, interval=(0.2, 0.8))
    assert [guidance.applies(t) for t in (1.0, 0.81, 0.8, 0.5, 0.2, 0.19)] == [False, False, True, True, True, False]
    assert not Guidance(1.0).applies(0.5)


def test_the_optimal_scale_is_optimal_for_each_sample():
    conditional, unconditional = velocities()
    scale = optimal_scale(conditional, unconditional)
    assert scale.shape == (3, 1, 1, 1, 1)

    def distance(factor):
        return (conditional - factor * unconditional).square().flatten(1).sum(1)

    for shift in (-0.01, 0.01):
        assert bool((distance(scale) < distance(scale + shift)).all())
    alone = optimal_scale(conditional[1:2], unconditional[1:2])
    assert torch.allclose(alone, scale[1:2])
    assert torch.equal(optimal_scale(conditional, torch.zeros_like(conditional)), torch.zeros_like(scale))


def test_cfg_zero_star_is_diffusers_own():
    guiders = pytest.importorskip("diffusers.guiders", reason="this diffusers has no guiders")
    conditional, unconditional = velocities(1)
    theirs = guiders.ClassifierFreeZeroStarGuidance(guidance_scale=4.0, zero_init_steps=1)
    theirs.set_state(step=3, num_inference_steps=10, timestep=torch.tensor(0.7))
    expected = theirs.forward(conditional, unconditional)
    found = Guidance(4.0, method="cfg-zero-star").combine(conditional, unconditional)
    assert torch.allclose(found, getattr(expected, "pred", expected), atol=1e-5)


def test_zero_steps_are_left_out_of_cfg_zero_star_alone():
    times = torch.linspace(1, 0, 6, dtype=torch.float64)
    assert torch.equal(Guidance(2.0, method="cfg-zero-star", zero_steps=2).times(times), times[2:])
    assert torch.equal(Guidance(2.0, method="cfg", zero_steps=2).times(times), times)
    assert torch.equal(Guidance(1.0, method="cfg-zero-star", zero_steps=2).times(times), times)
