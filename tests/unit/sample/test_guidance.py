"""Guidance: formulas against closed forms and diffusers, when it applies, what it costs."""

from __future__ import annotations

import pytest
import torch

from ctgen.errors import ConfigError
from ctgen.interfaces import Coefficients
from ctgen.linear_guess import corrected, linear_velocity
from ctgen.recipe.settings import SampleSettings
from ctgen.sample.guidance import Guidance, LinearGuidance, optimal_scale
from ctgen.sample.options import straight


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


def number(value):
    return torch.tensor(value, dtype=torch.float64)


def test_the_linear_guess_is_the_regression_of_the_velocity_on_z():
    """Of many draws on a path that is not straight: no other factor on z leaves less of the velocity."""
    random = torch.Generator().manual_seed(0)
    std = torch.tensor([3.0, 0.5]).view(1, 2, 1, 1, 1)
    clean, noise = std * torch.randn((1, 2, 40, 50, 50), generator=random), torch.randn((1, 2, 40, 50, 50), generator=random)
    at = Coefficients(alpha=number(0.8), sigma=number(0.6), d_alpha=number(-0.9), d_sigma=number(1.2))
    z, velocity = 0.8 * clean + 0.6 * noise, -0.9 * clean + 1.2 * noise
    guess = linear_velocity(z, at, (3.0, 0.5))
    axes = (0, 2, 3, 4)
    assert torch.allclose((guess * z).mean(axes), (velocity * z).mean(axes), rtol=0.03, atol=0.03)


def test_it_is_what_backbones_with_a_wiener_skip_correct():
    z, out = velocities()
    std = (3.0, 1.0, 0.5, 0.2)
    for time in (0.0, 0.3, 1.0):
        at, t = straight(number(time)), torch.tensor(time)
        assert torch.allclose(linear_velocity(z, at, std), corrected(torch.zeros_like(out), z, t, std), atol=1e-5)
        twice = LinearGuidance(2.0, (0.0, 1.0), std)(corrected(out, z, t, std), z, time, at)
        assert torch.allclose(twice, corrected(2 * out, z, t, std), atol=1e-4)


def test_linear_guidance_keeps_to_its_interval_and_is_off_at_one():
    z, velocity = velocities()
    at = straight(number(0.5))
    assert torch.equal(LinearGuidance(1.0)(velocity, z, 0.5, at), velocity)
    guided = LinearGuidance(1.5, (0.2, 0.6))
    assert torch.equal(guided(velocity, z, 0.61, at), velocity) and torch.equal(guided(velocity, z, 0.19, at), velocity)
    assert not torch.allclose(guided(velocity, z, 0.6, at), velocity)


def test_linear_guidance_refuses_a_backbone_that_does_not_tell_its_spread():
    assert LinearGuidance.of(object(), SampleSettings()).scale == 1.0
    with pytest.raises(ConfigError, match="is not given one"):
        LinearGuidance.of(object(), SampleSettings(linear_guidance=1.2))
