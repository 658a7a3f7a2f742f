from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import pytest

from ctgen.errors import DataError, PluginError
from ctgen.evaluate.configs import CostConfig
from ctgen.evaluate.cost import Cost
from ctgen.evaluate.driver import evaluate
from ctgen.host import Host
from ctgen.interfaces import EvaluationItem, Metric
from ctgen.volume import Volume

NAMES = ("reconstruction", "continuity", "hu-histogram", "cost")


class LowestHu:
    """A metric without resampling, as a plugin might write it."""

    higher_is_better: ClassVar[Mapping[str, bool | None]] = {"lowest": None}
    needs: ClassVar[frozenset[str]] = frozenset({"reconstructed"})
    key = "lowest"

    def __init__(self):
        self.lowest = np.inf

    def update(self, item):
        self.lowest = min(self.lowest, float(item.reconstructed.hu.min()))

    def merge(self, other):
        self.lowest = min(self.lowest, other.lowest)

    def compute(self):
        return {self.key: self.lowest}


def volume(seed, depth=16):
    hu = np.random.default_rng(seed).normal(0, 300, (depth, 12, 12)).astype(np.float32)
    return Volume.canonical(hu, (3.0, 2.0, 2.0))


def items(count=6, generated=4):
    for k in range(count):
        made = volume(100 + k) if k < generated else None
        seconds = float(k + 1) if made else None
        yield EvaluationItem(f"case{k}", volume(k), volume(50 + k), made, (8,) if made else (), seconds)


@pytest.fixture(scope="module")
def host():
    return Host.discover()


def built(host):
    return {name: host.create("metric", name) for name in NAMES}


def test_every_built_in_metric_is_registered_and_keeps_the_contract(host):
    for metric in built(host).values():
        assert isinstance(metric, Metric)
        assert set(metric.meanings) == set(metric.higher_is_better)
        clone = pickle.loads(pickle.dumps(metric))
        clone.merge(metric)
        assert clone.compute() == {}


def test_each_metric_sees_the_cases_that_have_what_it_needs(host):
    result = evaluate(items(), built(host))
    assert result.n == 6
    assert {score.n for score in result.values["reconstruction"].values()} == {6}
    assert {score.n for name in NAMES[1:] for score in result.values[name].values()} == {4}
    assert result.values["cost"]["seconds_per_volume"].value == pytest.approx(2.5)
    assert result.values["cost"]["seconds_per_slice"].value == pytest.approx(10 / 64)
    assert result.per_case["case3"]["cost.seconds_per_volume"] == 4.0
    assert "cost.seconds_per_volume" not in result.per_case["case5"]


def test_intervals_bound_the_mean_and_are_the_same_every_time(host):
    first, second = (evaluate(items(), built(host)).to_json() for _ in range(2))
    assert first == second
    score = first["values"]["cost"]["seconds_per_volume"]
    assert 1.0 < score["low"] < 2.5 < score["high"] < 4.0


def test_the_interval_of_a_mean_has_the_width_that_theory_gives():
    seconds = np.random.default_rng(3).normal(100, 10, 200)
    cases = (EvaluationItem(str(k), generated=volume(0, 2), seconds=float(s)) for k, s in enumerate(seconds))
    score = evaluate(cases, {"cost": Cost(CostConfig())}).values["cost"]["seconds_per_volume"]
    expected = 2 * 1.96 * seconds.std(ddof=1) / np.sqrt(200)
    assert score.high - score.low == pytest.approx(expected, rel=0.1)


def test_two_cases_have_no_interval(host):
    scores = evaluate(items(2, 2), built(host)).values
    assert all(score.low is None and score.high is None for group in scores.values() for score in group.values())


def test_json_is_strict_and_names_its_protocol(host):
    same = volume(0)
    result = evaluate([EvaluationItem("a", same, same)], built(host), protocol={"name": "mine", "version": 2}).to_json()
    text = json.dumps(result, allow_nan=False)
    assert json.loads(text) == result
    assert result["values"]["reconstruction"]["psnr_db"]["value"] == "inf"
    assert result["values"]["cost"] == {}
    protocol = result["protocol"]
    assert (protocol["name"], protocol["version"], protocol["spacing_mm"]) == ("mine", 2, ["3 x 2 x 2"])
    assert result["protocol"]["metrics"]["reconstruction"]["window_hu"] == [-1000.0, 1000.0]


def test_the_hash_is_of_the_list_of_metrics_and_not_of_the_cases(host):
    def hash_of(count, *names, **more):
        return evaluate(items(count), {name: host.create("metric", name) for name in names}, **more).protocol["hash"]

    assert hash_of(2, "cost", "continuity") == hash_of(3, "cost", "continuity")
    lists = [("cost", "continuity"), ("cost",), ("continuity",)]
    assert len({*(hash_of(2, *names) for names in lists), hash_of(2, "cost", resamples=9)}) == 4


def test_a_plain_metric_of_a_plugin_needs_no_resampling():
    score = evaluate(items(), {"lowest": LowestHu()}).values["lowest"]["lowest"]
    assert score.n == 6 and score.low is None and score.value < -500


def test_what_a_metric_does_wrong_names_the_metric_and_the_case():
    broken = LowestHu()
    broken.update = lambda item: 1 / 0
    with pytest.raises(PluginError, match=r"'mine' failed on case 'case0': ZeroDivisionError"):
        evaluate(items(), {"mine": broken})
    undeclared = LowestHu()
    undeclared.key = "other"
    with pytest.raises(PluginError, match="'mine' computes other"):
        evaluate(items(), {"mine": undeclared})


def test_no_case_and_a_case_twice_are_errors(host):
    with pytest.raises(DataError, match="no case"):
        evaluate([], built(host))
    with pytest.raises(DataError, match="'case0' is evaluated twice"):
        evaluate([*items(1, 1), *items(1, 1)], built(host))


def test_bad_windows_are_refused_when_the_recipe_is_read(host):
    from ctgen.errors import ConfigError

    with pytest.raises(ConfigError, match="low < high"):
        host.create("metric", "reconstruction", window_hu=(100, -100))
