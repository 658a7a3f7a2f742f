"""`ctgen bench` and `ctgen evaluate` as a user types them, over phantoms and untrained models."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from ctgen.recipe.settings import SampleSettings
from ctgen.testing import phantom
from ctgen.volume import Volume
from ctgen.volume.io import read_volume, write_volume
from tests.e2e.plugins import install
from tests.e2e.test_run import ENVIRONMENT, ctgen
from tests.unit.stages.tiny import RECIPE, snapshot

SUITE = """
summary: three phantoms
data: {use: folder, root: scans, default_report: "Normal chest.", valid_fraction: 0}
seed: 3
protocols: [quick.yaml]
prepare: {size: [8, 16, 16], spacing_mm: [20, 20, 20], min_depth_mm: 100}
"""
PROTOCOL = """
summary: quick
reproduces: nothing
resamples: 40
metrics: {hu-histogram: hu-histogram, continuity: continuity, reconstruction: reconstruction, cost: cost}
"""
LOST = """
weights: {net: {file: net.pt, where: "from nowhere"}}
extractors: {net: {use: torchscript-inception}}
metrics: {fid: {use: frechet, features: net}}
"""
FRAGILE = """
import os
import time
from pathlib import Path
from ctgen import hookimpl
from ctgen.config import ComponentConfig
from ctgen.volume import Volume

class Fragile:
    def __init__(self, config):
        pass
    def generate(self, request, seed):
        import numpy as np
        if request.id == os.environ["BROKEN"] and not Path(os.environ["MENDED"]).exists():
            raise RuntimeError(f"no {request.id} today")
        time.sleep(1.5)  # others are still at work when a case fails
        hu = np.random.default_rng([seed, int(request.id[-1])]).normal(-500, 300, (8, 16, 16))
        return Volume.canonical(hu.round().astype(np.int16), request.spacing_mm)

@hookimpl
def ctgen_register(registrar):
    registrar.generator("fragile", target="fragile_plugin:Fragile", config=ComponentConfig)
