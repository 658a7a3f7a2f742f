"""generate_to_folder: files, what is kept, what is refused, and what the JSON says."""

from __future__ import annotations

import json
import shutil
import signal
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from ctgen.atomic import sha256_of
from ctgen.errors import ConfigError, Interrupted, MissingFileError, StageError, VolumeError
from ctgen.host import Host
from ctgen.interfaces import Report
from ctgen.sample.generate import GenerateOptions, generate_to_folder, seam
from ctgen.stages import run
from ctgen.testing import phantom
from ctgen.volume.io import read_volume, write_volume
from tests.unit.stages.tiny import RECIPE, Said, load, snapshot, stage_folder, write_recipe

HOST = Host.discover()
NODULE = ("nodule", Report("A nodule.", "Follow up."))
EFFUSION = ("effusion", Report("Pleural effusion."))


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    root = tmp_path_factory.mktemp("generate")
    path = write_recipe(root, count=2)
    run(load(path, host=HOST), run_dir=root / "run", until="train")
    return root / "run"


def make(source, out, reports=(NODULE,), console=None, **options):
    console = console or Said()
    return generate_to_folder(str(source), list(reports), out, GenerateOptions(**options), host=HOST, console=console)


def told(path):
    return json.loads(path.with_name(path.name.split(".")[0] + ".json").read_text(encoding="utf-8"))


def test_a_folder_gets_a_volume_a_json_and_a_picture_per_report(run_dir, tmp_path):
    out = tmp_path / "deep" / "out"
    paths = make(run_dir, out, [NODULE, EFFUSION])
    assert paths == [out / "nodule.nii.gz", out / "effusion.nii.gz"]
    assert sorted(path.name for path in out.iterdir()) == [
        f"{name}{suffix}" for name in ("effusion", "nodule") for suffix in (".json", ".nii.gz", ".png")
    ]
    for path in paths:
        volume = read_volume(path)
        assert volume.shape == (8, 16, 16)
        assert np.allclose(volume.spacing_mm, 20)
    assert (out / "nodule.png").read_bytes().startswith(b"\x89PNG")


def test_the_json_says_where_it_comes_from(run_dir, tmp_path):
    (path,) = make(run_dir, tmp_path / "a.nii.gz", seed=5, slices=6)
    facts = told(path)
    assert facts["synthetic"] is True
    assert facts["sha256"] == sha256_of(path)
    assert facts["file"] == "a.nii.gz"
    assert facts["seed"] == 5
    assert facts["report"] == asdict(NODULE[1])
    assert facts["shape"] == [6, 16, 16]
    assert facts["spacing_mm"] == [20, 20, 20]
    assert facts["boundaries"] == [4]
    assert facts["evaluations"] == 4
    assert facts["head_slices"] == 0
    assert "seam" not in facts
    weights = facts["provenance"]["weights"]["backbone"]
    assert weights["label"] == "TRAINED"
    assert weights["sha256"] == sha256_of(stage_folder(run_dir, "train") / "final" / "backbone.safetensors")
    assert facts["provenance"]["recipe"] == "tiny"


@pytest.mark.parametrize(
    ("name", "options", "suffix"),
    [
        ("out", {}, ".nii.gz"),
        ("out", {"format": "nifti"}, ".nii.gz"),
        ("out", {"format": "mha"}, ".mha"),
        ("out", {"format": "dicom"}, ".dicom"),
        ("a.dicom", {}, ".dicom"),
        ("a.nii.gz", {}, ".nii.gz"),
        ("a.mha", {}, ".mha"),
        ("a.mha", {"format": "mha"}, ".mha"),
        ("a.nrrd", {}, ".nrrd"),
    ],
)
def test_formats(run_dir, tmp_path, name, options, suffix):
    (path,) = make(run_dir, tmp_path / name, slices=2, steps=1, **options)
    assert path.name.endswith(suffix)
    assert read_volume(path).shape == (2, 16, 16)
    assert told(path)["file"] == path.name


