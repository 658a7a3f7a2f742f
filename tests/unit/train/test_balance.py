"""Balanced drawing: the documented weights, on skewed data."""

from __future__ import annotations

import pytest
import torch

from ctgen.errors import DataError
from ctgen.train.balance import case_weights
from ctgen.train.batches import generator_for

from .test_latent_flow import Recorder, Source, build


def labels_of(*groups, names=("nodule", "effusion", "emphysema")):
    return [{name: int(name in members) for name in names} for members in groups]


SKEWED = labels_of(*[()] * 80, *[("nodule",)] * 15, *[("effusion",)] * 4, ("effusion", "nodule"))
"""100 cases: 80 without findings, 16 with a nodule, 5 with an effusion, one of these with both; no emphysema."""


def test_weights_are_what_is_documented():
    weights = case_weights(SKEWED, cap=1000)
    shares = weights / weights.sum()
    for index, expected in ((0, 1 / 80), (80, 1 / 16), (95, 1 / 5), (99, 1 / 5 + 1 / 16)):
        assert shares[index].item() == pytest.approx(expected / 3)
    assert weights.mean().item() == pytest.approx(1)


def test_every_finding_has_at_least_its_share_of_the_draws():
    weights = case_weights(SKEWED, cap=1000)
    drawn = torch.multinomial(weights, 20000, replacement=True, generator=generator_for(1)).tolist()
    for name, before in (("nodule", 0.16), ("effusion", 0.05)):
        share = sum(SKEWED[case][name] for case in drawn) / len(drawn)
        assert before < 1 / 3 - 0.01 <= share


def test_no_case_is_drawn_more_often_than_the_cap_allows():
    weights = case_weights(SKEWED, cap=4.0)
    assert weights.max().item() == pytest.approx(4.0)
    assert weights.mean().item() == pytest.approx(1)
    # order is kept below the cap
    assert weights[0] < weights[80] < weights[95]
    assert case_weights(SKEWED, cap=1.0).tolist() == pytest.approx([1.0] * 100)


def test_cases_without_labels_are_drawn_as_before():
    weights = case_weights([*labels_of((), ("nodule",)), None, None], cap=10)
    assert weights[2:].tolist() == [1, 1]
    assert weights.mean().item() == pytest.approx(1)


def test_no_labels_at_all_is_an_error_that_says_what_to_do():
    with pytest.raises(DataError, match="no training case has labels") as caught:
        case_weights([None, None], cap=10)
    assert "objective.balance=none" in caught.value.hint


class Labelled(Source):
    """One of 20 cases has a nodule."""

    def __init__(self):
        super().__init__(20)
        self.read = 0

    def record(self, index):
        self.read += 1
        return {**super().record(index), "labels": {"nodule": int(index == 7), "effusion": 0}}


def drawn(objective, source, count=400):
    cases = objective.batch(source, count, generator_for(3))["spacing"][:, 2] - 1
    return (cases == 7).float().mean().item()


def test_the_objective_draws_by_the_weights():
    source = Labelled()
    assert drawn(build(Recorder()), source) == pytest.approx(0.05, abs=0.04)
    assert drawn(build(Recorder(), balance="labels"), source) == pytest.approx(0.5, abs=0.08)
    assert drawn(build(Recorder(), balance="labels", balance_cap=4.0), source) == pytest.approx(0.2, abs=0.07)


def test_labels_are_read_once_and_draws_are_reproducible():
    source = Labelled()
    objective = build(Recorder(), balance="labels")
    objective.prepare(source)
    assert source.read == 20
    first, again = (objective.batch(source, 8, generator_for(5)) for _ in range(2))
    assert torch.equal(first["target"], again["target"])
    assert source.read == 20 + 16
