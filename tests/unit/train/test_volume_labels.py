from __future__ import annotations

import pytest
import torch
from torch import nn

from ctgen.data.labels import LABELS
from ctgen.errors import ConfigError, DataError
from ctgen.interfaces import Classifier, PlaceClassifier, TokenGrid, WeightsInfo
from ctgen.testing import MemorySource, check_classifier, check_objective
from ctgen.train.batches import generator_for
from ctgen.train.log import read_metrics
from ctgen.train.loop import fit
from ctgen.train.volume_labels import VolumeLabels
from ctgen.train.volume_labels_config import VolumeLabelsConfig

from .test_contrastive import SIZE, Source
from .toys import settings

CELL = (2, 3, 4)


class Corners(nn.Module):
    """Reads the means of a volume's eight corners."""

    weights = WeightsInfo("RANDOM")

    def __init__(self) -> None:
        super().__init__()
        self.read = nn.Linear(8, len(LABELS))
        state = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=state)

    def forward(self, volume):
        return self.read(nn.functional.adaptive_avg_pool3d(volume / 100, 2).flatten(1))


class Placed(Corners):
    """Says of each cell what a table says of its mean HU."""

    token_channels = (len(LABELS),)

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(0.1 * torch.randn(len(LABELS), generator=torch.Generator().manual_seed(1)))

    def classify_places(self, volume):
        return self(volume), [nn.functional.avg_pool3d(volume / 100, CELL)[:, 0, ..., None] * self.table]

    def token_grids(self, shape):
        return [TokenGrid(tuple(slice(0, size - size % cell) for size, cell in zip(shape, CELL, strict=True)), CELL)]


class Masked(Source):
    """The bright corners are the finding's."""

    def masks(self, index):
        return (self.volume(index) > 50).int() << (index % 3), torch.ones(len(LABELS), dtype=torch.bool)


def build(model: nn.Module | None = None, **fields) -> VolumeLabels:
    return VolumeLabels(VolumeLabelsConfig(**fields), components={"classifier": model or Corners()})


def test_it_is_an_objective_and_the_toys_are_classifiers():
    assert isinstance(Corners(), Classifier) and not isinstance(Corners(), PlaceClassifier)
    assert isinstance(Placed(), PlaceClassifier)
    check_classifier(Corners())
    check_classifier(Placed(), size=SIZE)
    check_objective(build(shift_voxels=(1, 2, 2), noise_hu=5, offset_hu=5), MemorySource(cases=4))
    check_objective(build(Placed(), mask_weight=1.0), MemorySource(size=SIZE, cases=3))


def test_loss_is_the_cross_entropy_of_what_is_known():
    objective = build()
    batch = objective.batch(Source(), 6, generator_for(0))
    terms = objective.loss(batch, 1, generator_for(0))
    three = slice(0, 3)
    by_hand = nn.functional.binary_cross_entropy_with_logits(
        objective.model(batch["volume"])[:, three], batch["labels"][:, three]
    )
    assert torch.allclose(terms["loss"], by_hand)
    assert batch["known"].sum(0).tolist() == [6] * 3 + [0] * 15
    with pytest.raises(DataError, match="0 of 2 cases drawn from 4 have labels"):
        objective.batch(Source(4, unlabelled=True), 2, generator_for(0))


def test_masks_teach_every_level_and_are_not_mixed_between_labels():
    objective = build(Placed(), mask_weight=2.0)
    source = Masked()
    objective.prepare(source)
    assert (objective.places.levels[0].share[:3] > 0.01).all()
    terms = objective.loss(objective.batch(source, 6, generator_for(0)), 1, generator_for(0))
    assert terms["loss"].item() == pytest.approx((terms["labels"] + 2 * terms["places0"]).item(), rel=1e-5)
    terms["loss"].backward()
    assert objective.model.table.grad.abs().sum() > 0
    assert all(head.linear is None for head in objective.extra.levels)


def test_training_finds_the_labels_and_says_how_well(tmp_path):
    chosen = settings(steps=80, batch=8, lr=5e-2, checkpoint_every=40, log_every=40)
    held_out = Source(16)
    before = build().validate(held_out)
    fit(build(noise_hu=2.0), Source(48), chosen, tmp_path, spec={}, valid_source=held_out)
    row = read_metrics(tmp_path)[-1]
    assert row["valid_auroc"] > 0.97 > before["auroc"]
    assert row[f"valid_auroc {LABELS[1]}"] > 0.9
    assert f"valid_auroc {LABELS[5]}" not in row, "nothing is known of it"
    assert build().validate(Source(8, unlabelled=True)) == {}


def test_no_more_cases_are_scored_than_asked_for():
    class Counting(Source):
        read = 0

        def volume(self, index, slices=None):
            self.read += 1
            return super().volume(index)

    source = Counting(24)
    build(valid_cases=10).validate(source)
    assert source.read == 10


def test_what_cannot_be_trained_is_named():
    with pytest.raises(ConfigError, match="trains a classifier; Linear is none"):
        build(nn.Linear(1, 1))
    with pytest.raises(ConfigError, match="tells the parts of a volume; Corners does not"):
        build(mask_weight=1.0)
