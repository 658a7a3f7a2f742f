"""The shipped weights are a place to go on from: a few steps lower the loss, and what is sampled stays a chest in HU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ctgen import Host, load_recipe
from ctgen.data.atlas.config import AtlasThoraxConfig
from ctgen.data.atlas.dataset import AtlasThorax
from ctgen.interfaces import CaseRequest, Report
from ctgen.sample.generator import ComposedGenerator
from ctgen.stages.components import build_components
from ctgen.testing import MemorySource
from ctgen.train.batches import generator_for

CASES, STEPS, BATCHES = 3, 20, 4


class Chests(MemorySource):
    """Simulated chests, encoded once."""

    def __init__(self, config: AtlasThoraxConfig, autoencoder, text_encoder) -> None:
        super().__init__(autoencoder, text_encoder, cases=CASES)
        cases = [AtlasThorax(config)[index] for index in range(CASES)]
        self._volumes = [case.volume for case in cases]
        self._reports = [case.report or Report("") for case in cases]
        self._encoded = [MemorySource.posterior(self, index) for index in range(CASES)]

    def posterior(self, index, slices=None):
        found = self._encoded[index]
        return found if slices is None else type(found)(found.mean[:, :, slices], found.logvar[:, :, slices])


@pytest.mark.slow
def test_a_few_steps_lower_the_loss_and_leave_the_sample_valid(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text("extends: preset:ctflow-mini\ndata: {cases: 3, seed: 4321}\n", encoding="utf-8")
    recipe = load_recipe(file, host=Host.discover())
    components = build_components(recipe)
    backbone = components["backbone"]
    assert backbone.weights.label == "MINI"
    for part in ("autoencoder", "text_encoder"):
        components[part].eval().requires_grad_(False)
    source = Chests(recipe.data.config, components["autoencoder"], components["text_encoder"])
    parts = {"components": components, "schedule": components["schedule"], "rollout": components["rollout"]}
    objective = recipe.host.build("objective", recipe.objective.name, recipe.objective.config, **parts)
    objective.prepare(source)
    batches = [objective.batch(source, 4, generator_for(100, step)) for step in range(BATCHES)]

    @torch.no_grad()
    def loss() -> float:
        backbone.eval()
        losses = [objective.loss(batch, 1, generator_for(200, step))["loss"] for step, batch in enumerate(batches)]
        return float(torch.stack(losses).mean())

    before = loss()
    assert before < 0.6  # 0.21; 1.5 with random weights
    optimiser = torch.optim.AdamW([one for one in backbone.parameters() if one.requires_grad], lr=5e-5)
    for step in range(STEPS):
        backbone.train()
        optimiser.zero_grad()
        objective.loss(batches[step % BATCHES], step, generator_for(300, step))["loss"].backward()
        torch.nn.utils.clip_grad_norm_(backbone.parameters(), 1.0)
        optimiser.step()
    assert loss() < before
    backbone.eval()
    sample = recipe.sample.model_copy(update={"steps": 4})
    generated = ComposedGenerator(components, recipe.prepare, sample, where=torch.device("cpu")).run(
        CaseRequest("one", Report("Large right pleural effusion."), slices=16), 0
    )
    hu = generated.volume.hu
    assert hu.shape == (16, 128, 128) and np.isfinite(hu).all() and generated.evaluations == 4
    assert (hu < -700).mean() > 0.1, "air around the body"
    assert ((hu > -200) & (hu < 300)).mean() > 0.1, "soft tissue"
