"""`benchmarks/ablations/run.py` as a user types it: over phantoms, with the tiny built-in networks; and its shipped groups."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.test_run import ENVIRONMENT
from tests.unit.stages.tiny import RECIPE, snapshot, write_recipe

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "ablations" / "run.py"
SUITE = """
data: {use: folder, root: SCANS, default_report: "Normal chest.", valid_fraction: 0}
protocols: [PROTOCOL, OTHER]
prepare: {size: [8, 16, 16], spacing_mm: [20, 20, 20], min_depth_mm: 100}
"""
PROTOCOL = """
resamples: 40
extractors: {stats: {use: hu-stats, unit: slice}}
metrics: {frechet: {use: frechet, features: stats, planes: 2.5d}, continuity: continuity, cost: cost}
"""
OTHER = """
resamples: 0
metrics: {continuity: continuity}
"""
STUDY = """
suite: suite.yaml
bases:
  plain: {kind: sampling, recipe: recipe.yaml}
  learnt: {kind: training, recipe: recipe.yaml, set: [train.batch=1]}
  measured: {kind: training, measured: losses, recipe: recipe.yaml, set: [train.batch=1]}
groups:
  solver:
    question: Are two steps enough?
    base: plain
    variants:
      head: [sample.mode=gt-head]
      odd: [rollout.block=0]
      same: [sample.steps=2]
      three: [sample.steps=3]
  noise:
    question: Does noise help?
    base: learnt
    variants:
      wild: [train.lr=1e38]
      noisy: [objective.context_noise=0.5]
  loss:
    question: What does it get wrong after learning faster, or of other noise?
    base: measured
    variants:
      fast: [train.lr=0.1]
      shifted: [schedule.shift=3]
