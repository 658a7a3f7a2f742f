"""Solvers against closed forms, and velocities from all three kinds of prediction."""

from __future__ import annotations

import math

import pytest
import torch

from ctgen.interfaces import Coefficients
from ctgen.sample.velocity import velocity_from
from ctgen.sample.solvers import SOLVERS, dpm, euler, heun, midpoint

FIXED = [solver for name, solver in SOLVERS.items() if name != "dopri5"]


def times(steps):
    return torch.linspace(1.0, 0.0, steps + 1, dtype=torch.float64)


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
@pytest.mark.parametrize("steps", [1, 3, 25])
def test_constant_velocity_is_integrated_exactly(solver, steps):
    noise, data = torch.tensor([3.0, -1.0]).double(), torch.tensor([0.5, 2.0]).double()
    found = solver(lambda z, t: noise - data, noise, times(steps))
    assert torch.allclose(found, data, atol=1e-14)


def error(solver, steps):
    # dz/dt = 2 z from z(1) = e^2: z(0) = 1
    start = torch.tensor(math.exp(2.0), dtype=torch.float64)
    return abs(float(solver(lambda z, t: 2.0 * z, start, times(steps))) - 1.0)


@pytest.mark.parametrize(("solver", "order"), [(euler, 1), (heun, 2)])
def test_order_of_convergence(solver, order):
    coarse, fine = error(solver, 64), error(solver, 128)
    assert math.log2(coarse / fine) == pytest.approx(order, abs=0.1)


@pytest.mark.parametrize(("solver", "order"), [(euler, 1), (heun, 2)])
def test_order_of_convergence_on_uneven_times(solver, order):
    def bent(steps):
        even = times(steps)
        return 3.0 * even / (1.0 + 2.0 * even)

    def uneven(steps):
        start = torch.tensor(math.exp(2.0), dtype=torch.float64)
        return abs(float(solver(lambda z, t: 2.0 * z, start, bent(steps))) - 1.0)

    assert math.log2(uneven(64) / uneven(128)) == pytest.approx(order, abs=0.1)


def test_velocity_may_depend_on_time():
    # dz/dt = 3 t^2 from z(1) = 1: z(0) = 0
    one = torch.ones((), dtype=torch.float64)
    assert abs(float(euler(lambda z, t: torch.tensor(3 * t * t), one, times(1000)))) < 2e-3
    assert abs(float(heun(lambda z, t: torch.tensor(3 * t * t), one, times(1000)))) < 2e-6


@pytest.mark.parametrize(("solver", "evaluations"), [(euler, 4), (heun, 7)])
def test_times_are_stepped_through_exactly_and_never_at_zero(solver, evaluations):
    seen = []
    solver(lambda z, t: seen.append(t) or z * 0, torch.zeros(1), times(4))
    assert len(seen) == evaluations
    assert set(seen) == {1.0, 0.75, 0.5, 0.25}


def at(t):
    one = torch.ones((), dtype=torch.float64)
    return Coefficients((1 - t) * one, t * one, -one, one)


def at_angle(t):
    """alpha = cos, sigma = sin: a schedule whose derivatives are not constant."""
    angle = torch.tensor(t * math.pi / 2, dtype=torch.float64)
    half = math.pi / 2
    return Coefficients(angle.cos(), angle.sin(), -half * angle.sin(), half * angle.cos())


@pytest.mark.parametrize("schedule", [at, at_angle])
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
