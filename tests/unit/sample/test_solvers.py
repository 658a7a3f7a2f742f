"""Solvers against closed forms, and velocities from all three kinds of prediction."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ctgen.errors import ConfigError
from ctgen.interfaces import Coefficients
from ctgen.sample.dpm import steps
from ctgen.sample.options import SolverOptions
from ctgen.sample.solvers import SOLVERS, dopri5, dpm, euler, heun, midpoint
from ctgen.sample.velocity import velocity_from

FIXED = [solver for name, solver in SOLVERS.items() if name != "dopri5"]


def times(steps):
    return torch.linspace(1.0, 0.0, steps + 1, dtype=torch.float64)


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
@pytest.mark.parametrize("steps", [1, 3, 25])
def test_constant_velocity_is_integrated_exactly(solver, steps):
    noise, data = torch.tensor([3.0, -1.0]).double(), torch.tensor([0.5, 2.0]).double()
    found = solver(lambda z, t: noise - data, noise, times(steps))
    assert torch.allclose(found, data, atol=1e-14)


def even(time):
    one = torch.ones_like(time, dtype=torch.float64)
    return Coefficients(1 - time.double(), time.double(), -one, one)


def with_noise_left(time):
    """CTFlow's path, which ends a little short of the data."""
    one = torch.ones_like(time, dtype=torch.float64)
    return Coefficients(1 - time.double(), 1e-5 + (1 - 1e-5) * time.double(), -one, (1 - 1e-5) * one)


def turning(time):
    """alpha = cos, sigma = sin: a path that is not straight."""
    angle, half = time.double() * math.pi / 2, math.pi / 2
    return Coefficients(angle.cos(), angle.sin(), -half * angle.sin(), half * angle.cos())


class Gaussian:
    """Data N(mean, std^2): posterior means, velocity and trajectories in closed form, on any path."""

    def __init__(self, path, mean=0.7, std=0.6):
        self.path, self.mean, self.std = path, mean, std
        self.calls = 0

    def at(self, t):
        now = self.path(torch.tensor(t, dtype=torch.float64))
        return now, now.alpha**2 * self.std**2 + now.sigma**2

    def velocity(self, z, t):
        assert t > 0
        self.calls += 1
        now, variance = self.at(t)
        away = (z.double() - now.alpha * self.mean) / variance
        clean = self.mean + now.alpha * self.std**2 * away
        return (now.d_alpha * clean + now.d_sigma * now.sigma * away).to(z.dtype)

    def end(self, z):
        (first, wide), (last, narrow) = self.at(1.0), self.at(0.0)
        return last.alpha * self.mean + (narrow / wide).sqrt() * (z - first.alpha * self.mean)

    def error(self, solver, steps, shift=1.0, **options):
        noise = torch.tensor([1.3, -0.4], dtype=torch.float64)
        bent = shift * times(steps) / (1 + (shift - 1) * times(steps))
        found = solver(self.velocity, noise, bent, SolverOptions(self.path, **options))
        return float((found - self.end(noise)).abs().mean())


ORDERS = [(euler, 1), (heun, 2), (midpoint, 2), (dpm, 2)]
PATHS = [even, with_noise_left, turning]


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("solver", "order"), ORDERS)
def test_order_of_convergence(solver, order, path, shift):
    data = Gaussian(path)
    coarse, fine = (data.error(solver, steps, shift) for steps in (256, 512))
    found = math.log2(coarse / fine)
    # on a straight path between Gaussians the leading error of the midpoint rule vanishes by symmetry
    assert found == pytest.approx(order, abs=0.15) or (solver is midpoint and path is not turning and found > order)


def test_dpm_beats_euler_at_the_same_cost():
    for path in PATHS:
        for std in (0.2, 0.6, 1.5):
            data = Gaussian(path, std=std)
            assert data.error(dpm, 20) < 0.5 * data.error(euler, 20)


def test_dpm_is_exact_where_the_clean_prediction_is():
    """A point as the data set: the prediction does not change, so one step is as good as many, on every path."""
    for path in PATHS:
        for count in (1, 2, 9):
            assert Gaussian(path, std=1e-9).error(dpm, count) < 1e-4


def test_dpm_keeps_its_coefficients_finite_at_both_ends():
    for path in PATHS:
        for step in steps(times(5), SolverOptions(path)):
            assert all(math.isfinite(value) for value in vars(step).values())
    first, *_, last = steps(times(5))
    assert first.trend == 0.0
    assert last.keep == 0.0  # data: nothing is left of the noise


@pytest.mark.parametrize("path", PATHS)
def test_dopri5_is_as_good_as_asked_and_says_what_it_cost(path):
    data = Gaussian(path)
    errors, calls = [], []
    for tolerance in (1e-3, 1e-5, 1e-8):
        data.calls = 0
        errors.append(data.error(dopri5, 25, rtol=tolerance, atol=tolerance))
        calls.append(data.calls)
    assert calls == sorted(calls) and calls[0] < calls[2]
    # six evaluations for every step tried, and the first
    assert all(count % 6 == 1 for count in calls)
    assert errors[0] < 1e-2 and errors[1] < 1e-4 and errors[2] < 1e-7