@pytest.mark.parametrize(
    ("name", "reports", "options", "found"),
    [
        ("a.nii.gz", [NODULE, EFFUSION], {}, "2 volumes do not fit into one file"),
        ("a.nii.gz", [NODULE], {"count": 2}, "2 volumes do not fit into one file"),
        ("a.nii.gz", [NODULE], {"format": "mha"}, "--format mha writes .mha, but -o ends in .nii.gz"),
        ("a.nii", [NODULE], {}, "volumes are written as .nii.gz, .mha, .nrrd"),
        ("out", [NODULE], {"format": "png"}, "no format named 'png'"),
        ("out", [("a", NODULE[1]), ("a", EFFUSION[1])], {}, "two of the volumes would be written to"),
        ("out", [("a", NODULE[1]), ("a", NODULE[1])], {}, "two of the volumes would be written to"),
        ("file.txt/out", [NODULE], {}, "cannot be a folder"),
        ("file.txt", [NODULE], {}, "cannot be a folder"),
    ],
)
def test_requests_that_cannot_be_met_are_refused_at_once(run_dir, tmp_path, name, reports, options, found):
    (tmp_path / "file.txt").write_text("mine")
    with pytest.raises(ConfigError) as caught:
        make(run_dir, tmp_path / name, reports, **options)
    assert found in str(caught.value)
    assert not list(tmp_path.rglob("*.json"))
    assert (tmp_path / "file.txt").read_text() == "mine"


def test_several_draws_of_one_report_differ(run_dir, tmp_path):
    paths = make(run_dir, tmp_path, count=3, steps=1)
    assert [path.name for path in paths] == [f"nodule_{draw}.nii.gz" for draw in range(3)]
    volumes = [read_volume(path).hu for path in paths]
    assert not any(np.array_equal(volumes[0], other) for other in volumes[1:])


def test_the_same_request_is_kept(run_dir, tmp_path):
    make(run_dir, tmp_path, [NODULE])
    before = snapshot(tmp_path)
    said = Said()
    paths = make(run_dir, tmp_path, [NODULE, EFFUSION], console=said)
    assert len(paths) == 2
    after = snapshot(tmp_path)
    assert all(after[name] == before[name] for name in before)
    assert f"{tmp_path / 'nodule.nii.gz'} is already there from the same request; kept" in said.lines


@pytest.mark.parametrize(
    "options",
    [{"seed": 1}, {"steps": 1}, {"slices": 5}, {"spacing_mm": (10.0, 20.0, 20.0)}],
    ids=lambda options: next(iter(options)),
)
def test_another_request_never_overwrites_and_nothing_else_is_made(run_dir, tmp_path, options):
    make(run_dir, tmp_path, [NODULE])
    before = snapshot(tmp_path)
    with pytest.raises(ConfigError, match="exists, made by another request"):
        make(run_dir, tmp_path, [EFFUSION, NODULE], **options)
    assert snapshot(tmp_path) == before


def test_another_report_under_the_same_id_is_another_request(run_dir, tmp_path):
    make(run_dir, tmp_path, [NODULE])
    with pytest.raises(ConfigError, match="made by another request"):
        make(run_dir, tmp_path, [("nodule", Report("A nodule.", "Do nothing."))])


def test_a_retrained_model_is_another_request(run_dir, tmp_path):
    path = run_dir.parent / "recipe.yaml"
    own = tmp_path / "run"
    for steps in (2, 3):
        run(load(path, f"train.steps={steps}", host=HOST), run_dir=own, until="train")
        if steps == 2:
            make(own, tmp_path / "a.mha")
        else:
            with pytest.raises(ConfigError, match="made by another request"):
                make(own, tmp_path / "a.mha")


@pytest.mark.parametrize("stranger", ["a.nii.gz", "a.json", "a.png"])
@pytest.mark.parametrize("content", ["mine", '{"request": 3}', "[1]"])
def test_files_that_ctgen_did_not_write_are_never_touched(run_dir, tmp_path, stranger, content):
    (tmp_path / stranger).write_text(content)
    with pytest.raises(ConfigError, match="exists, made by another request"):
        make(run_dir, tmp_path / "a.nii.gz")
    assert [path.name for path in tmp_path.iterdir()] == [stranger]
    assert (tmp_path / stranger).read_text() == content


