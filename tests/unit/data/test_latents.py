from __future__ import annotations

import pickle

import pytest
import torch

from ctgen.data.latents import LatentStore, merge_parts, write_part
from ctgen.errors import StageError
from ctgen.interfaces import Posterior, TextFeatures


def moments(seed, variance=True):
    generator = torch.Generator().manual_seed(seed)
    mean, logvar = torch.randn((2, 1, 3, 5, 2, 2), generator=generator)
    return Posterior(mean, logvar if variance else None)


def text(seed, length, pooled=True):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(7)[None] < length
    tokens = torch.randn((1, 7, 4), generator=generator) * mask[..., None]
    return TextFeatures(tokens, mask, torch.randn((1, 6), generator=generator) if pooled else None)


@pytest.fixture
def store(tmp_path):
    cases = {"b": (moments(1), text(1, 3)), "a": (moments(2, variance=False), text(2, 7, pooled=False))}
    parts = []
    for name, (posterior, features) in cases.items():
        write_part(tmp_path / "parts" / f"{name}.h5", posterior, features)
        parts.append((name, tmp_path / "parts" / f"{name}.h5"))
    merge_parts(parts, tmp_path / "latents.h5")
    return LatentStore(tmp_path / "latents.h5"), cases, parts


def test_moments_come_back_in_half_precision(store):
    latents, cases, _ = store
    for name, (posterior, _) in cases.items():
        found = latents.posterior(name)
        assert found.mean.dtype == torch.float32
        assert torch.equal(found.mean, posterior.mean.half().float())
    assert torch.equal(latents.posterior("b").logvar, cases["b"][0].logvar.half().float())
    assert latents.posterior("a").logvar is None


def test_text_comes_back_without_padding(store):
    latents, cases, _ = store
    found = latents.text("b")
    assert found.tokens.shape == (1, 3, 4)
    assert found.mask.all() and found.mask.dtype == torch.bool
    assert torch.equal(found.tokens[0], cases["b"][1].tokens[0, :3].half().float())
    assert torch.equal(found.pooled, cases["b"][1].pooled)
    assert latents.text("a").pooled is None
    assert latents.text("a").tokens.shape == (1, 7, 4)


def test_merging_is_deterministic(store, tmp_path):
    latents, _, parts = store
    merge_parts(parts, tmp_path / "again.h5")
    assert (tmp_path / "again.h5").read_bytes() == latents.path.read_bytes()


def test_a_store_can_be_sent_to_workers_open_or_not(store):
    latents = store[0]
    mean = latents.posterior("a").mean
    assert torch.equal(pickle.loads(pickle.dumps(latents)).posterior("a").mean, mean)


def test_a_missing_cache_says_what_to_run(tmp_path):
    with pytest.raises(StageError, match="no latent cache") as caught:
        LatentStore(tmp_path / "latents.h5")
    assert "--until encode" in caught.value.hint


def test_a_failed_merge_leaves_nothing(tmp_path):
    with pytest.raises(OSError):
        merge_parts([("a", tmp_path / "none.h5")], tmp_path / "latents.h5")
    assert list(tmp_path.iterdir()) == []
