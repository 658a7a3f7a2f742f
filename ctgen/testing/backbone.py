"""What every backbone must do."""

from __future__ import annotations

import copy
from collections.abc import Collection
from dataclasses import replace
from typing import Any, get_args

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from ctgen.interfaces import Condition, LatentSpec, Predicts, TextFeatures, TextSpec, TokenBackbone
from ctgen.testing.expect import close, differs, equal, expect, global_rng_untouched, seeded, shaped, weights_info


def check_backbone(
    backbone: Any,
    *,
    latent: LatentSpec,
    text: TextSpec,
    cells: tuple[int, int, int] = (4, 4, 4),
    context: int | None = None,
    listens_to: Collection[str] = ("time", "text"),
    tolerance: float = 1e-4,
) -> None:
    """Shapes, batch independence, gradients, a state that safetensors can hold, and that it listens to what it should.

    ``cells`` (d, h, w) of a block; ``context`` slices below it (default: as many as the block has); ``listens_to`` of
    {"time", "text", "context", "position", "spacing"}: a change there must change the output. The check works on a copy
    whose parameters are shaken, because many networks begin with an output of exactly zero.
    """
    expect(isinstance(backbone, nn.Module), f"found {type(backbone).__name__}, wanted an nn.Module")
    choices = get_args(Predicts)
    expect(backbone.predicts in choices, f"predicts: found {backbone.predicts!r}, wanted one of {choices}")
    weights_info(backbone)
    network = _shaken(backbone)
    noisy, time, condition = _inputs(latent, text, cells, cells[0] if context is None else context)
    given = noisy.clone()

    with torch.no_grad(), global_rng_untouched("forward in eval mode"):
        output = network(noisy, time, condition)
        shaped("forward(noisy, time, condition)", output, *noisy.shape)
        close("forward must not change its input", noisy, given, 0.0)
        close("forward twice", network(noisy, time, condition), output, 0.0)
        for row in range(len(noisy)):
            single = network(noisy[row : row + 1], time[row : row + 1], _rows(condition, slice(row, row + 1)))
            close(f"element {row} alone and in a batch", single[0], output[row], tolerance)
        shaped("forward at t = 0 and t = 1", network(noisy, torch.tensor([0.0, 1.0]), condition), *noisy.shape)
        for name in ("position", "spacing", "drop"):
            shaped(f"forward without {name}", network(noisy, time, _without(condition, name)), *noisy.shape)
        _check_drop(network, noisy, time, condition)
        _check_tokens(network, noisy, time, condition, output)
        for name in listens_to:
            changed = _changed(condition, name)
            differs(f"the output when {name} changes", network(noisy, time * 0.5 if name == "time" else time, changed), output)

    network.train()
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(network(noisy, time, condition).square().mean(), parameters, allow_unused=True)
    reached = sum(1 for gradient in gradients if gradient is not None and bool((gradient != 0).any()))
    expect(reached * 2 > len(parameters), f"the loss reaches {reached} of {len(parameters)} parameters, wanted more than half")
    for gradient in gradients:
        if gradient is not None:
            shaped("a parameter's gradient", gradient, *gradient.shape)
    _check_state(network)


def _check_drop(network: nn.Module, noisy: Tensor, time: Tensor, condition: Condition) -> None:
    """A dropped element's output may not depend on its text; the others' outputs may not depend on the dropping."""
    dropped = replace(condition, drop=torch.tensor([False, True]))
    output = network(noisy, time, dropped)
    other = network(noisy, time, _changed(dropped, "text"))
    close("a dropped element with another text", other[1], output[1], 0.0)
    kept = network(noisy, time, replace(condition, drop=torch.tensor([False, False])))
    close("an element that is not dropped, beside one that is", output[0], kept[0], 1e-5)


def _check_tokens(network: nn.Module, noisy: Tensor, time: Tensor, condition: Condition, output: Tensor) -> None:
    """A TokenBackbone's tokens tile the block, and telling them changes nothing else."""
    if isinstance(network, TokenBackbone):
        told, tokens = network.forward_hidden(noisy, time, condition)
        close("forward_hidden's velocity", told, output, 0.0)
        tiles = [size // step for size, step in zip(noisy.shape[2:], network.token_cells, strict=True)]
        shaped("forward_hidden's tokens", tokens, len(noisy), *tiles, network.hidden_width)


def _check_state(network: nn.Module) -> None:
    try:
        state = load(save({key: value.contiguous() for key, value in network.state_dict().items()}))
    except Exception as error:
        raise AssertionError(f"the state_dict cannot be held by safetensors: {error}") from error
    equal("keys after a round trip through safetensors", sorted(state), sorted(network.state_dict()))


def _inputs(latent: LatentSpec, text: TextSpec, cells: tuple[int, int, int], context: int) -> tuple[Tensor, Tensor, Condition]:
    random = seeded(0)
    depth, height, width = cells
    tokens = min(6, text.max_tokens)
    mask = torch.ones(2, tokens, dtype=torch.bool)
    mask[1, (tokens + 1) // 2 :] = False
    pooled = None if text.pooled_width is None else torch.randn(2, text.pooled_width, generator=random)
    features = TextFeatures(torch.randn(2, tokens, text.width, generator=random), mask, pooled)
    condition = Condition(
        text=features,
        context=torch.randn(2, latent.channels, context, height, width, generator=random) if context else None,
        position=torch.tensor([[0, 3 * depth], [depth, 2 * depth]]),
        spacing=torch.tensor([[3.0, 3.0, 3.0], [1.5, 0.8, 0.8]]),
        drop=None,
    )
    return torch.randn(2, latent.channels, *cells, generator=random), torch.tensor([0.9, 0.2]), condition


def _without(condition: Condition, name: str) -> Condition:
    changes: dict[str, Any] = {name: None}
    return replace(condition, **changes)


def _changed(condition: Condition, name: str) -> Condition:
    if name == "text":
        text = condition.text
        pooled = None if text.pooled is None else text.pooled.flip(1) + 1.0
        return replace(condition, text=TextFeatures(text.tokens.flip(2) + 1.0, text.mask, pooled))
    if name == "time":
        return condition
    value = getattr(condition, name)
    expect(value is not None, f"listens_to names {name!r}, which this check passes as None")
    return replace(condition, **{name: value + 1})


def _rows(condition: Condition, rows: slice) -> Condition:
    def cut(value: Tensor | None) -> Tensor | None:
        return None if value is None else value[rows]

    text = condition.text
    return Condition(
        TextFeatures(text.tokens[rows], text.mask[rows], cut(text.pooled)),
        cut(condition.context),
        cut(condition.position),
        cut(condition.spacing),
        cut(condition.drop),
    )


def _shaken(backbone: nn.Module) -> nn.Module:
    network = copy.deepcopy(backbone).cpu().float().eval()
    random = seeded(7)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=random))
    return network