def test_dopri5_is_deterministic_and_keeps_the_dtype():
    data = Gaussian(even)
    noise = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    first, second = (dopri5(data.velocity, noise, times(7), SolverOptions(rtol=1e-7, atol=1e-7)) for _ in range(2))
    assert torch.equal(first, second)
    assert first.dtype == torch.float32
    # single precision in the velocity does not add up over the steps
    assert torch.allclose(first, data.end(noise).float(), atol=1e-5)


def test_dopri5_gives_up_with_numbers():
    def restless(z, t):
        return torch.full_like(z, math.sin(1e7 * t))

    with pytest.raises(ConfigError, match=r"5000 steps .* rtol 1e-09") as caught:
        dopri5(restless, torch.zeros(1, dtype=torch.float64), times(10), SolverOptions(rtol=1e-9, atol=1e-9))
    assert "sample.rtol" in caught.value.hint


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_euler_is_diffusers_euler(shift):
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / 20, 20))
    noise = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(3))
    layer = torch.nn.Conv2d(4, 4, 3, padding=1)

    @torch.no_grad()
    def velocity(z, t):
        return layer(z).tanh() + t

    theirs = noise
    for index, t in enumerate(scheduler.timesteps):
        theirs = scheduler.step(velocity(theirs, float(scheduler.sigmas[index])), t, theirs).prev_sample
    bent = shift * times(20) / (1 + (shift - 1) * times(20))
    assert (euler(velocity, noise, bent) - theirs).abs().max() < 1e-6


def test_velocity_may_depend_on_time():
    # dz/dt = 3 t^2 from z(1) = 1: z(0) = 0
    one = torch.ones((), dtype=torch.float64)
    assert abs(float(euler(lambda z, t: torch.tensor(3 * t * t), one, times(1000)))) < 2e-3
    assert abs(float(heun(lambda z, t: torch.tensor(3 * t * t), one, times(1000)))) < 2e-6


@pytest.mark.parametrize(("solver", "evaluations"), [(euler, 4), (heun, 7), (dpm, 4)])
def test_times_are_stepped_through_exactly_and_never_at_zero(solver, evaluations):
    seen = []
    solver(lambda z, t: seen.append(t) or z * 0, torch.zeros(1), times(4))
    assert len(seen) == evaluations
    assert set(seen) == {1.0, 0.75, 0.5, 0.25}


def test_midpoint_sees_the_middles_too():
    seen = []
    midpoint(lambda z, t: seen.append(t) or z * 0, torch.zeros(1), times(2))
    assert seen == [1.0, 0.75, 0.5, 0.25]


def test_dopri5_never_sees_zero():
    seen = []
    dopri5(lambda z, t: seen.append(t) or z * 0, torch.zeros(1), times(4))
    assert min(seen) == pytest.approx(1e-4)
    assert max(seen) == 1.0


def at(t):
    one = torch.ones((), dtype=torch.float64)
    return Coefficients((1 - t) * one, t * one, -one, one)


@pytest.mark.parametrize("schedule", [at, lambda t: turning(torch.tensor(t))])
@pytest.mark.parametrize("t", [0.97, 0.7, 0.31, 0.01])
def test_all_predictions_mean_the_same_velocity(schedule, t):
    generator = torch.Generator().manual_seed(1)
    clean, noise = torch.randn((2, 1, 4, 2, 3, 3), generator=generator, dtype=torch.float64)
    now = schedule(t)
    z = now.alpha * clean + now.sigma * noise
    expected = now.d_alpha * clean + now.d_sigma * noise
    assert torch.equal(velocity_from(expected, "velocity", z, now), expected)
    assert torch.allclose(velocity_from(noise, "noise", z, now), expected, atol=1e-9)
    assert torch.allclose(velocity_from(clean, "clean", z, now), expected, atol=1e-9)


class Oracle:
    """The exact predictor of a data set that holds one point, plus an error of its own at each evaluation."""

    def __init__(self, predicts, clean, wrong=0.0):
        self.predicts, self.clean, self.wrong = predicts, clean, wrong
        self.calls = 0
        self.farthest = 0.0

    def velocity(self, z, t):
        now = at(t)
        self.calls += 1
        self.farthest = max(self.farthest, float(z.abs().max()))
        exact = self.clean if self.predicts == "clean" else (z - now.alpha * self.clean) / now.sigma
        error = torch.randn(z.shape, generator=torch.Generator().manual_seed(self.calls), dtype=z.dtype)
        return velocity_from(exact + self.wrong * error, self.predicts, z, now)


@pytest.mark.parametrize("predicts", ["noise", "clean"])
@pytest.mark.parametrize(
    ("solver", "wrong", "tolerated"),
    # dopri5 adapts to a velocity that is a function of z and t; an error drawn anew at each evaluation is none
    [(solver, 0.0, 0.02) for solver in SOLVERS.values()] + [(solver, 0.05, 0.15) for solver in FIXED],
)
def test_sampling_ends_at_the_data_and_blows_up_no_error(solver, predicts, wrong, tolerated):
    """Dividing by alpha near t = 1, or by sigma near t = 0, must not multiply what a network gets wrong."""
    generator = torch.Generator().manual_seed(2)
    clean, noise = torch.randn((2, 1000), generator=generator, dtype=torch.float64)
    oracle = Oracle(predicts, clean, wrong)
    found = solver(oracle.velocity, noise, times(25))
    assert (found - clean).abs().mean() < tolerated
    # a network knows nothing about points far from where training took it
    assert oracle.farthest < 1.5 * float(noise.abs().max())
