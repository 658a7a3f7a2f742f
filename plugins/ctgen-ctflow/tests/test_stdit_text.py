"""How reports enter the transformer: whitened, and as modulation."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ctflow_fixtures import TEXT, awake, condition, draw, tiny_stdit
from ctgen_ctflow import stdit_weights
from torch import Tensor

from ctgen.errors import CheckpointError
from ctgen.interfaces import Condition, TextFeatures

TIME = torch.tensor([0.3, 0.6])


def lopsided(count: int = 400, size: int = TEXT.width) -> Tensor:
    """Vectors with a mean, whose directions vary by factors of up to 10."""
    generator = torch.Generator().manual_seed(4)
    scales = torch.logspace(-1, 0, size)
    turned, _ = torch.linalg.qr(torch.randn(size, size, generator=generator))
    return torch.randn(count, size, generator=generator) * scales @ turned + 3


def as_texts(vectors: Tensor) -> list[TextFeatures]:
    return [TextFeatures(row[None, None], torch.ones(1, 1, dtype=torch.bool), row[None]) for row in vectors]


@pytest.mark.parametrize("text", ["pooled", "tokens"])
def test_fitting_happens_once_and_is_kept_with_the_weights(text: str, tmp_path: Path) -> None:
    model = awake(tiny_stdit(text=text, text_whitening=True))
    model.fit_texts(as_texts(lopsided()))
    fitted = model.y_embedder.whitening.matrix.clone()
    model.fit_texts(as_texts(lopsided() * 7 + 1))
    assert torch.equal(model.y_embedder.whitening.matrix, fitted)
    file = stdit_weights.save(model, tmp_path / "own.safetensors")
    again = tiny_stdit(text=text, text_whitening=True, weights=str(file))
    assert torch.equal(again.y_embedder.whitening.matrix, fitted)
    noisy, text_of = draw(2, 16, 4, 4, 4), condition(2)
    assert torch.equal(again(noisy, TIME, text_of), model(noisy, TIME, text_of))
    with pytest.raises(CheckpointError, match="text_whitening: checkpoint True, config False"):
        tiny_stdit(text=text, weights=str(file))


def test_a_model_without_whitening_is_not_changed_by_the_texts() -> None:
    model = awake(tiny_stdit())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.fit_texts(as_texts(lopsided()))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@torch.no_grad()
def test_modulation_starts_without_influence_and_then_acts_beside_attention() -> None:
    """With attention to the text shut, the report still matters, and a dropped one is one text."""
    fresh = tiny_stdit(text_modulation=True)
    assert fresh.text_modulator.weight.abs().max() == 0
    model = awake(fresh)
    for block in model.blocks:
        block.cross_attn.proj.weight.zero_()
        block.cross_attn.proj.bias.zero_()
    noisy, one = draw(2, 16, 4, 4, 4), condition(2)
    other = Condition(TextFeatures(one.text.tokens, one.text.mask, one.text.pooled.flip(0)))
    assert not torch.allclose(model(noisy, TIME, one), model(noisy, TIME, other), atol=1e-3)
    drop = torch.tensor([True, True])
    dropped = [model(noisy, TIME, Condition(given.text, drop=drop)) for given in (one, other)]
    assert torch.equal(*dropped)


@torch.no_grad()
def test_modulation_reads_only_tokens_that_are_there() -> None:
    model = awake(tiny_stdit(text="tokens", text_modulation=True))
    full = condition(2, tokens=5)
    mask = full.text.mask.clone()
    mask[:, 3:] = False
    other = full.text.tokens.clone()
    other[:, 3:] += 100
    noisy = draw(2, 16, 4, 4, 4)
    base = model(noisy, TIME, Condition(TextFeatures(full.text.tokens, mask)))
    assert torch.allclose(model(noisy, TIME, Condition(TextFeatures(other, mask))), base, atol=1e-4)
