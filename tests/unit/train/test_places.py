from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from ctgen.data.labels import LABELS
from ctgen.errors import ConfigError, DataError
from ctgen.interfaces import PlaceEncoder, TokenGrid
from ctgen.train.batches import generator_for
from ctgen.train.contrastive import Contrastive
from ctgen.train.contrastive_config import ContrastiveConfig
from ctgen.train.places import MOST_WEIGHT, PlaceHead, holding

from .test_contrastive import SIZE, Pair, Source

CELL = (2, 3, 4)


class Placed(Pair):
    """Tokens are the mean HU of each cell, times a table."""

    def __init__(self, channels: int = 20) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(channels, generator=torch.Generator().manual_seed(1)))

    def embed_places(self, volume):
        return self.embed_volumes(volume), nn.functional.avg_pool3d(volume / 100, CELL)[:, 0, ..., None] * self.table

    def token_grid(self, shape):
        assert tuple(shape) == SIZE
        return TokenGrid((slice(0, 4), slice(0, 6), slice(0, 8)), CELL)


class Masked(Source):
    """The bright corners are the finding's; case 1 has no masks, and of case 2 label 5 is not known."""

    def masks(self, index):
        if index == 1:
            return None
        known = torch.ones(len(LABELS), dtype=torch.bool)
        known[5] = index != 2
        return (self.volume(index) > 50).int() << (index % 3), known


def test_a_cell_holds_every_label_that_any_of_its_voxels_has():
    rng = np.random.default_rng(0)
    bits = (rng.integers(0, 2**18, (5, 8, 9)) * (rng.random((5, 8, 9)) < 0.05)).astype(np.int32)
    found = holding(bits, TokenGrid((slice(1, 5), slice(0, 6), slice(1, 9)), CELL))
    assert found.shape == (2, 2, 2, 18)
    for d, h, w in np.ndindex(2, 2, 2):
        part = bits[1 + 2 * d : 3 + 2 * d, 3 * h : 3 * h + 3, 1 + 4 * w : 5 + 4 * w]
        assert found[d, h, w].tolist() == [bool(((part >> k) & 1).any()) for k in range(18)]


def test_masks_move_with_their_volumes():
    objective = Contrastive(ContrastiveConfig(mask_weight=1.0, shift_voxels=(2, 3, 4)), components={"text_encoder": Placed()})
    assert isinstance(objective.model, PlaceEncoder)
    batch = objective.batch(Masked(), 24, generator_for(5))
    without = [place for place in range(24) if not batch["places_known"][place].any()]
    assert len(without) == 1
    assert (~batch["places_known"][:, 5]).sum() == 2
    bright = nn.functional.max_pool3d(batch["volume"], CELL)[:, 0] > 50
    kept = [place for place in range(24) if place not in without]
    assert torch.equal(batch["holds"].any(-1)[kept], bright[kept])


def test_learning_where_findings_are_lowers_the_loss_and_unknown_labels_do_not_count():
    head = PlaceHead()
    grid = Placed().token_grid(SIZE)
    head.measure(Masked(), grid)
    assert (head.share[:3] > 0.01).all()
    assert (head.share[3:] == 0).all()
    holds = torch.rand(3, 2, 2, 2, 18, generator=generator_for(1)) < 0.3
    known = torch.ones(3, 18, dtype=torch.bool)
    right = torch.where(holds, 8.0, -8.0)
    wrong = torch.where(holds, -8.0, 8.0)
    extra = torch.full((3, 2, 2, 2, 4), 5.0)
    assert head(torch.cat([right, extra], -1), holds, known) < 0.01 < 5 < head(torch.cat([wrong, extra], -1), holds, known)
    known[:, 4] = False
    unlike = right.clone()
    unlike[..., 4] = wrong[..., 4]
    assert torch.equal(head(unlike, holds, known), head(right, holds, known))


def test_rare_findings_count_more_but_not_without_end():
    head = PlaceHead()
    head.share.copy_(torch.tensor([0.5, 0.01, 0.0] + [0.5] * 15))
    nothing = torch.zeros(1, 1, 1, 1, 18)
    losses = []
    for label in range(3):
        holds, known = torch.zeros(1, 1, 1, 1, 18, dtype=torch.bool), torch.zeros(1, 18, dtype=torch.bool)
        holds[..., label], known[:, label] = True, True
        losses.append(head(nothing, holds, known).item())
    assert losses[1] / losses[0] == pytest.approx(99**0.5, rel=1e-4)
    assert losses[2] / losses[0] == pytest.approx(MOST_WEIGHT, rel=1e-4)


def test_gradients_reach_the_encoder_and_what_is_missing_is_named():
    objective = Contrastive(ContrastiveConfig(mask_weight=1.0), components={"text_encoder": Placed()})
    source = Masked()
    objective.prepare(source)
    terms = objective.loss(objective.batch(source, 6, generator_for(0)), 1, generator_for(0))
    terms["loss"].backward()
    assert objective.model.table.grad[:3].abs().sum() > 0
    assert objective.places.scale.grad.abs().sum() > 0
    assert terms["places"] > 0

    with pytest.raises(ConfigError, match="needs an encoder that tells the parts of a volume; Pair does not"):
        Contrastive(ContrastiveConfig(mask_weight=1.0), components={"text_encoder": Pair()})
    with pytest.raises(ConfigError, match="at least 18 channels, they have 3"):
        few = Contrastive(ContrastiveConfig(mask_weight=1.0), components={"text_encoder": Placed(channels=3)})
        few.loss(few.batch(source, 4, generator_for(0)), 1, generator_for(0))

    class Bare(Source):
        def masks(self, index):
            return None

    with pytest.raises(DataError, match="none of the first 24 cases has masks"):
        objective.prepare(Bare())


def test_impressions_alone_are_read_as_often_as_asked():
    objective = Contrastive(ContrastiveConfig(impressions_only=0.5), components={"text_encoder": Pair()})
    texts = objective.batch(Source(64), 40, generator_for(2))["texts"]
    assert 8 < texts.count("ok") < 32