"""


def ablations(folder, *words):
    command = [sys.executable, str(SCRIPT), *map(str, words)]
    return subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("ablations")
    write_recipe(root, RECIPE)
    suite = SUITE.replace("SCANS", str(root / "scans"))
    for word, text in {"PROTOCOL": PROTOCOL, "OTHER": OTHER}.items():
        path = root / f"{word.lower()}.yaml"
        path.write_text(text, encoding="utf-8")
        suite = suite.replace(word, str(path))
    (root / "suite.yaml").write_text(suite, encoding="utf-8")
    (root / "study.yaml").write_text(STUDY, encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def done(world):
    return ablations(world, "--variants", "study.yaml", "--steps", 3, "--cases", 3, "--processes", 1, "-o", "out")


def table(world):
    return json.loads((world / "out" / "table.json").read_text(encoding="utf-8"))


def test_a_variant_that_fails_has_a_row_with_its_error_and_the_rest_goes_on(world, done):
    assert done.returncode == 1, done.stdout + done.stderr
    variants = table(world)["groups"]["solver"]["variants"]
    errors = {name: one["error"] for name, one in variants.items() if one["error"]}
    assert list(errors) == ["head", "odd", "same"] and len(variants) == 5
    assert "rollout.block: expected a value greater than 0" in errors["odd"]
    assert "needs real slices" in errors["head"] and "changes nothing" in errors["same"]
    trained = table(world)["groups"]["noise"]["variants"]
    assert "loss is nan" in trained["wild"]["error"] and not trained["noisy"]["error"]
    lines = (world / "out" / "table.md").read_text(encoding="utf-8").splitlines()
    (row,) = [line for line in lines if line.startswith("| odd |")]
    assert "FAILED" in row and "rollout.block=0" in row


def test_differences_are_variant_less_base_with_their_intervals(world, done):
    variants = table(world)["groups"]["solver"]["variants"]
    calls = "network evaluations per volume"
    base, three = variants["base"], variants["three"]
    assert (base["scores"][calls]["value"], three["scores"][calls]["value"]) == (4, 6)
    assert three["differences"][calls]["value"] == 2 and base["differences"] == {}
    name = "Frechet, HU statistics"
    found = three["differences"][name]
    assert found["value"] == pytest.approx(three["scores"][name]["value"] - base["scores"][name]["value"])
    assert found["low"] <= found["value"] <= found["high"] and found["n"] == 3
    assert base["weights"]["backbone"].startswith("RANDOM")


def test_a_number_of_two_protocols_has_two_rows(world, done):
    scores = table(world)["groups"]["solver"]["variants"]["base"]["scores"]
    name = "boundary ratio, 1 is perfect"
    assert name not in scores
    intervals = [scores[f"{name} ({protocol})"]["low"] is not None for protocol in ("protocol", "other")]
    assert intervals == [True, False]


def test_training_variants_share_prepare_and_encode_and_are_scored_with_what_they_learnt(world, done):
    group = table(world)["groups"]["noise"]
    base, noisy = group["variants"]["base"], group["variants"]["noisy"]
    assert base["training"]["steps"] == noisy["training"]["steps"] == 3
    assert base["training"]["other_loss"] == [] and noisy["training"]["other_loss"] == ["objective"]
    assert base["training"]["valid_loss"] > 0
    assert base["weights"]["backbone"] != noisy["weights"]["backbone"]
    assert all(one["weights"]["backbone"].startswith("TRAINED") for one in (base, noisy))
    folders = sorted(path.name.partition("-")[0] for path in (world / "out" / "runs" / "learnt").iterdir() if path.is_dir())
    assert folders == ["encode", "prepare", "train", "train", "train"]


def test_losses_are_measured_on_the_same_blocks_whatever_a_variant_was_trained_with(world, done):
    variants = table(world)["groups"]["loss"]["variants"]
    base, fast, shifted = variants["base"], variants["fast"], variants["shifted"]
    name = "held-out loss"
    assert set(base["scores"]) == {name, "more loss with another's report"} and base["scores"][name]["n"] == 96
    assert base["scores"][name]["low"] < base["scores"][name]["value"] < base["scores"][name]["high"]
    for variant in (fast, shifted):
        assert not variant["error"] and variant["weights"]["backbone"].startswith("TRAINED")
        found = variant["differences"][name]
        assert found["value"] == pytest.approx(variant["scores"][name]["value"] - base["scores"][name]["value"])
        assert found["low"] <= found["value"] <= found["high"] and found["n"] == 96
    # other noise in training, three short steps: nearly the same network, on the same blocks and noise nearly the same loss
    assert abs(shifted["differences"][name]["value"]) < 0.2 * base["scores"][name]["value"]
    assert abs(fast["differences"][name]["value"]) > 3 * abs(shifted["differences"][name]["value"])
    assert shifted["training"]["other_loss"] == ["schedule"]
    assert not (world / "out" / "variants" / "loss" / "fast" / "results.json").exists()


def test_it_says_what_the_numbers_were_made_with_and_draws_every_group(world, done):
    found = table(world)
    assert found["suite"]["n"] == 3 and found["suite"]["seed"] == 0
    assert {"torch", "ctgen-framework"} <= found["provenance"]["versions"].keys()
    assert found["groups"]["noise"]["variants"]["noisy"]["training"]["started_from"].startswith("RANDOM")
    for group in ("solver", "noise", "loss"):
        assert (world / "out" / "plots" / f"{group}.png").read_bytes().startswith(b"\x89PNG")
    assert "real-real" in (world / "out" / "table.md").read_text(encoding="utf-8")


def test_the_same_command_makes_only_what_is_missing(world, done):
    before, numbers = snapshot(world / "out" / "variants"), table(world)["groups"]
    (world / "out" / "variants" / "noise" / "noisy" / "record.json").unlink()
    again = ablations(world, "--variants", "study.yaml", "--group", "noise", "--steps", 3, "--cases", 3, "-o", "out")
    assert again.returncode == 1, again.stderr
    assert "noise/base: done before" in again.stdout
    assert "train: already done" in again.stdout and "noisy: 3 of 3 volumes are there already" in again.stdout
    now = snapshot(world / "out" / "variants")
    assert {name.rpartition("/")[0] for name in before if before[name][1] != now[name][1]} == {"noise/noisy", "noise/wild"}
    assert table(world)["groups"] == numbers


def test_every_variant_of_the_repository_is_a_valid_recipe_that_is_not_its_base():
    listed = ablations(SCRIPT.parent, "--list")
    assert listed.returncode == 0, listed.stdout + listed.stderr
    assert "solver (sampling): " in listed.stdout and "start-boost (training): " in listed.stdout


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("base: plain", "base: plane", "no base 'plane'; there are: plain, learnt, measured"),
        ("kind: training, measured", "kind: sampling, measured", "losses are of what was trained"),
        ("sample.steps=3", "backbone.width=8", "variant three: backbone.width=8 is fixed by training"),
        ("question: Does noise help?", "questoin: x", "study.yaml:17:5: study.groups.noise.questoin: unknown key"),
    ],
)
def test_mistakes_in_the_file_are_told(world, tmp_path, old, new, message):
    (tmp_path / "study.yaml").write_text(STUDY.replace(old, new), encoding="utf-8")
    refused = ablations(tmp_path, "--variants", "study.yaml", "--list")
    assert refused.returncode == 2 and message in refused.stderr