def test_the_file_of_reports_is_not_overwritten_by_the_json_beside_the_volume(run_dir, tmp_path):
    reports = tmp_path / "cases.json"
    reports.write_text('[{"id": "a", "report": "Nodule."}]')
    with pytest.raises(ConfigError, match=r"cases\.json exists"):
        make(run_dir, tmp_path / "cases.nii.gz")


@pytest.mark.parametrize("left", [("nodule.json",), ("nodule.json", "nodule.png"), (".writing-x/nodule.nii.gz",)])
def test_an_interrupted_volume_is_made_again(run_dir, tmp_path, left):
    (path,) = make(run_dir, tmp_path / "whole")
    out = tmp_path / "out"
    for name in left:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path.parent / Path(name).name, out / name)
    (again,) = make(run_dir, out)
    assert again.read_bytes() == path.read_bytes()
    assert (out / "nodule.json").is_file() and (out / "nodule.png").is_file()


def test_spacing_and_slices_are_those_of_the_file(run_dir, tmp_path):
    (path,) = make(run_dir, tmp_path / "a.nii.gz", slices=10, spacing_mm=(10.0, 5.0, 20.0))
    volume = read_volume(path)
    assert volume.shape == (10, 64, 16)
    assert np.allclose(volume.spacing_mm, (10, 5, 20))
    (path,) = make(run_dir, tmp_path / "b.nii.gz", spacing_mm=(10.0, 20.0, 20.0))
    # no length asked for: the recipe's field of view, 8 slices of 20 mm
    assert read_volume(path).shape == (16, 16, 16)


def test_steps_are_those_asked_for(run_dir, tmp_path):
    (path,) = make(run_dir, tmp_path / "a.nii.gz", slices=4, steps=5)
    assert told(path)["evaluations"] == 5


def head_scan(folder):
    return write_volume(phantom((16, 32, 32), (10.0, 10.0, 10.0), seed=9), folder / "head.nii.gz")


def test_a_continued_scan_keeps_its_place_and_reports_its_seam(run_dir, tmp_path):
    scan = head_scan(tmp_path)
    (path,) = make(run_dir, tmp_path / "a.nii.gz", head=scan)
    facts = told(path)
    assert facts["head_slices"] == 4
    assert facts["boundaries"] == [4]
    assert facts["seam"]["slice"] == 4
    assert facts["seam"]["mean_abs_step_hu"] > 0
    assert facts["seam"]["ratio"] > 0
    assert facts["head"] == {"file": str(scan), "sha256": sha256_of(scan)}
    # the lowest slice's lower edge is the scan's
    volume, given = read_volume(path), read_volume(scan)
    assert volume.affine[2, 3] - 10.0 == pytest.approx(given.affine[2, 3] - 5.0, abs=1e-4)


def test_a_teacher_is_followed_to_its_end(run_dir, tmp_path):
    scan = head_scan(tmp_path)
    (path,) = make(run_dir, tmp_path / "a.nii.gz", teacher=scan)
    facts = told(path)
    # 16 slices of 10 mm are 8 of the model's 20 mm; the recipe's blocks have 4
    assert facts["mode"] == "block-wise" and facts["shape"][0] == 8 and facts["boundaries"] == [4]
    assert facts["teacher"] == {"file": str(scan), "sha256": sha256_of(scan)} and facts["head_slices"] == 0
    write_volume(phantom((16, 32, 32), (10.0, 10.0, 10.0), seed=10), scan)
    with pytest.raises(ConfigError, match="made by another request"):
        make(run_dir, tmp_path / "a.nii.gz", teacher=scan)
    with pytest.raises(ConfigError, match="exclude each other"):
        make(run_dir, tmp_path / "b.nii.gz", teacher=scan, head=scan)


def test_another_scan_at_the_same_path_is_another_request(run_dir, tmp_path):
    scan = head_scan(tmp_path)
    make(run_dir, tmp_path / "a.nii.gz", head=scan)
    write_volume(phantom((16, 32, 32), (10.0, 10.0, 10.0), seed=10), scan)
    with pytest.raises(ConfigError, match="made by another request"):
        make(run_dir, tmp_path / "a.nii.gz", head=scan)