"""
TINY = RECIPE.replace("root: SCANS", "root: scans")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("bench")
    for index in range(3):
        write_volume(phantom((16, 32, 32), (10.0, 10.0, 10.0), seed=index), root / "scans" / f"scan{index}.nii.gz")
    files = {"suite": SUITE, "quick": PROTOCOL, "lost": LOST, "one": TINY, "two": TINY.replace("steps: 2,", "steps: 3,")}
    files["headed"] = TINY.replace("sample: {", "sample: {mode: gt-head, ")
    files["broken"] = TINY.replace("use: tiny-conv", "use: stdit, weights: nowhere.safetensors")
    for name, text in files.items():
        (root / f"{name}.yaml").write_text(text, encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def done(world):
    return ctgen(world, "bench", "--models", "one.yaml,two.yaml", "--suite", "suite.yaml", "-o", "out", "--processes", "1")


def results(folder):
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


def numbers(document, protocol="quick"):
    """Model -> metric -> key -> value, without what depends on the clock and on the process."""

    def values(result):
        scored = {name: scores for name, scores in result["values"].items() if name != "cost"}
        return {name: {key: score["value"] for key, score in scores.items()} for name, scores in scored.items()}

    return {model: values(result) for model, result in document["protocols"][protocol]["results"].items()}


def test_it_prints_floors_models_and_differences_and_names_random_weights(world, done):
    assert done.returncode == 0, done.stderr
    assert "WEIGHTS: NONE AND RANDOM" in done.stdout
    for text in (
        "real-real",
        "vae-one",
        "one.yaml",
        "two.yaml",
        "hu-histogram: wasserstein_hu",
        "one - two",
        "report: out/report.html",
    ):
        assert text in done.stdout, text


def test_it_writes_every_format_with_provenance(world, done):
    document = results(world / "out")
    assert document["suite"]["n"] == 3
    assert document["models"]["one"]["facts"]["weights"]["backbone"]["label"] == "RANDOM"
    assert document["models"]["one"]["facts"]["recipe_hash"] != document["models"]["two"]["facts"]["recipe_hash"]
    assert {"torch", "ctgen-framework"} <= document["provenance"]["versions"].keys()
    page = (world / "out" / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png") >= 4
    assert "http://" not in page.replace("http://www.w3.org", "") and "<script" not in page
    rows = list(csv.DictReader((world / "out" / "results.csv").open(encoding="utf-8")))
    assert {row["model"] for row in rows} == {"real-real", "vae-one", "one", "two"}
    assert "| hu-histogram: wasserstein_hu |" in (world / "out" / "results.md").read_text(encoding="utf-8")


def test_models_of_one_autoencoder_share_its_floor_which_is_better_than_they(world, done):
    found = numbers(results(world / "out"))
    assert "vae-two" not in found
    error = {name: values["hu-histogram"]["wasserstein_hu"] for name, values in found.items()}
    assert error["real-real"] < error["one"] and error["vae-one"] < error["one"]


def test_its_volumes_become_one_picture(world, done):
    script = Path(__file__).parents[2] / "benchmarks" / "model_pictures.py"
    command = [sys.executable, str(script), "out", "picture.png", "--cases", "scan0", "scan2", "--models", "two", "vae-one"]
    made = subprocess.run(command, cwd=world, capture_output=True, text=True, timeout=300)
    assert made.returncode == 0, made.stderr
    assert "real, two, vae-one for 2 reports" in made.stdout
    with Image.open(world / "picture.png") as picture:
        wide, high = picture.size
    assert wide > 3 * 100 and high > 4 * 50
    wrong = subprocess.run([*command[:-1], "three"], cwd=world, capture_output=True, text=True, timeout=300)
    assert wrong.returncode == 1 and "has no model 'three'; it has" in wrong.stderr


def test_a_hu_curve_is_fitted_to_its_volumes_and_a_recipe_can_have_it(world, done):
    script = Path(__file__).parents[2] / "benchmarks" / "hu_curve.py"
    command = [sys.executable, str(script), "out", "one"]
    made = subprocess.run(command, cwd=world, capture_output=True, text=True, timeout=300)
    assert made.returncode == 0, made.stderr
    assert "curve of 1 cases, errors on the 2 others" in made.stdout
    section = yaml.safe_load(made.stdout.partition("cases:\n")[2])
    assert len(SampleSettings(**section["sample"]).hu_curve) >= 2
    recipe = world / "curved.yaml"
    recipe.write_text(f"extends: one.yaml\n{yaml.safe_dump(section)}", encoding="utf-8")
    assert ctgen(world, "validate", "curved.yaml").returncode == 0
    wrong = subprocess.run([*command[:-1], "three"], cwd=world, capture_output=True, text=True, timeout=300)
    assert wrong.returncode == 1 and "has no model 'three'; it has" in wrong.stderr
    empty = subprocess.run([*command[:-2], "nowhere", "one"], cwd=world, capture_output=True, text=True, timeout=300)
    assert empty.returncode == 1 and "finish the bench first" in empty.stderr
    shutil.copytree(world / "out", world / "curved")
    (record,) = (world / "curved").glob("one-*/model.json")
    facts = json.loads(record.read_text(encoding="utf-8"))
    facts["identity"]["sample"] |= section["sample"]
    record.write_text(json.dumps(facts), encoding="utf-8")
    twice = subprocess.run([*command[:-2], "curved", "one"], cwd=world, capture_output=True, text=True, timeout=300)
    assert twice.returncode == 1 and "was sampled with a curve" in twice.stderr


def test_run_again_after_a_loss_it_makes_only_what_is_missing_and_gives_the_same_numbers(world, done):
    before, kept = results(world / "out"), snapshot(world / "out")
    (lost,) = (world / "out").glob("two-*/samples/scan1.json")
    lost.unlink()
    again = ctgen(world, "bench", "--models", "one.yaml,two.yaml", "--suite", "suite.yaml", "-o", "out", "--processes", "1")
    assert again.returncode == 0, again.stderr
    assert "two: 2 of 3 volumes are there already" in again.stdout
    assert numbers(results(world / "out")) == numbers(before)
    now = snapshot(world / "out")
    volumes = [name for name in kept if name.endswith(".nii.gz")]
    assert len(volumes) == 9
    made_again = str(lost.relative_to(world / "out")).replace(".json", ".nii.gz")
    assert [name for name in volumes if kept[name][1] != now[name][1]] == [made_again]
    assert all(kept[name][0] == now[name][0] for name in volumes)


def test_two_processes_give_the_same_numbers_and_both_files_one_table(world, done):
    shared = ctgen(world, "bench", "--models", "one.yaml,two.yaml", "--suite", "suite.yaml", "-o", "shared", "--processes", "2")
    assert shared.returncode == 0, shared.stderr
    assert numbers(results(world / "shared")) == numbers(results(world / "out"))
    joined = ctgen(world, "bench", "--compare", "out/results.json", "shared/results.json")
    assert joined.returncode == 0, joined.stderr
    assert "one@2" not in joined.stdout  # the same model is one column


def test_a_model_that_fails_has_a_row_and_the_others_their_numbers(world, done):
    models = "broken.yaml,headed.yaml,one.yaml"
    failed = ctgen(world, "bench", "--models", models, "--suite", "suite.yaml", "-o", "out", "--processes", "1")
    assert failed.returncode == 3, failed.stderr
    assert "FAILED" in failed.stdout and "nowhere.safetensors" in failed.stdout
    assert "gt-head is shown slices of a real scan" in " ".join(failed.stdout.split())
    document = results(world / "out")
    assert document["models"]["broken"]["error"] and "one" in document["protocols"]["quick"]["results"]


@pytest.mark.parametrize(("processes", "broken"), [(1, "scan2"), (2, "scan2"), (2, "scan0")])
def test_a_model_that_fails_at_a_case_loses_nothing_and_goes_on_when_it_is_mended(
    world, tmp_path, monkeypatch, processes, broken
):
    monkeypatch.setitem(ENVIRONMENT, "BROKEN", broken)
    monkeypatch.setitem(ENVIRONMENT, "PYTHONPATH", str(install(tmp_path / "site", "fragile", FRAGILE)))
    monkeypatch.setitem(ENVIRONMENT, "MENDED", str(tmp_path / "mended"))
    shutil.copytree(world / "scans", tmp_path / "theirs")
    (tmp_path / "theirs" / "scan1.nii.gz").unlink()
    words = ("bench", "--models", f"fragile,folder:{tmp_path / 'theirs'}", "--suite", "suite.yaml", "-o", tmp_path / "out")
    failed = ctgen(world, *words, "--processes", processes)
    assert failed.returncode == 3, failed.stderr
    assert f"FAILED fragile: case {broken}: RuntimeError: no {broken} today" in failed.stdout
    document = results(tmp_path / "out")
    assert document["models"]["fragile"]["error"] == f"case {broken}: RuntimeError: no {broken} today"
    assert document["protocols"]["quick"]["results"].keys() == {"real-real", "theirs"}
    # the other model's missing case is named, and is no failure
    assert document["models"]["theirs"]["left_out"].keys() == {"scan1"} and document["models"]["theirs"]["n"] == 2
    kept = {name: state for name, state in snapshot(tmp_path / "out").items() if "/samples/" in name}
    # where the last case fails, a process was free for it because another case was done; where the first fails, the
    # process beside it was at another case
    done = {name.rpartition("/")[2] for name in kept if name.startswith("fragile-")}
    assert done & {"scan0.json", "scan1.json"} and f"{broken}.json" not in done
    (tmp_path / "mended").touch()
    again = ctgen(world, *words, "--processes", processes)
    assert again.returncode == 0, again.stderr
    now = snapshot(tmp_path / "out")
    assert all(now[name] == state for name, state in kept.items())
    assert results(tmp_path / "out")["protocols"]["quick"]["results"]["fragile"]["n"] == 3


def test_a_changed_protocol_shares_no_table(world, done):
    shutil.copytree(world / "out", world / "kept")
    (world / "other").mkdir()
    (world / "other" / "quick.yaml").write_text(PROTOCOL.replace("resamples: 40", "resamples: 41"), encoding="utf-8")
    words = ("--models", "one.yaml", "--suite", "suite.yaml", "--protocol", "other/quick.yaml")
    refused = ctgen(world, "bench", *words, "-o", "kept")
    assert refused.returncode == 2
    assert "must not share a table" in refused.stderr and "protocol.resamples: 40 there, 41 here" in refused.stderr
    apart = ctgen(world, "bench", *words, "-o", "apart", "--processes", "1")
    assert apart.returncode == 0, apart.stderr
    compared = ctgen(world, "bench", "--compare", "out/results.json", "apart/results.json")
    assert compared.returncode == 2 and "must not share a table" in compared.stderr


def test_a_protocol_without_its_weights_is_not_run_and_says_where_they_are(world, done):
    words = ("--suite", "suite.yaml", "--protocol", "lost.yaml,quick.yaml", "-o", "out", "--processes", "1")
    without = ctgen(world, "bench", "--models", "one.yaml", *words)
    assert without.returncode == 0, without.stderr
    assert "NOT RUN lost: net.pt (extractor 'net') is not here; from nowhere" in without.stdout


def test_wrong_names_get_the_nearest(world):
    for words, text in (
        (("--models", "ctflw"), "did you mean 'ctflow"),
        (("--models", "one.yaml", "--suite", "minni"), "did you mean 'mini'?"),
        (("--models", "one.yaml", "--suite", "suite.yaml", "--protocol", "styleganv-fi"), "did you mean 'styleganv-fid'?"),
    ):
        refused = ctgen(world, "bench", *words, "-o", "none")
        assert refused.returncode == 2 and text in refused.stderr, refused.stderr
    assert not (world / "none").exists()


def test_a_folder_with_three_bad_files_is_scored_for_the_rest_and_names_them(world):
    made = world / "made"
    reference = world / "reference"
    for index in range(6):
        real = phantom((30, 32, 32), (8.0, 10.0, 10.0), seed=20 + index)
        write_volume(real, reference / f"case{index}.nii.gz")
        noisy = np.asarray(real.hu, np.float32) + np.random.default_rng(index).normal(0, 30, real.shape)
        write_volume(Volume(noisy.round().astype(np.int16), real.affine), made / f"case{index}.nii.gz")
    (made / "case1.nii.gz").unlink()
    whole = (made / "case2.nii.gz").read_bytes()
    (made / "case2.nii.gz").write_bytes(whole[: len(whole) // 2])
    turned = read_volume(made / "case3.nii.gz")
    # axes exchanged, and a header that says nothing of it
    write_volume(Volume.canonical(np.ascontiguousarray(turned.hu.transpose(1, 0, 2)), (10.0, 8.0, 10.0)), made / "case3.nii.gz")
    # stored the other way round, and a header that says so: this one is fine
    flipped = read_volume(made / "case4.nii.gz")
    affine = flipped.affine.copy()
    affine[:3, 3] += affine[:3, 0] * (flipped.shape[0] - 1)
    affine[:3, 0] *= -1
    write_volume(Volume(np.ascontiguousarray(flipped.hu[::-1]), affine), made / "case4.nii.gz")
    scored = ctgen(world, "evaluate", "made", "--reference", "reference", "--protocol", "quick.yaml", "-o", "scores")
    assert scored.returncode == 0, scored.stderr
    left_out = results(world / "scores")["models"]["made"]["left_out"]
    assert sorted(left_out) == ["case1", "case2", "case3"]
    assert "missing" in left_out["case1"] and "wrong orientation" in left_out["case3"]
    assert results(world / "scores")["protocols"]["quick"]["results"]["made"]["n"] == 3
    assert all(f"left out: {name}" in scored.stderr for name in left_out)
    assert "3 of 6" in scored.stdout
    page = (world / "scores" / "report.html").read_text(encoding="utf-8")
    assert "<h1>ctgen evaluate: made</h1>" in page and "Against the scans of reference." in page
    assert "best of the models" not in page
