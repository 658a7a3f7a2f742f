"""A latent_std that is not the latents' is told before training, where something uses it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from ctgen.interfaces import Posterior
from ctgen.stages.latent_spread import spread_warning

CPU = torch.device("cpu")
SCALE = 2.0
"""Of the autoencoder: what is told is of finalised latents."""
TRUE = (3.0, 1.0, 0.5, 0.25)


@pytest.fixture(scope="module")
def source():
    generator = torch.Generator().manual_seed(0)
    shape = torch.tensor(TRUE).div(SCALE).view(1, -1, 1, 1, 1)
    cases = [shape * torch.randn((1, 4, 8, 8, 8), generator=generator) + 1.0 for _ in range(40)]
    return SimpleNamespace(ids=list(range(40)), posterior=lambda index: Posterior(cases[index]))


def warned(source, *, linear_guidance=1.0, backbone=None, **config):
    autoencoder = SimpleNamespace(finalise=lambda posterior, generator: posterior.mean * SCALE)
    recipe = SimpleNamespace(sample=SimpleNamespace(linear_guidance=linear_guidance))
    backbone = backbone or SimpleNamespace(config=SimpleNamespace(**{"skip": "wiener", **config}))
    return spread_warning(recipe, backbone, autoencoder, source, CPU)


def test_a_wrong_one_is_told_with_what_to_write(source):
    text = warned(source, latent_std=(3.0, 1.0, 0.5, 0.5))
    assert "backbone.latent_std" in text
    written = text[text.index("[") + 1 : text.index("]")]
    assert [float(value) for value in written.split(",")] == pytest.approx(TRUE, rel=0.05)
    assert warned(source, latent_std=(1.0,)), "one number for channels that differ"


def test_the_right_one_is_not(source):
    assert warned(source, latent_std=TRUE) == ""
    assert warned(source, latent_std=(2.5, 1.2, 0.45, 0.3)) == "", "other patients differ as much"


def test_only_where_it_is_used(source):
    assert warned(source, latent_std=(1.0,), skip="none") == ""
    assert warned(source, latent_std=(1.0,), skip="none", linear_guidance=1.4)
    assert warned(source) == "", "a backbone that has none"
    assert warned(source, backbone=torch.nn.Linear(1, 1), linear_guidance=1.4) == "", "a backbone without a config"