def test_heads_that_cannot_be_used(run_dir, tmp_path):
    with pytest.raises(VolumeError):
        make(run_dir, tmp_path / "a.nii.gz", head=tmp_path / "none.nii.gz")
    short = write_volume(phantom((6, 32, 32), (10.0, 10.0, 10.0)), tmp_path / "short.nii.gz")
    with pytest.raises(ConfigError, match="covers 3 slices of 20 mm, 4 are needed"):
        make(run_dir, tmp_path / "a.nii.gz", head=short)
    assert not (tmp_path / "a.nii.gz").exists()
    assert not list(tmp_path.glob(".writing-*"))


def test_the_seam_in_numbers():
    hu = np.zeros((6, 2, 2), np.int16)
    hu[3:] = 50
    hu[1::2] += 10
    found = seam(hu, 3)
    # 10 in front of the seam: slice 2 is even (0), slice 3 is odd (60); steps elsewhere are 10
    assert found == {"slice": 3, "mean_abs_step_hu": 60.0, "ratio": 6.0, "ratio_2nd": pytest.approx(found["ratio_2nd"])}
    flat = np.zeros((6, 2, 2), np.int16)
    flat[3:] = 50
    assert seam(flat, 3)["ratio"] is None


def test_sources_that_cannot_generate(run_dir, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingFileError, match="not a run folder"):
        make(tmp_path / "empty", tmp_path / "out")
    path = run_dir.parent / "recipe.yaml"
    with pytest.raises(StageError, match="no trained weights yet") as caught:
        make(path, tmp_path / "out")
    assert caught.value.hint == f"run: ctgen run {path}"
    vae = tmp_path / "vae.yaml"
    vae.write_text(RECIPE.replace("SCANS", str(run_dir.parent / "scans")).replace("latent-flow", "a-vae"))
    with pytest.raises(ConfigError, match="trains the autoencoder"):
        make(vae, tmp_path / "out")


def test_a_recipe_generates_with_its_finished_run(run_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run_dir, tmp_path / "runs" / "tiny")
    (path,) = make(run_dir.parent / "recipe.yaml", tmp_path / "a.nii.gz")
    (expected,) = make(run_dir, tmp_path / "b.nii.gz")
    assert path.read_bytes() == expected.read_bytes()


def test_a_recipe_generates_with_the_weights_that_its_backbone_comes_with(run_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    weights = stage_folder(run_dir, "train") / "final" / "backbone.safetensors"
    text = (run_dir.parent / "recipe.yaml").read_text()
    own = tmp_path / "own.yaml"
    own.write_text(text.replace("use: tiny-conv,", f"use: tiny-conv, weights: {weights},").replace("/scans", "/gone"))
    said = Said()
    (path,) = make(own, tmp_path / "a.nii.gz", console=said)
    assert "backbone FILE" in said.lines[0]
    (expected,) = make(run_dir, tmp_path / "b.nii.gz")
    assert np.array_equal(read_volume(path).hu, read_volume(expected).hu)


def test_a_train_folder_is_a_source_of_its_own(run_dir, tmp_path):
    """A run folder may hold several models; its recipe.yaml is that of the last run."""
    own = Path(shutil.copytree(run_dir, tmp_path / "run"))
    first = stage_folder(own, "train")
    run(load(run_dir.parent / "recipe.yaml", "train.steps=2", host=HOST), run_dir=own, until="train")
    (old,) = make(first, tmp_path / "a.nii.gz")
    (expected,) = make(run_dir, tmp_path / "b.nii.gz")
    (new,) = make(own, tmp_path / "c.nii.gz")
    assert old.read_bytes() == expected.read_bytes()
    assert new.read_bytes() != expected.read_bytes()


def test_an_interruption_keeps_what_is_finished(run_dir, tmp_path):
    class Stopping(Said):
        def say(self, text=""):
            super().say(text)
            if "nodule.nii.gz" in text:
                signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted):
        make(run_dir, tmp_path, [NODULE, EFFUSION], console=Stopping())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["nodule.json", "nodule.nii.gz", "nodule.png"]
    assert len(make(run_dir, tmp_path, [NODULE, EFFUSION])) == 2
