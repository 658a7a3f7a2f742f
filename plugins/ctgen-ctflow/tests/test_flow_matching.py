from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ctflow_fixtures import tensors
from ctgen_ctflow.configs import FlowMatchingConfig
from ctgen_ctflow.flow_matching import FlowMatching

from ctgen.train.latent_flow import noised


def test_the_released_path_exactly(shared_folder: Path) -> None:
    io = tensors(shared_folder / "fixtures" / "ctflow-rollout" / "io.safetensors")
    noise = io["train_noise_base"] + 0.05 * io["train_noise_offset"]
    assert torch.equal(noise, io["train_z1"])
    noisy, velocity = noised(io["train_z0"], noise, FlowMatching(FlowMatchingConfig()).coefficients(io["train_t"]))
    assert torch.equal(velocity, io["train_u"])
    # The reference rounds sigma(t) to float32 while it makes it, this is float64 up to the product: the last bit may differ.
    assert (noisy - io["train_zt"]).abs().max() <= 2**-23
    assert torch.equal(noisy[io["train_t"] == 0], io["train_z0"][:1] + 1e-5 * noise[:1])


@pytest.mark.parametrize("fields", [{}, {"times": "logit-normal", "mean": 0.4, "std": 1.3}, {"shift": 3.0}])
def test_training_times_follow_their_distribution(fields: dict[str, object]) -> None:
    """Kolmogorov-Smirnov: undone, shift and sigmoid leave a uniform or a normal variable."""
    config = FlowMatchingConfig(**fields)
    times = FlowMatching(config).training_times(20_000, torch.Generator().manual_seed(7))
    plain = times / (config.shift - (config.shift - 1) * times)
    normal = torch.special.ndtr((torch.logit(plain) - config.mean) / config.std)
    ranks = plain if config.times == "uniform" else normal
    found, steps = ranks.sort().values, torch.arange(20_000, dtype=torch.float64) / 20_000
    assert max((found - steps).max().item(), (steps + 1 / 20_000 - found).max().item()) < 1.63 / 20_000**0.5, "1 % level"


@pytest.mark.parametrize("sigma_min", [0.0, 1e-5, 0.1])
def test_ends_and_derivatives(sigma_min: float) -> None:
    schedule = FlowMatching(FlowMatchingConfig(sigma_min=sigma_min))
    time, step = torch.linspace(0.01, 0.99, 7), 1e-4
    at, after, before = (schedule.coefficients(time.double() + shift) for shift in (0, step, -step))
    assert torch.allclose((after.alpha - before.alpha) / (2 * step), at.d_alpha)
    assert torch.allclose((after.sigma - before.sigma) / (2 * step), at.d_sigma)
    ends = schedule.coefficients(torch.tensor([0.0, 1.0]))
    assert ends.alpha.tolist() == [1.0, 0.0] and ends.sigma.tolist() == [sigma_min, 1.0]
    assert ends.sigma.dtype == torch.float64


@pytest.mark.parametrize(("shift", "reference_cells"), [(1.0, 0), (3.0, 0), (1.0, 512)])
def test_sampling_times(shift: float, reference_cells: int) -> None:
    times = FlowMatching(FlowMatchingConfig(shift=shift, reference_cells=reference_cells)).sampling_times(25, 2048)
    assert times.shape == (26,) and times.dtype == torch.float64
    assert times[0] == 1 and times[-1] == 0 and (times.diff() < 0).all()
    assert bool(times[12] > 0.53) == (shift > 1 or reference_cells > 0)


def test_unshifted_times_are_the_paper_grid() -> None:
    times = FlowMatching(FlowMatchingConfig()).sampling_times(200, 2048)
    assert torch.equal(times, torch.linspace(1, 0, 201, dtype=torch.float64))


@pytest.mark.parametrize(
    ("fields", "median"),
    [({}, 0.5), ({"times": "logit-normal"}, 0.5), ({"times": "logit-normal", "mean": 1.0}, 0.731), ({"shift": 3.0}, 0.75)],
)
def test_training_times(fields: dict[str, object], median: float) -> None:
    schedule = FlowMatching(FlowMatchingConfig(**fields))
    times = schedule.training_times(20_000, torch.Generator().manual_seed(0))
    assert times.dtype == torch.float64 and times.min() >= 0 and times.max() <= 1
    assert times.median().item() == pytest.approx(median, abs=0.02)
    assert torch.equal(times, schedule.training_times(20_000, torch.Generator().manual_seed(0)))
    assert not torch.equal(times, schedule.training_times(20_000, torch.Generator().manual_seed(1)))
