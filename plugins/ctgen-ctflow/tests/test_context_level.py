"""The level of the context's noise, from the objective and from the sampler to the network."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from ctflow_fixtures import awake, condition, draw, tiny_stdit
from ctgen_ctflow.configs import FlowMatchingConfig, SliceBlocksConfig
from ctgen_ctflow.flow_matching import FlowMatching
from ctgen_ctflow.slice_blocks import SliceBlocks

from ctgen import Host
from ctgen.errors import ConfigError
from ctgen.interfaces import CaseRequest, Report, TextFeatures
from ctgen.recipe.settings import PrepareSettings, SampleSettings
from ctgen.sample.generator import ComposedGenerator
from ctgen.train.configs import LatentFlowConfig
from ctgen.train.latent_flow import LatentFlow

NOISY, TIME = draw(2, 16, 4, 4, 4), torch.tensor([0.2, 0.9])


@torch.no_grad()
def test_off_it_adds_nothing_and_on_it_changes_the_output() -> None:
    plain, listening = awake(tiny_stdit()), awake(tiny_stdit(context_level_input=True))
    assert not [name for name in plain.state_dict() if "level" in name]
    assert {name for name in listening.state_dict() if "level" in name} == {
        f"level_embedder.mlp.{layer}.{part}" for layer in (0, 2) for part in ("weight", "bias")
    }
    asked = condition(2, context=NOISY)
    levels = [dataclasses.replace(asked, context_level=torch.tensor([0.1, level])) for level in (0.1, 0.5, -1.0)]
    assert torch.equal(plain(NOISY, TIME, levels[0]), plain(NOISY, TIME, levels[1]))
    quiet, loud, unknown = (listening(NOISY, TIME, one) for one in levels)
    assert torch.equal(quiet[0], loud[0]) and all(
        (one[1] - other[1]).abs().max() > 1e-3 for one, other in ((quiet, loud), (quiet, unknown), (loud, unknown))
    )
    with pytest.raises(ConfigError, match="context_level_input is on"):
        listening(NOISY, TIME, asked)


@pytest.mark.parametrize("levels", ["fixed", "uniform"])
def test_training_reaches_the_embedder(levels: str) -> None:
    model = awake(tiny_stdit(context_level_input=True))
    objective = LatentFlow(
        LatentFlowConfig(context_noise=0.7, context_noise_levels=levels, context_dropout=0.3),
        components={"autoencoder": Host.discover().create("autoencoder", "tiny-ae", cell=4, channels=16), "backbone": model},
        schedule=FlowMatching(FlowMatchingConfig()),
        rollout=SliceBlocks(SliceBlocksConfig(block=4)),
    )
    batch = {
        "target": NOISY, "context": NOISY, "text": condition(2).text, "position": torch.zeros(2, 2), "spacing": torch.ones(2, 3)
    }  # fmt: skip
    objective.loss(batch, 1, torch.Generator().manual_seed(0))["loss"].backward()
    assert model.level_embedder is not None
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.level_embedder.parameters())


class Text(torch.nn.Module):
    def encode(self, prompts: list[object]) -> TextFeatures:
        return condition(len(prompts)).text


def test_sampling_adds_the_chosen_noise_and_tells_it() -> None:
    host = Host.discover()
    parts = {
        "autoencoder": host.create("autoencoder", "tiny-ae", cell=4, channels=16),
        "text_encoder": Text(),
        "backbone": awake(tiny_stdit(context_level_input=True)),
        "schedule": FlowMatching(FlowMatchingConfig()),
        "rollout": SliceBlocks(SliceBlocksConfig(block=4)),
    }
    seen: list[tuple[float, torch.Tensor]] = []

    def listen(module: object, given: tuple[object, ...]) -> None:
        seen.append((float(given[2].context_level[0]), given[2].context))

    parts["backbone"].register_forward_pre_hook(listen)
    found = {}
    for level in (0.0, 0.4):
        settings = SampleSettings(steps=1, context_noise=level)
        generator = ComposedGenerator(parts, PrepareSettings(size=(8, 16, 16)), settings)
        seen.clear()
        found[level] = generator.generate(CaseRequest("a", Report("None."), slices=8), 0).hu
        assert [told for told, _ in seen] == pytest.approx([level, level])
        black = seen[0][1][0]
        assert black.std(1).mean().item() == pytest.approx(level, abs=0.05), "the start block is constant along the slices"
    assert (found[0.0] != found[0.4]).any()
