"""Frechet, KID, inception score: against the plain formulas, torchmetrics and the parity fixture; streaming and merging."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torchmetrics.image.kid import poly_mmd

from ctgen.errors import DataError
from ctgen.evaluate import kid
from ctgen.evaluate.driver import evaluate
from ctgen.evaluate.feature_configs import FrechetConfig, InceptionScoreConfig, KidConfig
from ctgen.evaluate.frechet import frechet_of_rows
from ctgen.evaluate.frechet_metric import Frechet
from ctgen.evaluate.inception_score import InceptionScore, inception_scores
from ctgen.evaluate.kid import Kid, unbiased_mmd
from ctgen.testing.features import PlainBank

from .toys import Toy, items, noise, store


@pytest.fixture(scope="module")
def fixture(shared_folder):
    folder = shared_folder / "fixtures" / "frechet"
    if not folder.is_dir():
        pytest.skip(f"no fixture at {folder}")
    return load_file(folder / "io.safetensors"), json.loads((folder / "expected.json").read_text())


def all_rows(which, count=6, plane="xy"):
    made = {"real": noise, "generated": lambda k: noise(100 + k, mean=60.0)}[which]
    return np.concatenate([Toy().features(made(k), plane) for k in range(count)])


def test_unbiased_mmd_agrees_with_torchmetrics_and_the_fixture(fixture):
    tensors, expected = fixture
    a, b = tensors["feat_a"].astype(np.float64), tensors["feat_b"].astype(np.float64)
    wanted = expected["kid"]["full_rank"]
    assert unbiased_mmd(a, b) == pytest.approx(wanted["unbiased"], rel=1e-9)
    q = wanted["first_q"]
    assert unbiased_mmd(a[:q], b[:q]) == pytest.approx(wanted["torchmetrics_poly_mmd_first_q"], rel=1e-9)
    low = expected["kid"]["rank_deficient"]["unbiased"]
    assert unbiased_mmd(tensors["low_a"], tensors["low_b"]) == pytest.approx(low, rel=1e-9)


def test_unbiased_mmd_agrees_with_torchmetrics_at_equal_sizes():
    one, other = np.random.default_rng(1).normal(size=(2, 30, 7))
    theirs = poly_mmd(torch.from_numpy(one), torch.from_numpy(other + 0.3), 3, 1.0 / 7, 1.0)
    assert unbiased_mmd(one, other + 0.3) == pytest.approx(float(theirs), rel=1e-9)


@pytest.mark.parametrize("rows", [1, 20, 5000])
def test_kid_streams_in_blocks(monkeypatch, rows):
    monkeypatch.setattr(kid, "BLOCK_ROWS", rows)
    found = evaluate(items(store()), {"kid": Kid(KidConfig(features="toy"))}, resamples=20).values["kid"]["kid"]
    assert found.value == pytest.approx(unbiased_mmd(all_rows("real"), all_rows("generated")), rel=1e-9)
    assert found.low < found.value < found.high


def test_kid_of_resampled_cases_stays_unbiased():
    """Cases that are drawn twice do not look like a spike: of equal sets, resamples lie about 0 and not above it."""
    metric = Kid(KidConfig(features="toy"))
    for item in items(store(), 30, made=lambda k: noise(1000 + k)):
        metric.update(item)
    random = np.random.default_rng(0)
    drawn = [metric.estimate(np.bincount(random.integers(30, size=30), minlength=30))["kid"] for _ in range(200)]
    assert abs(np.mean(drawn)) < np.std(drawn)


def test_inception_score_of_the_fixture(fixture):
    tensors, expected = fixture
    for logits, name in (("logits", "logits_splits_10"), ("logits_odd", "logits_odd_splits_10"), ("logits", "logits_splits_1")):
        wanted = expected["inception_score"][name]["openai_slices"]
        found = inception_scores(tensors[logits], 10 if name.endswith("10") else 1)
        np.testing.assert_allclose(found, wanted["per_split"], rtol=1e-9)


def test_inception_score_metric_runs_over_cases_in_order_of_id():
    metric = InceptionScore(InceptionScoreConfig(features="any", splits=3))
    for item in reversed(list(items(store()))):
        metric.update(item.__class__(item.id, features=PlainBank({"generated": item.generated})))
    logits = np.concatenate([PlainBank({"real": noise(100 + k, mean=60.0)}).logits("any", "real") for k in range(6)])
    assert metric.compute()["inception_score"] == pytest.approx(inception_scores(logits, 3).mean(), rel=1e-12)


@pytest.mark.parametrize(("count", "planes"), [(6, "xy"), (6, "2.5d"), (1, "xy")])
def test_frechet_is_the_distance_of_all_rows(count, planes):
    """By moments, and (where there are no more rows than features) by inner products."""
    depth = 8 if count > 1 else 4
    metric = Frechet(FrechetConfig(features="toy", planes=planes))
    cases = items(store(), count, made=lambda k: noise(100 + k, depth, mean=60.0), real=lambda k: noise(k, depth))
    for item in cases:
        metric.update(item)
    found = metric.compute()
    toy = Toy()
    wanted = []
    for plane in ("xy", "xz", "yz") if planes == "2.5d" else ("xy",):
        real = np.concatenate([toy.features(noise(k, depth), plane) for k in range(count)])
        made = np.concatenate([toy.features(noise(100 + k, depth, mean=60.0), plane) for k in range(count)])
        wanted.append(frechet_of_rows(real, made))
    assert found["frechet"] == pytest.approx(np.mean(wanted), rel=1e-7)
    assert metric.extra()["xy"]["rank_deficient"] == (count == 1)
    assert ("frechet.yz" in found) == (planes == "2.5d")


def test_frechet_of_volumes_resamples_by_inner_products():
    metric = Frechet(FrechetConfig(features="toy", planes="volume"))
    for item in items(store(toy=Toy("volume")), 5):
        metric.update(item)
    counts = np.array([2, 0, 1, 1, 1])
    real, made = (np.concatenate([Toy("volume").features(volume(k)) for k in (0, 0, 2, 3, 4)])
                  for volume in (noise, lambda k: noise(100 + k, mean=60.0)))  # fmt: skip
    assert metric.estimate(counts)["frechet"] == pytest.approx(frechet_of_rows(real, made), rel=1e-9)


@pytest.mark.parametrize("kind", [Frechet, Kid])
def test_order_and_processes_change_no_digit(kind, tmp_path):
    config = {Frechet: FrechetConfig, Kid: KidConfig}[kind](features="toy")
    shared = store(tmp_path)
    cases = list(items(shared, 7))
    whole, backwards, parts = kind(config), kind(config), [kind(config), kind(config)]
    for item in cases:
        whole.update(item)
    for item in reversed(cases):
        backwards.update(item)
    for place, item in enumerate(cases):
        parts[place % 2].update(item)
    merged = pickle.loads(pickle.dumps(parts[1]))
    merged.merge(pickle.loads(pickle.dumps(parts[0])))
    assert whole.compute() == backwards.compute() == merged.compute()
    assert len(pickle.dumps(whole)) < 20_000, "features lie on disk, not in the metric"
    with pytest.raises(DataError, match="both parts"):
        merged.merge(parts[0])
    with pytest.raises(DataError, match="twice"):
        merged.update(cases[0])


def test_floors_and_interval(tmp_path):
    values = evaluate(items(store(tmp_path), 12), {"frechet": Frechet(FrechetConfig(features="toy"))}).values["frechet"]
    assert values["frechet"].low < values["frechet"].value < values["frechet"].high
    assert values["frechet"].value > values["frechet_real_halves"].value > 0
    assert values["frechet"].higher_is_better is False and values["frechet_real_halves"].higher_is_better is None


def test_unpaired_folders_are_compared():
    bank = store()
    found = evaluate(
        [item.__class__(item.id, features=bank.bank({which: getattr(item, which)}))
         for item, which in zip(items(bank, 8), ["real", "generated"] * 4, strict=True)],
        {"frechet": Frechet(FrechetConfig(features="toy"))},
        resamples=5,
    )  # fmt: skip
    assert found.values["frechet"]["frechet"].value > 0
