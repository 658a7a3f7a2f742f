from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ctgen.interfaces import TextFeatures
from ctgen.whitening import Whitening


def lopsided(count: int = 400, size: int = 48) -> Tensor:
    """Vectors with a mean, whose directions vary by factors of up to 10."""
    generator = torch.Generator().manual_seed(4)
    scales = torch.logspace(-1, 0, size)
    turned, _ = torch.linalg.qr(torch.randn(size, size, generator=generator))
    return torch.randn(count, size, generator=generator) * scales @ turned + 3


def test_whitened_vectors_vary_alike_in_all_directions() -> None:
    vectors = lopsided()
    whitening = Whitening(48)
    assert not whitening.fitted and torch.equal(whitening(vectors), vectors)
    whitening.fit(vectors)
    assert whitening.fitted
    found = whitening(vectors)
    assert found.mean(0).abs().max() < 1e-4
    before, after = (torch.linalg.eigvalsh(torch.cov(of.T)) for of in (vectors, found))
    assert before[-1] / before[0] > 50
    assert after[-1] / after[0] < 3, "but for the floor under small variances"
    assert found.square().mean().item() == pytest.approx(1, abs=1e-3)


def test_rounding_is_not_blown_up_and_equal_vectors_fit_nothing() -> None:
    vectors = lopsided(size=8)
    vectors[:, 0] = 1 + 1e-6 * torch.randn(len(vectors), generator=torch.Generator().manual_seed(5))
    whitening = Whitening(8)
    whitening.fit(vectors)
    assert whitening(vectors)[:, 0].std() < 1e-3
    same = Whitening(8)
    same.fit(torch.ones(5, 8))
    assert not same.fitted


def test_texts_are_read_as_the_backbone_uses_them_and_only_once():
    vectors = lopsided(60)
    mask = torch.tensor([[True, True, False]])
    texts = [TextFeatures(torch.stack([row, row + 1, row * 100])[None], mask, row[None]) for row in vectors]
    pooled, tokens = Whitening(48), Whitening(48)
    pooled.fit_texts(texts, "pooled")
    tokens.fit_texts(texts, "tokens")
    assert torch.allclose(pooled.mean, vectors.mean(0), atol=1e-5)
    assert torch.allclose(tokens.mean, vectors.mean(0) + 0.5, atol=1e-5), "masked tokens are not read"
    before = pooled.matrix.clone()
    pooled.fit_texts([TextFeatures(text.tokens, text.mask, text.pooled * 3) for text in texts], "pooled")
    assert torch.equal(pooled.matrix, before)


def test_another_encoders_vectors_are_turned_to_what_was_read_before():
    generator = torch.Generator().manual_seed(4)
    told = torch.randn((600, 5), generator=generator)
    first, second = (torch.randn((n, 12), generator=generator) for n in (5, 7))
    more = torch.randn((600, 2), generator=generator)
    old = told @ first + 0.02 * torch.randn((600, 12), generator=generator)
    # the new encoder says the same in other directions, and two things more
    new = 3.0 + torch.cat([told, more], 1) @ second + 0.02 * torch.randn((600, 12), generator=generator)
    before, fitted, after = Whitening(12), Whitening(12), Whitening(12)
    before.fit(old)
    fitted.fit(new)
    alike = after.fit_like(new, before(old))
    away = (fitted(new) - before(old)).square().mean()
    assert (after(new) - before(old)).square().mean() < 0.5 * away
    pairs = torch.stack([after(new).flatten(), before(old).flatten()])
    assert alike == pytest.approx(float(torch.corrcoef(pairs)[0, 1]), abs=1e-3)
    # a turn keeps all that the vectors say: outputs lie to each other as those of plain whitening do
    assert torch.allclose(after(new) @ after(new).T, fitted(new) @ fitted(new).T, atol=1e-2)
    same = Whitening(12)
    assert same.fit_like(old, before(old)) > 0.9999
    assert torch.allclose(same(old), before(old), atol=1e-3)


def test_texts_that_were_not_read_before_are_brought_to_the_others():
    generator = torch.Generator().manual_seed(5)
    long = torch.randn((400, 6), generator=generator) @ torch.randn((6, 12), generator=generator)
    short = long[:300] * 0.5 + 40.0 * torch.randn(12, generator=generator)
    before, after = Whitening(12), Whitening(12)
    before.fit(long)
    assert before(short).mean(0).norm() > 5 * before(long).norm(dim=1).mean(), "far from all that a network has read"
    alike = after.fit_like(long, before(long), short)
    assert after(short).norm(dim=1).mean() < 2 * after(long).norm(dim=1).mean()
    pairs = torch.stack([(after(long) - after(long).mean(0)).flatten(), before(long).flatten()])
    assert alike == pytest.approx(float(torch.corrcoef(pairs)[0, 1]), abs=1e-3) and alike > 0.9
