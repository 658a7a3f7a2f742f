"""CLIP score, label faithfulness and text gaps on an extractor whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import binary_auroc, binary_f1_score

from ctgen.errors import DataError
from ctgen.evaluate.auroc import auroc, f1
from ctgen.evaluate.clip_score import ClipScore, cosine
from ctgen.evaluate.driver import evaluate
from ctgen.evaluate.feature_configs import ClipScoreConfig, LabelFaithfulnessConfig, TextGapConfig
from ctgen.evaluate.label_faithfulness import LabelFaithfulness
from ctgen.evaluate.text_gap import TextGap, derangements
from ctgen.interfaces import EvaluationItem, Report

from .toys import Reader, Toy, noise, reading_items, store, vector_of


def reader():
    return store(reader=Reader())


def test_auroc_and_f1_agree_with_torchmetrics_also_with_ties_and_repetitions():
    random = np.random.default_rng(0)
    scores, truth = random.integers(0, 8, 60) / 7.0, random.integers(0, 2, 60).astype(float)
    counts = random.integers(0, 3, 60)
    repeated = torch.from_numpy(np.repeat(scores, counts)), torch.from_numpy(np.repeat(truth, counts)).long()
    assert auroc(scores, truth, counts) == pytest.approx(float(binary_auroc(*repeated)), abs=1e-6)
    assert f1(scores, truth, counts, 0.5) == pytest.approx(float(binary_f1_score(*repeated, threshold=0.499)), abs=1e-6)
    ones = np.ones(60, np.int64)
    assert auroc(scores, np.ones(60), ones) is None
    assert auroc(np.full(60, 0.5), truth, ones) == 0.5
    assert f1(np.zeros(4), np.zeros(4), np.ones(4, np.int64), 0.5) is None


def test_clip_score_is_the_cosine():
    found = evaluate(reading_items(reader(), 4), {"clip": ClipScore(ClipScoreConfig(features="reader"))}, resamples=50)
    values = found.values["clip"]
    assert values["text_image"].value == pytest.approx(100.0, rel=1e-5)
    assert values["image_image"].value == pytest.approx(100.0, rel=1e-5)
    assert values["text_image_real"].value == pytest.approx(100.0, rel=1e-5)
    other = list(reading_items(reader(), 2, asked=lambda k: 1 - k))
    metric, clipped = (ClipScore(ClipScoreConfig(features="reader", clipped=clip)) for clip in (False, True))
    for item in other:
        metric.update(item)
        clipped.update(item)
    wanted = 100 * cosine(vector_of("report 0"), vector_of("report 1"))
    assert metric.compute()["text_image"] == pytest.approx(wanted, rel=1e-5)
    assert clipped.compute()["text_image"] == pytest.approx(max(wanted, 0.0), rel=1e-5)


def test_clip_score_wants_one_row_per_volume():
    item = EvaluationItem("a", generated=noise(1), features=store(toy=Toy()).bank({"generated": noise(1)}), report=Report("x"))
    with pytest.raises(DataError, match="8 rows"):
        ClipScore(ClipScoreConfig(features="toy")).update(item)


def test_faithfulness_is_1_for_what_was_asked_and_chance_for_shuffled_labels():
    metrics = {"labels": LabelFaithfulness(LabelFaithfulnessConfig(features="reader"))}
    right = evaluate(reading_items(reader(), 40), metrics, resamples=50)
    assert right.values["labels"]["auroc"].value == right.values["labels"]["f1"].value == 1.0
    assert right.values["labels"]["auroc.Lung nodule"].value == 1.0
    assert len(right.extra["labels"]["asked_and_found"]) == 40
    metrics = {"labels": LabelFaithfulness(LabelFaithfulnessConfig(features="reader"))}
    shuffled = evaluate(reading_items(reader(), 40, asked=lambda k: (k + 7) % 40), metrics, resamples=200).values["labels"]
    assert shuffled["auroc"].low < 0.5 < shuffled["auroc"].high
    assert shuffled["auroc_real"].value == 1.0


def test_derangements_never_give_a_case_its_own_report():
    for count in (2, 3, 5, 30):
        others = derangements(count, 4, seed=1)
        assert others.shape == (min(4, count - 1), count)
        assert (others != np.arange(count)).all()
        assert all(sorted(row) == list(range(count)) for row in others)
    assert derangements(1, 4, 0).shape == (0, 1)
    assert (derangements(30, 4, 1) == derangements(30, 4, 1)).all()
    assert (derangements(30, 4, 1) != derangements(30, 4, 2)).any()


def test_text_gap_is_clear_for_a_listener_and_nothing_for_the_deaf():
    listening = evaluate(reading_items(reader(), 24), {"gap": TextGap(TextGapConfig(features="reader"))}, resamples=200)
    values = listening.values["gap"]
    for key in ("clip_shuffled", "clip_empty", "auroc_shuffled", "clip_shuffled_real", "auroc_shuffled_real"):
        assert values[key].low > 0, key
    deaf = evaluate(
        reading_items(reader(), 24, asked=lambda k: 0), {"gap": TextGap(TextGapConfig(features="reader"))}, resamples=200
    ).values["gap"]
    assert deaf["clip_shuffled"].low <= 1e-9 and deaf["clip_shuffled"].high >= -1e-9
    assert deaf["auroc_shuffled"].value == 0.0


def test_an_extractor_that_finds_labels_and_reads_nothing_has_the_gap_of_labels_alone():
    class Finder(Toy):
        def labels(self, volume):
            return Reader.labels(self, volume)

    both = evaluate(reading_items(reader(), 24), {"gap": TextGap(TextGapConfig(features="reader"))}, resamples=50).values["gap"]
    items = reading_items(store(finder=Finder("volume")), 24)
    found = evaluate(items, {"gap": TextGap(TextGapConfig(features="finder"))}, resamples=50).values["gap"]
    assert set(found) == {"auroc_shuffled", "auroc_shuffled_real"}
    assert found["auroc_shuffled"] == both["auroc_shuffled"]
    with pytest.raises(DataError, match="cannot read reports"):
        metric = TextGap(TextGapConfig(features="toy"))
        metric.update(next(iter(reading_items(store(toy=Toy("volume")), 1))))
