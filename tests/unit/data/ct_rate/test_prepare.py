"""Preparing a spoilt copy ends with a correct cache."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ctgen.data.ct_rate.audit import audit
from ctgen.data.prepared import PreparedCases
from ctgen.recipe import load_recipe
from ctgen.stages import run

Made = Callable[..., Path]

RECIPE = """
name: copy
data: {use: ct-rate, root: ROOT, reconstruction: all, on_both_sides: drop-from-train}
prepare: {size: [16, 16, 16], spacing_mm: [18, 20, 20], min_depth_mm: 150}
autoencoder: {use: tiny-ae, cell: 8, channels: 4}
text_encoder: {use: hash-text, width: 8, max_tokens: 16}
backbone: {use: tiny-conv, width: 4, layers: 1}
schedule: linear-flow
rollout: whole-volume
objective: latent-flow
"""


def prepare(root: Path, folder: Path, *overrides: str) -> PreparedCases:
    folder.mkdir(exist_ok=True)
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE.replace("ROOT", str(root)))
    run(load_recipe(recipe, overrides), run_dir=folder / "run", until="prepare")
    (made,) = (folder / "run").glob("prepare-*")
    return PreparedCases(made)


def reasons(cases: PreparedCases) -> dict[str, str]:
    return {entry.id: entry.reason for entry in cases.skipped}


@pytest.mark.parametrize("kind", ["fixed", "raw"])
def test_a_spoilt_copy_gives_the_cache_of_a_clean_one(simulated: Made, tmp_path: Path, kind: str) -> None:
    bad, good = simulated(kind, damage=True), simulated(kind, damage=False)
    exclude = tmp_path / "exclude.txt"
    exclude.write_text(audit(bad).exclude_text())
    clean = prepare(good, tmp_path / "good")
    spoilt = prepare(bad, tmp_path / "bad")
    audited = prepare(bad, tmp_path / "audited", f"data.exclude=[{exclude}]")
    planted = json.loads((bad / "planted.json").read_text())["planted"]
    names = {trap["kind"]: [] for trap in planted}
    for trap in planted:
        names[trap["kind"]].append(trap["subject"].rpartition("/")[2].removesuffix(".nii.gz"))

    kept, left = set(spoilt.ids()), reasons(spoilt)
    for what, words in {
        "hu-twice": "computed twice",
        "implausible-hu": "normalised intensities",
        "unreadable": "",
        "no-chest": "no chest",
        "no-report": "no report",
        "no-report-row": "no report",
        "conflicting-rows": "several different rows",
    }.items():
        for name in names[what]:
            assert name not in kept
            assert words in left[name]
    for name in (*names["raw-in-fixed" if kind == "fixed" else "hu-in-raw"], *names["misplaced"], *names["padding"]):
        assert name in kept

    copies = {trap["how"].rpartition("/")[2].removesuffix(".nii.gz") for trap in planted if trap["kind"].startswith("copy")}
    compared = 0
    for cases in (spoilt, audited):
        for name in cases.ids():
            record = cases.record(name)
            if name in copies:
                continue
            assert np.array_equal(cases.array(name), clean.array(name)), name
            assert record["report"] == clean.record(name)["report"]
            # label columns are in another order in one table: they are read by name
            assert record["labels"] == clean.record(name)["labels"]
            compared += 1
    assert compared > 120
    assert set(clean.ids()) - kept == (set(left) & set(clean.ids())) | set(names["row-without-file"])

    leaks = {
        trap["subject"].rpartition("/")[2].removesuffix(".nii.gz")
        for trap in planted
        if trap["kind"].startswith("copy-in-other")
    }
    assert leaks <= kept
    assert not leaks & set(audited.ids())
    (patient,) = names["both-sides"]
    sides = {audited.record(name)["split"] for name in audited.ids() if name.startswith(f"{patient}_")}
    assert sides == {"valid"}


def test_the_manifest_says_how_every_file_was_read(simulated: Made, tmp_path: Path) -> None:
    root = simulated("raw", damage=True)
    manifest = prepare(root, tmp_path / "run").manifest
    decisions = {case["id"]: case["intensity"] for case in manifest["cases"]}
    planted = json.loads((root / "planted.json").read_text())["planted"]
    (odd,) = [Path(trap["subject"]).name.removesuffix(".nii.gz") for trap in planted if trap["kind"] == "hu-in-raw"]
    assert decisions.pop(odd)["decision"] == "hu"
    assert {one["decision"] for one in decisions.values()} == {"csv-rescale"}
    assert {one["intercept"] for one in decisions.values()} == {-1024.0, -8192.0}
    assert {one["stored"]["low"] >= 0 for one in decisions.values()} == {True}
    for case in manifest["cases"]:
        assert case["file"].endswith(f"{case['id']}.nii.gz")
    refused = [entry["reason"] for entry in manifest["skipped"] if "computed twice" in entry["reason"]]
    assert len(refused) == 1
    assert "soft tissue" in refused[0]


def test_two_processes_prepare_the_same(simulated: Made, tmp_path: Path) -> None:
    root = simulated("fixed", damage=True)
    one, two = prepare(root, tmp_path / "one"), prepare(root, tmp_path / "two", "prepare.workers=2")
    assert one.manifest["cases"] == two.manifest["cases"]
    assert one.manifest["skipped"] == two.manifest["skipped"]
