from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import binary_auroc

from ctgen.evaluate.retrieval import auroc, retrieved


def test_the_own_column_must_be_the_most_similar_of_the_candidates():
    similarity = np.array([[3.0, 1, 9, 9], [2, 1, 9, 9], [9, 9, 5, 4], [9, 9, 6, 7]])
    assert retrieved(similarity, 2) == 0.75
    assert retrieved(similarity, 4) == 0.0
    assert retrieved(similarity, 4, top=4) == 1.0
    assert retrieved(similarity, 64) == 0.0, "fewer cases than candidates: all of them"
    assert retrieved(similarity[:3, :3], 2) == 0.5, "a short last group is left out"


def test_ties_are_no_hits():
    assert retrieved(np.ones((4, 4)), 4) == 0.0
    assert math.isnan(retrieved(np.empty((0, 0)), 4))


def test_auroc_is_torchmetrics():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    scores = np.round(labels + rng.normal(size=200), 1)
    theirs = float(binary_auroc(torch.from_numpy(scores).sigmoid(), torch.from_numpy(labels)))
    assert auroc(scores, labels) == pytest.approx(theirs, rel=1e-6)
    assert auroc(-scores, labels) == pytest.approx(1 - auroc(scores, labels))
    assert math.isnan(auroc(scores, np.ones(200)))
