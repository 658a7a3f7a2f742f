"""The linear start: an untrained network that already is a transform codec."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ctgen_ctflow.flux_vae import FluxVae
from ctgen_ctflow.flux_vae_config import FluxVaeConfig
from ctgen_ctflow.linear_start import cosine_basis, haar_packets
from torch import Tensor

from ctgen.data.atlas.atlas import load_atlas
from ctgen.errors import ConfigError


def build(start: str, **fields: Any) -> FluxVae:
    torch.manual_seed(0)
    return FluxVae(FluxVaeConfig(**{"weights": "random", "architecture": "mini", "start": start, **fields})).eval()


@pytest.fixture(scope="module")
def chest() -> Tensor:
    """(1, 1, 1, 128, 128) HU: a slice through the heart, smoothed as a coarse grid is."""
    hu = torch.from_numpy(load_atlas().hu.copy()).float()
    middle = hu[hu.shape[0] // 2]
    top, left = (middle.shape[0] - 128) // 2, (middle.shape[1] - 128) // 2
    patch = middle[top : top + 128, left : left + 128].clamp(-1000, 1000)[None, None]
    weights = torch.tensor([0.25, 0.5, 0.25])
    smooth = torch.nn.functional.conv2d(patch, torch.outer(weights, weights)[None, None], padding=1)
    return smooth.clamp(-1000, 1000)[None]


@torch.no_grad()
def psnr(vae: FluxVae, hu: Tensor) -> float:
    decoded = vae.decode(vae.finalise(vae.encode(hu), generator=None)).clamp(-1000, 1000)
    return float(-10 * torch.log10(((decoded - hu) / 2000).square().mean()))


def test_untrained_it_reconstructs_a_chest(chest: Tensor) -> None:
    assert psnr(build("linear"), chest) >= 20.0
    assert psnr(build("default"), chest) < 12.0


def test_it_also_fits_flux_own_range(chest: Tensor) -> None:
    assert psnr(build("linear", range=(-1.0, 1.0)), chest) >= 20.0


@torch.no_grad()
def test_means_are_the_lowest_cosine_coefficients(chest: Tensor) -> None:
    vae = build("linear")
    mean = vae.encode(chest).mean[0, :, 0].flatten(1)
    pixels = (chest[0] + 1000) / 2000 * 0.8333 - 0.4 * 0.8333
    cells = torch.nn.functional.unfold(pixels, 8, stride=8)[0]
    wanted = cosine_basis(16).T @ cells
    factors = (mean * wanted).sum(1) / wanted.square().sum(1)
    assert factors[0].item() == pytest.approx(1.0, abs=0.02)
    strong = wanted.square().mean(1).sqrt() > 0.05 * wanted[1].square().mean().sqrt()
    assert strong.sum() >= 10
    torch.testing.assert_close(factors[strong], torch.ones(int(strong.sum())), rtol=0, atol=0.02)
    assert (mean - wanted).square().mean().sqrt() < 0.02 * wanted.square().mean().sqrt()


@torch.no_grad()
def test_little_noise_is_drawn(chest: Tensor) -> None:
    logvar = build("linear").encode(chest).logvar
    assert logvar is not None
    torch.testing.assert_close(logvar, torch.full_like(logvar, -7.0))


def test_the_bases_are_orthonormal() -> None:
    torch.testing.assert_close(haar_packets() @ haar_packets().T, torch.eye(64))
    torch.testing.assert_close(cosine_basis(64).T @ cosine_basis(64), torch.eye(64), rtol=0, atol=1e-6)
    torch.testing.assert_close(cosine_basis(16), cosine_basis(64)[:, :16])
    # the first of both is the mean of the cell
    for first in (haar_packets()[0], cosine_basis(1)[:, 0]):
        torch.testing.assert_close(first, torch.full((64,), 0.125))


def test_every_residual_branch_can_open(chest: Tensor) -> None:
    vae = build("linear").train()
    reconstruction, _ = vae(chest[..., :64, :64])
    (reconstruction / 1000).square().mean().backward()
    closed = [value for name, value in vae.named_parameters() if name.endswith("conv2.weight")]
    assert len(closed) == 16 and not any(value.any() for value in closed)
    assert all(value.grad is not None and value.grad.any() for value in closed)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"widths": (16, 32, 96)}, "needs 4 levels .* not 3"),
        ({"widths": (16, 12, 96, 144)}, "level 1 has 12 channels, 16 Haar components need a place"),
        ({"widths": (16, 32, 96, 48)}, "level 3 has 48 channels, 64 Haar components need a place"),
        ({"widths": (16, 32, 96, 96)}, "levels 2 and 3 are both 96 wide"),
        ({"widths": (16, 16, 96, 144)}, "levels 0 and 1 are both 16 wide"),
        ({"groups": 16}, "1 values do not fit into 16 norm groups of 1 channels"),
        ({"latent_channels": 72}, "has 64 cosine components, not 72"),
    ],
)
def test_layouts_without_room_are_errors(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build("linear", **fields)
