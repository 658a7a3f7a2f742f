"""The prepare stage: what is left out and why, damage, resuming, several processes."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from joblib.externals.loky.process_executor import TerminatedWorkerError

from ctgen.data.folder import FolderDataset
from ctgen.data.prepared import PreparedCases
from ctgen.errors import DataError, StageError
from ctgen.interfaces import Case
from ctgen.recipe.settings import PrepareSettings
from ctgen.stages import run
from ctgen.stages.prepare import prepare_case, to_grid
from ctgen.testing import phantom
from ctgen.volume import Volume
from ctgen.volume.io import write_volume

from .tiny import RECIPE, Said, load, read, stage_folder, write_recipe, write_scans

SETTINGS = PrepareSettings(size=(8, 16, 16), spacing_mm=(20, 20, 20), min_depth_mm=100)


def abdomen(seed=0):
    """A phantom without lungs."""
    volume = phantom((16, 32, 32), (10.0, 10.0, 10.0), seed=seed)
    hu = volume.hu.copy()
    hu[(hu < -600) & (hu > -950)] = 40
    return Volume(hu, volume.affine)


def mixed(root):
    """Three chests and one of everything that cannot be used; returns the recipe."""
    path = write_recipe(root, count=3)
    scans = root / "scans"
    write_volume(phantom((4, 32, 32), (10.0, 10.0, 10.0)), scans / "slab.nii.gz")
    write_volume(abdomen(), scans / "belly.nii.gz")
    (scans / "text.nii.gz").write_text("not a scan")
    whole = gzip.decompress((scans / "scan0.nii.gz").read_bytes())
    (scans / "cut.nii").write_bytes(whole[: len(whole) - 500])
    good = gzip.compress(whole)
    (scans / "broken.nii.gz").write_bytes(good[: len(good) // 2])
    return path


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    root = tmp_path_factory.mktemp("mixed")
    path, said = mixed(root), Said()
    run(load(path), run_dir=root / "run", until="prepare", console=said)
    return root, said, PreparedCases(stage_folder(root / "run", "prepare"))


def test_what_is_left_out_is_named_with_its_reason(prepared):
    _, said, cases = prepared
    reasons = {entry.id: entry.reason for entry in cases.skipped}
    assert reasons["slab"] == "covers 40 mm of the body (4 slices of 10 mm), less than prepare.min_depth_mm = 100"
    assert reasons["belly"].startswith("no chest: 0.0% of it is lung, less than prepare.min_lung_fraction = 3.0%")
    assert set(reasons) == {"belly", "broken", "cut", "slab", "text"}
    assert all(reasons.values())
    assert sorted(cases.ids("train") + cases.ids("valid")) == ["scan0", "scan1", "scan2"]
    for name, reason in reasons.items():
        assert any(line.startswith(f"  left out: {name}: {reason.splitlines()[0]}") for line in said.lines)


def test_damaged_files_do_not_end_the_job(prepared):
    reasons = {entry.id: entry.reason for entry in prepared[2].skipped}
    for name in ("broken", "cut", "text"):
        assert "defect" not in reasons[name]
        assert "Error" not in reasons[name]


@pytest.mark.parametrize(
    ("shift", "says"), [(-1024, "HU was computed twice"), (1024, "the rescale intercept was never applied")]
)
def test_numbers_that_are_no_hu_are_left_out_and_say_why(tmp_path, shift, says):
    scan = phantom((16, 32, 32), (10.0, 10.0, 10.0))
    random = np.random.default_rng(0).normal(0, 15, scan.shape)
    outcome = prepare_case(Case("a", Volume((scan.hu + random + shift).astype(np.int16), scan.affine)), SETTINGS, tmp_path)
    assert says in outcome["reason"]
    assert not list((tmp_path / "cases").glob("*.npy"))


def test_the_summary_counts(prepared):
    record = read(prepared[2].folder / "stage.json")
    assert record["summary"] == {"cases": 3, "left_out": 5, "without_report": 0}


def test_two_processes_write_the_same_bytes_as_one(prepared):
    root, _, cases = prepared
    run(load(root / "recipe.yaml", "prepare.workers=2"), run_dir=root / "two", until="prepare")
    two = stage_folder(root / "two", "prepare")
    names = sorted(path.name for path in (cases.folder / "cases").iterdir())
    assert names == sorted(path.name for path in (two / "cases").iterdir())
    assert len(names) == 3 * 2 + 4
    for name in [*(f"cases/{name}" for name in names), "manifest.json"]:
        assert (two / name).read_bytes() == (cases.folder / name).read_bytes(), name


def test_finished_cases_are_not_read_again(prepared, tmp_path):
    root = prepared[0]
    run_dir = tmp_path / "run"
    recipe = load(root / "recipe.yaml")
    run(recipe, run_dir=run_dir, until="prepare")
    folder = stage_folder(run_dir, "prepare")
    (folder / "stage.json").unlink()
    (folder / "manifest.json").unlink()
    record = read(folder / "cases" / "scan1.json")
    (folder / "cases" / "scan1.json").write_text(json.dumps({**record, "mark": "kept"}))
    (folder / "cases" / "scan2.json").unlink()
    # the array without its record: killed between the two
    before = (folder / "cases" / "scan2.npy").read_bytes()
    (folder / "cases" / "scan2.npy").write_bytes(b"half")
    run(recipe, run_dir=run_dir, until="prepare")
    cases = PreparedCases(folder)
    assert cases.record("scan1")["mark"] == "kept"
    assert (folder / "cases" / "scan2.npy").read_bytes() == before
    assert [case["id"] for case in cases.manifest["cases"]] == ["scan0", "scan1", "scan2"]


def test_nothing_usable_lists_the_reasons(tmp_path):
    path = write_recipe(tmp_path, count=2)
    write_volume(abdomen(), tmp_path / "scans" / "belly.nii.gz")
    with pytest.raises(DataError, match="no case of 3 is usable") as caught:
        run(load(path, "prepare.min_depth_mm=200"), run_dir=tmp_path / "run")
    for name in ("belly", "scan0", "scan1"):
        assert f"{name}: covers 160 mm" in caught.value.hint


def test_missing_reports_are_noted_and_said(tmp_path):
    path, said = write_recipe(tmp_path, RECIPE.replace('default_report: "Normal chest.", ', ""), count=3), Said()
    (tmp_path / "scans" / "reports.csv").write_text("id,report\nscan1,Nodule.\n")
    run(load(path), run_dir=tmp_path / "run", until="prepare", console=said)
    cases = PreparedCases(stage_folder(tmp_path / "run", "prepare"))
    assert cases.manifest["without_report"] == ["scan0", "scan2"]
    assert cases.report("scan0") is None
    assert cases.prompt("scan0").report.findings == ""
    assert cases.prompt("scan1").report.findings == "Nodule."
    assert "  no report, so prompted with the empty one: scan0, scan2" in said.lines


def test_the_grid_has_the_recipes_spacing_and_true_geometry():
    scan = phantom((30, 40, 40), (6.0, 8.0, 8.0), seed=2)
    grid = to_grid(scan, SETTINGS)
    assert grid.shape == (8, 16, 16)
    assert np.allclose(grid.spacing_mm, 20)
    # a landmark keeps its place: the centre of the spine
    spine = [np.argwhere(volume.hu > 200).mean(axis=0) for volume in (scan, grid)]
    first, second = ((volume.affine @ np.array([*place, 1.0]))[:3] for volume, place in zip((scan, grid), spine, strict=True))
    assert np.abs(first - second)[:2].max() < 10


def test_a_short_scan_is_not_padded():
    assert to_grid(phantom((12, 32, 32), (10.0, 10.0, 10.0)), SETTINGS).shape == (6, 16, 16)


def test_padding_of_the_field_of_view_becomes_air():
    scan = phantom((16, 32, 32), (10.0, 10.0, 10.0))
    hu = scan.hu.copy()
    hu[:, :4] = -2048
    assert to_grid(Volume(hu, scan.affine), SETTINGS).hu.min() >= -1000


def test_facts_about_the_source_are_kept(tmp_path):
    scan = phantom((16, 32, 32), (10.0, 10.0, 10.0))
    record = prepare_case(Case("a", scan, meta={"file": "a.nii"}), SETTINGS, tmp_path)
    assert "reason" not in record
    assert record["source_shape"] == [16, 32, 32]
    assert record["source_orientation"] == "LPS"
    assert record["meta"] == {"file": "a.nii"}
    assert 0.03 < record["lung_fraction"] < 0.9


@pytest.mark.parametrize("level", [-1000, 40])
def test_a_volume_without_any_body_or_lung_is_left_out_or_kept_but_never_fails(tmp_path, level):
    affine = phantom((16, 20, 20), (10.0, 10.0, 10.0)).affine
    assert (
        "every voxel is"
        in prepare_case(Case("c", Volume(np.full((16, 20, 20), level, np.int16), affine)), SETTINGS, tmp_path)["reason"]
    )
    flat = Volume((np.random.default_rng(0).normal(level, 40, (16, 20, 20))).astype(np.int16), affine)
    assert "no chest" in prepare_case(Case("a", flat), SETTINGS, tmp_path)["reason"]
    open_gate = SETTINGS.model_copy(update={"min_lung_fraction": 0.0})
    assert prepare_case(Case("b", flat), open_gate, tmp_path)["shape"] == [8, 16, 16]


KEEP = SETTINGS.model_copy(update={"spacing_mm": "keep", "size": (16, 24, 24)})


def test_the_scans_own_spacing_may_be_kept(tmp_path):
    """No voxel is changed, and each case says its spacing."""
    scan = phantom((20, 32, 30), (9.0, 7.5, 8.0), seed=3)
    record = prepare_case(Case("a", scan), KEEP, tmp_path)
    assert record["spacing_mm"] == [9.0, 7.5, 8.0]
    grid = np.load(tmp_path / "cases" / "a.npy")
    assert grid.shape == (16, 24, 24) and grid.dtype == np.int16
    start = [round(float(place)) for place in np.linalg.solve(scan.affine, np.array(record["affine"])[:, 3])[:3]]
    window = tuple(slice(first, first + size) for first, size in zip(start, grid.shape, strict=True))
    assert np.array_equal(grid, np.maximum(scan.hu[window], -1000))
    assert record["hu_range"] == [int(grid.min()), int(grid.max())]


def test_training_is_told_each_scans_spacing(tmp_path):
    path = write_recipe(tmp_path, RECIPE.replace("spacing_mm: [20, 20, 20]", "spacing_mm: keep"), count=2)
    write_volume(phantom((16, 32, 32), (11.0, 12.0, 12.0), seed=7), tmp_path / "scans" / "wide.nii.gz")
    result = run(load(path, "data.valid=[scan0]"), run_dir=tmp_path / "run")
    recorded = {case["id"]: case["spacing_mm"] for case in PreparedCases(result.folders["prepare"]).manifest["cases"]}
    assert recorded["wide"] == pytest.approx([11, 12, 12])
    assert recorded["scan0"] == pytest.approx([10, 10, 10])
    # what is sampled for a case has that case's spacing
    assert read(result.folders["sample"] / "scan0.json")["spacing_mm"] == pytest.approx([10, 10, 10])


@pytest.mark.parametrize(
    ("depth", "multiple", "slices"), [("crop", 1, 6), ("crop", 4, 4), ("pad", 1, 8), ("pad", 4, 8), ("crop", 8, 8)]
)
def test_slices_are_cropped_filled_up_and_made_to_divide(tmp_path, depth, multiple, slices):
    settings = SETTINGS.model_copy(update={"depth": depth, "depth_multiple": multiple})
    record = prepare_case(Case("a", phantom((12, 32, 32), (10.0, 10.0, 10.0))), settings, tmp_path)
    assert record["shape"] == [slices, 16, 16]
    grid = np.load(tmp_path / "cases" / "a.npy")
    empty = [index for index, plane in enumerate(grid) if (plane == -1000).all()]
    assert empty == ([] if slices <= 6 else [0, 7])


def test_a_size_that_its_own_multiple_does_not_divide_is_refused():
    with pytest.raises(ValueError, match=r"size\[0\] = 90 slices is not a multiple of depth_multiple = 4"):
        PrepareSettings(size=(90, 128, 128), depth_multiple=4)


def test_a_spacing_that_no_body_fills_is_implausible(tmp_path):
    record = prepare_case(Case("a", phantom((16, 32, 32), (400.0, 10.0, 10.0))), SETTINGS, tmp_path)
    assert record["reason"].startswith("implausible spacing: it would cover 6400 mm")


@pytest.mark.parametrize("workers", [1, 2])
def test_what_nobody_expected_is_quarantined_and_tried_again(tmp_path, monkeypatch, workers):
    """A disk that fails for a moment must neither end the job nor cost the case for good."""
    path, said = write_recipe(tmp_path, count=3), Said()
    scan = tmp_path / "scans" / "scan1.nii.gz"
    real, calls = FolderDataset.__getitem__, []

    def failing(self, index):
        calls.append(self.ids[index])
        if self.ids[index] == "scan1":
            raise OSError(5, "Input/output error", str(scan))
        return real(self, index)

    if workers == 1:
        monkeypatch.setattr(FolderDataset, "__getitem__", failing)
        run(load(path), run_dir=tmp_path / "run", until="prepare", console=said)
        monkeypatch.undo()
    else:
        # in processes of its own nothing can be patched: a file that vanishes when it is its turn
        (tmp_path / "site").mkdir()
        (tmp_path / "site" / "sitecustomize.py").write_text(
            "import ctgen.data.folder as f\nreal = f.FolderDataset.__getitem__\n"
            "def get(self, i):\n    if self.ids[i] == 'scan1': raise OSError(5, 'Input/output error')\n"
            "    return real(self, i)\n"
            "f.FolderDataset.__getitem__ = get\n"
        )
        environment = {**os.environ, "PYTHONPATH": f"{tmp_path / 'site'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
        command = [sys.executable, "-m", "ctgen", "run", str(path), "--run-dir", str(tmp_path / "run"), "--until", "prepare"]
        done = subprocess.run([*command, "prepare.workers=2"], env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        said.lines += (done.stdout + done.stderr).splitlines()
    folder = stage_folder(tmp_path / "run", "prepare")
    assert len(PreparedCases(folder).ids()) == 2
    assert any("scan1 is left out: not expected: OSError: [Errno 5] Input/output error" in line for line in said.lines)
    # the stage is done; the next list of scans gives the case another chance
    write_scans(tmp_path / "scans", 4)
    run(load(path), run_dir=tmp_path / "run", until="prepare")
    (newer,) = [other for other in (tmp_path / "run").glob("prepare-*") if other != folder]
    assert len(PreparedCases(newer).ids()) == 4


def test_a_worker_killed_by_the_system_says_what_to_do(tmp_path, monkeypatch):
    path = write_recipe(tmp_path, count=2)

    def killed(*arguments, **options):
        def work(tasks):
            raise TerminatedWorkerError("killed")
            yield

        return work

    monkeypatch.setattr("ctgen.stages.prepare.Parallel", killed)
    with pytest.raises(StageError, match="memory was full") as caught:
        run(load(path, "prepare.workers=2"), run_dir=tmp_path / "run", until="prepare")
    assert "prepare.workers=1" in caught.value.hint


def test_the_manifest_says_from_which_bytes(prepared):
    root, _, cases = prepared
    for entry in cases.manifest["cases"]:
        file = root / "scans" / f"{entry['id']}.nii.gz"
        assert entry["source"] == {
            "files": 1,
            "bytes": file.stat().st_size,
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
            "facts": entry["source"]["facts"],
        }
        assert entry["voxels_sha256"] == hashlib.sha256(np.ascontiguousarray(cases.array(entry["id"]))).hexdigest()
    assert cases.manifest["settings"]["spacing_mm"] == [20.0, 20.0, 20.0]
    assert "SHA-256" in cases.manifest["same_file"]
