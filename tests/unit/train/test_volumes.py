from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from ctgen.data.labels import LABELS
from ctgen.errors import DataError
from ctgen.interfaces import Sizes
from ctgen.testing import MemorySource
from ctgen.train.batches import generator_for
from ctgen.train.volumes import AIR_HU, draw, label_aurocs, labels_cross_entropy, move, stated, whole_volumes
from ctgen.train.volumes_config import WholeVolumesConfig


def test_moved_volumes_keep_their_sides():
    volume, result = torch.arange(24.0).reshape(2, 3, 4), torch.full((2, 3, 4), -1000.0)
    move(volume, (1, 0, -1), result)
    assert result[0].eq(-1000).all()
    assert torch.equal(result[1, :, :3], volume[0, :, 1:])
    assert result[1, :, 3].eq(-1000).all()
    move(volume, (0, 0, 0), result)
    assert torch.equal(result, volume)


def test_volumes_are_varied_as_asked_and_else_as_they_are():
    source = MemorySource(cases=2)
    plain = whole_volumes([1, 0], source, WholeVolumesConfig(), generator_for(0))["volume"]
    assert torch.equal(plain, torch.stack([source.volume(1), source.volume(0)])[:, None])
    config = WholeVolumesConfig(shift_voxels=(2, 0, 3))
    moved = whole_volumes([0] * 60, source, config, generator_for(1))["volume"]
    steps = [_steps(one[0], source.volume(0)) for one in moved]
    assert [{step[axis] for step in steps} for axis in (0, 1)] == [set(range(-2, 3)), set(range(-3, 4))]
    offset = whole_volumes([0] * 40, source, WholeVolumesConfig(offset_hu=20.0), generator_for(2))["volume"]
    shifts = (offset[:, 0] - source.volume(0)).flatten(1)
    assert shifts.std(1).max() < 1e-3
    assert 12 < shifts.mean(1).std() < 28
    noisy = whole_volumes([0] * 40, source, WholeVolumesConfig(noise_hu=30.0), generator_for(3))["volume"]
    levels = (noisy[:, 0] - source.volume(0)).flatten(1).std(1)
    assert 0 < levels.min() < 8 < 22 < levels.max() < 31


def _steps(moved, volume):
    """By how much along D and W ``volume`` was moved."""
    for down, right in itertools.product(range(-2, 3), range(-3, 4)):
        made = torch.full_like(volume, AIR_HU)
        move(volume, (down, 0, right), made)
        if torch.equal(made, moved):
            return down, right
    raise AssertionError("it is not the volume, moved")


def test_cases_without_what_is_wanted_are_passed_over():
    class Half(MemorySource):
        def record(self, index):
            known = super().record(index)
            return {**known, "labels": known["labels"] if index % 2 else None}

    cases = draw(Half(cases=6), 3, generator_for(0), "labels")
    assert sorted(index for index, _ in cases) == [1, 3, 5]
    assert len({index for index, _ in draw(Half(cases=6), 5, generator_for(0), "report")}) == 5
    with pytest.raises(DataError, match="0 of 2 cases drawn from 1 have labels"):
        draw(Half(cases=1), 2, generator_for(0), "labels")


def test_what_is_not_known_counts_nowhere():
    records = [{"labels": {LABELS[0]: 1, LABELS[2]: 0}}, {"labels": {LABELS[0]: 0}}, {"labels": None}]
    labels, known = stated(records)
    assert labels.sum().item() == 1
    assert known.sum(0).tolist() == [2, 0, 1] + [0] * 15
    logits = torch.full((3, 18), 7.0)
    right = labels_cross_entropy(torch.where(labels > 0, logits, -logits), labels, known)
    assert right.item() == pytest.approx(math.log1p(math.exp(-7.0)), rel=1e-3)
    assert labels_cross_entropy(logits, labels, known).item() == pytest.approx((14 + 3 * right.item()) / 3, rel=1e-4)


def test_auroc_by_label_is_of_known_cases():
    records = [{"labels": {LABELS[0]: k % 2, LABELS[1]: 1}} for k in range(8)] + [{"labels": {}}]
    scores = np.zeros((9, 18))
    scores[:8, 0] = [1, 2, 3, 4, 5, 6, 7, 0]
    found = label_aurocs(scores, records)
    # of 16 pairs, the last case loses four and the others win ten
    assert found[f"auroc {LABELS[0]}"] == found["auroc"] == 6 / 16
    assert math.isnan(found[f"auroc {LABELS[1]}"])


def test_a_shift_that_moves_all_away_is_refused():
    sizes = Sizes(volume=(4, 6, 8), latent=None, text=None, grid=(4, 6, 8), block=1)  # type: ignore[arg-type]
    assert [field for field, _ in WholeVolumesConfig(shift_voxels=(3, 6, 7)).check(sizes)] == ["shift_voxels"]
