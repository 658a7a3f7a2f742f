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
from ctgen.train.places import LEAST_SHARE, PlaceHead, PlaceHeads, holding

from .test_contrastive import SIZE, Pair, Source

CELL = (2, 3, 4)
FINER = (1, 3, 2)


class Placed(Pair):
    """Tokens are the mean HU of each cell, times a table; at a finer level with fewer channels."""

    def __init__(self, channels: int = 20) -> None:
        super().__init__()
        self.token_channels = (3, channels)
        self.table = nn.Parameter(torch.randn(channels, generator=torch.Generator().manual_seed(1)))

    def embed_places(self, volume):
        finer, tokens = (nn.functional.avg_pool3d(volume / 100, cell)[:, 0, ..., None] for cell in (FINER, CELL))
        return self.embed_volumes(volume), [finer * self.table[:3], tokens * self.table]

    def token_grids(self, shape):
        assert tuple(shape) == SIZE
        return [TokenGrid((slice(0, 4), slice(0, 6), slice(0, 8)), cell) for cell in (FINER, CELL)]

    def lock_text(self):
        self.locked = True


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
    finer, found = holding(bits, [TokenGrid((slice(1, 5), slice(0, 6), slice(1, 9)), cell) for cell in (FINER, CELL)])
    assert finer.shape == (4, 2, 4, 18)
    assert found.shape == (2, 2, 2, 18)
    assert torch.equal(finer.view(2, 2, 2, 2, 2, 18).any(1).any(3), found)
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
    kept = [place for place in range(24) if place not in without]
    for held, cell in zip(batch["holds"], (FINER, CELL), strict=True):
        bright = nn.functional.max_pool3d(batch["volume"], cell)[:, 0] > 50
        assert torch.equal(held.any(-1)[kept], bright[kept])


def test_learning_where_findings_are_lowers_the_loss_and_unknown_labels_do_not_count():
    heads = PlaceHeads((3, 22))
    heads.measure(Masked(), Placed().token_grids(SIZE))
    head = heads.levels[1]
    assert (head.share[:3] > 0.01).all()
    assert torch.allclose(heads.levels[0].share[:3], head.share[:3])  # the finding fills whole cells
    assert head.share[3:].tolist() == pytest.approx([LEAST_SHARE] * 15)
    head.measure(torch.full((18,), 0.3))
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


def test_specks_and_large_findings_pull_alike_and_the_offset_starts_where_it_would_end():
    """Over as many parts as hold each finding, its positive parts have the same gradient altogether, and all parts none."""
    head = PlaceHead(18, straight=True)
    shares = [0.5, 0.01, 0.0001]
    head.measure(torch.tensor(shares + [0.5] * 15))
    with torch.no_grad():
        head.whole[0] = 0.0  # the volume's own term has a test of its own
    nothing = torch.zeros(1, 100, 100, 1, 18, requires_grad=True)
    holds, known = torch.zeros(1, 100, 100, 1, 18, dtype=torch.bool), torch.ones(1, 18, dtype=torch.bool)
    for label, share in enumerate(shares + [0.5] * 15):
        holds.view(-1, 18)[: round(10_000 * share), label] = True
    head(nothing, holds, known).backward()
    assert head.offset.grad.abs().max() < 1e-4
    pulls = [-(nothing.grad * holds)[..., label].sum().item() for label in range(3)]
    assert pulls[0] < pulls[1] < pulls[2] < 2.01 * pulls[0]


def test_the_likeliest_part_speaks_for_the_volume():
    """Of parts where there is nothing, the one that looks most like a finding is pushed down the hardest."""
    head = PlaceHead(18, straight=True)
    tokens = torch.zeros(1, 1, 20, 20, 18)
    tokens[0, 0, 3, 4] = 2.0
    tokens.requires_grad_()
    holds, known = torch.zeros(1, 1, 20, 20, 18, dtype=torch.bool), torch.ones(1, 18, dtype=torch.bool)
    head(tokens, holds, known).backward()
    gradient = tokens.grad[0, 0, ..., 7]
    others = gradient.clone()
    others[3, 4] = 0
    assert gradient[3, 4] > 50 * others.max() > 0


def test_all_levels_may_be_straight():
    heads = PlaceHeads((18, 20), straight="all")
    assert [head.linear is None for head in heads.levels] == [True, True]
    assert [head.linear is None for head in PlaceHeads((3, 18)).levels] == [False, True]
    with pytest.raises(ConfigError, match="at least 18 channels, they have 3"):
        PlaceHeads((3, 18), straight="all")


def test_gradients_reach_the_encoder_and_what_is_missing_is_named():
    objective = Contrastive(ContrastiveConfig(mask_weight=1.0), components={"text_encoder": Placed()})
    source = Masked()
    objective.prepare(source)
    terms = objective.loss(objective.batch(source, 6, generator_for(0)), 1, generator_for(0))
    terms["loss"].backward()
    assert objective.model.table.grad[:3].abs().sum() > 0
    assert objective.places.levels[0].linear.weight.grad.abs().sum() > 0
    assert objective.places.levels[1].scale.grad.abs().sum() > 0
    assert terms["places0"] > 0
    assert terms["places1"] > 0

    with pytest.raises(ConfigError, match="needs an encoder that tells the parts of a volume; Pair does not"):
        Contrastive(ContrastiveConfig(mask_weight=1.0), components={"text_encoder": Pair()})
    with pytest.raises(ConfigError, match="at least 18 channels, they have 3"):
        Contrastive(ContrastiveConfig(mask_weight=1.0), components={"text_encoder": Placed(channels=3)})
    with pytest.raises(ConfigError, match="Pair cannot lock its text tower"):
        Contrastive(ContrastiveConfig(lock_text=True), components={"text_encoder": Pair()})
    locking = Contrastive(ContrastiveConfig(lock_text=True), components={"text_encoder": Placed()})
    assert locking.model.locked

    class Bare(Source):
        def masks(self, index):
            return None

    # shares that were measured before, or came with a checkpoint, stay
    trained = objective.places.levels[0].offset.clone()
    objective.prepare(Bare())
    assert torch.equal(objective.places.levels[0].offset, trained)
    fresh = Contrastive(ContrastiveConfig(mask_weight=1.0), components={"text_encoder": Placed()})
    with pytest.raises(DataError, match="none of the first 24 cases has masks"):
        fresh.prepare(Bare())


def test_impressions_alone_are_read_as_often_as_asked():
    objective = Contrastive(ContrastiveConfig(impressions_only=0.5), components={"text_encoder": Pair()})
    texts = objective.batch(Source(64), 40, generator_for(2))["texts"]
    assert 8 < texts.count("ok") < 32
