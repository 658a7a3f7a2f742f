"""What every schedule must do."""

from __future__ import annotations

from typing import Any

import torch

from ctgen.testing.expect import close, differs, equal, expect, global_rng_untouched, seeded, shaped


def check_schedule(schedule: Any, *, end_tolerance: float = 1e-3, tolerance: float = 1e-5) -> None:
    """t = 0 is data and t = 1 is noise, derivatives are derivatives, times are float64, in range and seeded.

    ``end_tolerance`` leaves room for a sigma_min: a little noise at t = 0.
    """
    ends = schedule.coefficients(torch.tensor([0.0, 1.0], dtype=torch.float64))
    for name in ("alpha", "sigma", "d_alpha", "d_sigma"):
        shaped(name, getattr(ends, name), 2)
        equal(f"{name}: dtype", getattr(ends, name).dtype, torch.float64)
    wanted = {("alpha", 0): 1.0, ("alpha", 1): 0.0, ("sigma", 0): 0.0, ("sigma", 1): 1.0}
    for (name, end), value in wanted.items():
        found = float(getattr(ends, name)[end])
        expect(
            abs(found - value) <= end_tolerance,
            f"{name}({end}) = {found:.6g}, wanted {value:g} within {end_tolerance:g} (t = 0 is data, t = 1 is noise)",
        )

    time, step = torch.linspace(0.02, 0.98, 49, dtype=torch.float64), 1e-5
    at, ahead, behind = (schedule.coefficients(time + offset) for offset in (0.0, step, -step))
    for name in ("alpha", "sigma"):
        difference = (getattr(ahead, name) - getattr(behind, name)) / (2 * step)
        close(f"d_{name} and the finite difference of {name}", getattr(at, f"d_{name}"), difference, tolerance)
    ratio = at.alpha / at.sigma
    expect(bool((ratio[1:] < ratio[:-1]).all()), "alpha / sigma must fall from t = 0 to t = 1")
    square = torch.tensor([[0.1, 0.2], [0.3, 0.4]])
    shaped("coefficients keep time's shape: alpha", schedule.coefficients(square).alpha, 2, 2)

    for steps in (1, 2, 7, 50):
        for cells in (64, 4096, 262_144):
            _check_sampling_times(schedule.sampling_times(steps, cells), steps, cells)

    with global_rng_untouched("training_times"):
        times = schedule.training_times(512, seeded(3))
    shaped("training_times(512)", times, 512)
    equal("training_times: dtype", times.dtype, torch.float64)
    low, high = float(times.min()), float(times.max())
    expect(low >= 0.0 and high <= 1.0, f"training_times: found {low:.6g} .. {high:.6g}, wanted 0 .. 1")
    close("training_times with one seed, twice", schedule.training_times(512, seeded(3)), times, 0.0)
    differs("training_times with two seeds", schedule.training_times(512, seeded(4)), times)


def _check_sampling_times(times: torch.Tensor, steps: int, cells: int) -> None:
    what = f"sampling_times({steps}, {cells})"
    shaped(what, times, steps + 1)
    equal(f"{what}: dtype", times.dtype, torch.float64)
    equal(f"{what}: first and last", (float(times[0]), float(times[-1])), (1.0, 0.0))
    rises = int((times[1:] >= times[:-1]).sum())
    expect(rises == 0, f"{what}: {rises} of {steps} steps do not go down, wanted 0")
