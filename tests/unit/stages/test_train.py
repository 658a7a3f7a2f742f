"""The train stage: what is drawn at random is drawn from the recipe's seed."""

from __future__ import annotations

import pytest
import torch

from ctgen.stages import run
from ctgen.stages import train as stage

from .tiny import RECIPE, load, write_recipe

CODEC = "{use: flux-vae, architecture: mini, weights: random}"
ADVERSARIAL = RECIPE.replace("{use: tiny-ae, cell: 8, channels: 4}", CODEC).replace(
    "objective: latent-flow", "objective: {use: a-vae, crop: 16, adversarial: 0.5}"
)


class Seen(Exception):
    """Training is about to begin."""


def adversary_of(recipe, run_dir, monkeypatch):
    """Its weights as training would find them, whatever torch's own generator has given out before."""
    torch.rand(7)

    def seen(objective, *others, **more):
        raise Seen(objective.adversary.state_dict())

    monkeypatch.setattr(stage, "fit", seen)
    with pytest.raises(Seen) as caught:
        run(recipe, run_dir=run_dir)
    return caught.value.args[0]


def test_layers_of_the_objective_are_drawn_from_the_seed(tmp_path, monkeypatch):
    path = write_recipe(tmp_path, ADVERSARIAL)
    first, again, other = (adversary_of(load(path, f"train.seed={seed}"), tmp_path / "run", monkeypatch) for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)
