from __future__ import annotations

import torch
from ctgen_ctflow.configs import StditConfig
from ctgen_ctflow.stdit import Stdit

from ctgen.interfaces import Condition, LatentSpec, TextFeatures, TextSpec

BLOCK = (1, 4, 4, 4, 4)


def network(detail: int) -> Stdit:
    torch.manual_seed(0)
    config = StditConfig(layers=1, width=16, heads=2, detail=detail, detail_layers=2)
    return Stdit(config, latent=LatentSpec(channels=4, stride=(1, 8, 8)), text=TextSpec(width=6, max_tokens=3, pooled_width=6))


def condition(context: torch.Tensor | None = None) -> Condition:
    text = TextFeatures(tokens=torch.ones(1, 3, 6), mask=torch.ones(1, 3, dtype=torch.bool), pooled=torch.ones(1, 6))
    return Condition(text=text, context=context)


def test_starts_without_effect_and_learns():
    """Zero at first; one gradient step later its own layers move."""
    model = network(detail=8)
    noisy = torch.randn(BLOCK, generator=torch.Generator().manual_seed(1))
    assert torch.count_nonzero(model(noisy, torch.tensor(0.5), condition())) == 0
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        optimiser.zero_grad()
        (model(noisy, torch.tensor(0.5), condition()) - noisy).square().mean().backward()
        optimiser.step()
    assert model.detail is not None
    assert all(value.grad is not None and value.grad.abs().sum() > 0 for value in model.detail.layers.parameters())


def test_first_slices_see_the_nearest_context_slice_only_through_their_neighbourhood():
    """The receptive field over the context ends at the block's far end: 4 convolutions reach 4 slices, less those below."""
    model = network(detail=8)
    assert model.detail is not None
    torch.nn.init.normal_(model.detail.last.weight, std=0.1, generator=torch.Generator().manual_seed(2))
    values = torch.randn(1, 8, 12, 4, 4, generator=torch.Generator().manual_seed(3))
    out, time = torch.zeros(1, 4, 12, 4, 4), torch.zeros(1, 16)
    changed = values.clone()
    changed[:, 4:, -1] += 1
    moved = (model.detail(values, out, time) - model.detail(changed, out, time)).abs().amax(dim=(0, 1, 3, 4))
    assert (moved[:4] > 0).all()
    assert (moved[4:] == 0).all()
