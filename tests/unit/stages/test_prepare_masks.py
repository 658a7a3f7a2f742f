"""Masks of findings through the prepare stage."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ctgen.data.atlas.config import AtlasThoraxConfig
from ctgen.data.atlas.dataset import AtlasThorax
from ctgen.data.labels import LABELS
from ctgen.data.prepared import PreparedCases
from ctgen.data.source import Source
from ctgen.interfaces import Case
from ctgen.recipe.settings import PrepareSettings
from ctgen.stages import run
from ctgen.stages.prepare import prepare_case
from ctgen.testing import phantom
from ctgen.volume import Volume
from ctgen.volume.orient import Orientation, from_canonical

from .tiny import RECIPE, Said, load, read, stage_folder

DATA = "{use: atlas-thorax, cases: 3, size: [32, 42, 42], spacing_mm: [9, 9, 9], valid_fraction: 0.34, masks: true}"
TEXT = RECIPE.replace('{use: folder, root: SCANS, default_report: "Normal chest.", valid_fraction: 0.4}', DATA)


def of(case_id, folder):
    return read(folder / "cases" / f"{case_id}.json")


def test_bright_boxes_and_their_masks_stay_together(tmp_path):
    """In a scan that is turned, coarser than the grid in one axis and finer in the others, cropped and padded."""
    volume = phantom((40, 64, 64), (5.0, 6.0, 6.0), seed=1)
    hu = volume.hu.copy()
    masks = {}
    for label, corner in (("Lung nodule", (10, 24, 16)), ("Medical material", (22, 34, 40)), ("Lymphadenopathy", (15, 1, 1))):
        box = tuple(slice(at, at + 8) for at in corner)
        masks[label] = np.zeros(volume.shape, bool)
        masks[label][box] = True
        hu[box] = 2000
    scan = Volume(hu, volume.affine)
    turned = Orientation((1, 2, 0), (True, False, True))
    scan = from_canonical(scan, turned)
    turned_masks = {label: from_canonical(Volume(mask, volume.affine), turned).hu for label, mask in masks.items()}
    settings = PrepareSettings(size=(60, 48, 40), spacing_mm=(4, 7, 8), min_depth_mm=100, depth="pad")
    outcome = prepare_case(Case("a", scan, masks=turned_masks), settings, tmp_path)
    assert "reason" not in outcome
    (tmp_path / "manifest.json").write_text(json.dumps({"cases": [], "skipped": []}))
    cases = PreparedCases(tmp_path)
    found, bright = cases.masks("a"), cases.array("a") > 1000
    together = np.any([*found.values()], axis=0)
    assert list(found) == ["Medical material", "Lymphadenopathy", "Lung nodule"]
    assert together.shape == (60, 48, 40)
    assert bright.sum() > 600
    agrees = (together & bright).sum()
    assert agrees / (together | bright).sum() > 0.8
    # and not one voxel beside
    assert all((np.roll(together, step, axis) & bright).sum() < agrees for axis in range(3) for step in (-1, 1))
    assert not together[:4].any() and not together[-4:].any()


def test_masks_that_do_not_fit_leave_a_case_out_with_the_reason(tmp_path, monkeypatch):
    make = AtlasThorax.__getitem__

    def damaged(self, index):
        case = make(self, index)
        if index == 1:
            case.masks["Lung nodule"] = np.zeros((2, 2, 2), bool)
        return case

    monkeypatch.setattr(AtlasThorax, "__getitem__", damaged)
    (tmp_path / "recipe.yaml").write_text(TEXT)
    run(load(tmp_path / "recipe.yaml"), run_dir=tmp_path / "run", until="prepare", console=Said())
    (skipped,) = PreparedCases(stage_folder(tmp_path / "run", "prepare")).skipped
    assert skipped.id == "atlas-0-00001"
    assert skipped.reason == "atlas-0-00001: the mask of Lung nodule has 2 x 2 x 2 voxels, the volume has 32 x 42 x 42"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("masks")
    (root / "recipe.yaml").write_text(TEXT)
    run(load(root / "recipe.yaml"), run_dir=root / "run", until="prepare", console=Said())
    return root, stage_folder(root / "run", "prepare")


def test_a_run_keeps_the_masks_of_every_case(world):
    _, folder = world
    cases = PreparedCases(folder)
    dataset = AtlasThorax(AtlasThoraxConfig(cases=3, size=(32, 42, 42), spacing_mm=(9, 9, 9), valid_fraction=0.34, masks=True))
    shown = 0
    for index, case_id in enumerate(dataset.ids):
        case, found = dataset[index], cases.masks(case_id)
        assert list(found) == [label for label in LABELS if label in case.masks]
        assert {label for label, value in case.labels.items() if value} == set(case.masks)
        assert cases.masks_intact(case_id)
        shown += sum(mask.any() for mask in found.values())
    assert shown > 6
    manifest = {entry["id"]: entry["masks_sha256"] for entry in cases.manifest["cases"]}
    assert manifest == {case_id: of(case_id, folder)["masks_sha256"] for case_id in dataset.ids}
    bits, known = Source(cases, None, "train").masks(0)
    assert bits.shape == cases.array(cases.ids("train")[0]).shape
    assert known.all()


def test_more_cases_take_masks_over_and_no_masks_take_nothing(world):
    root, folder = world
    done = {path.name for path in (root / "run").glob("prepare-*")}
    run(load(root / "recipe.yaml", "data.cases=4"), run_dir=root / "run", until="prepare", console=Said())
    (more,) = (path for path in (root / "run").glob("prepare-*") if path.name not in done)
    assert (more / "cases" / "atlas-0-00000.masks.npz").samefile(folder / "cases" / "atlas-0-00000.masks.npz")
    assert read(more / "changes.json")["unchanged"] == 3
    assert PreparedCases(more).masks_intact("atlas-0-00002")

    done.add(more.name)
    run(load(root / "recipe.yaml", "data.masks=false"), run_dir=root / "run", until="prepare", console=Said())
    (without,) = (path for path in (root / "run").glob("prepare-*") if path.name not in done)
    assert not list((without / "cases").glob("*.npz"))
    assert read(without / "changes.json")["unchanged"] == 0
    plain, masked = (of("atlas-0-00000", place) for place in (without, folder))
    assert plain["voxels_sha256"] == masked["voxels_sha256"]


def test_a_case_whose_record_is_missing_gets_its_masks_again(world, tmp_path):
    _, folder = world
    run_dir = tmp_path / "run"
    (tmp_path / "recipe.yaml").write_text(TEXT)
    run(load(tmp_path / "recipe.yaml"), run_dir=run_dir, until="prepare", console=Said())
    again = stage_folder(run_dir, "prepare")
    name = "atlas-0-00001.masks.npz"
    for file in ("stage.json", "manifest.json", "cases/atlas-0-00001.json"):
        (again / file).unlink()
    (again / "cases" / name).write_bytes(b"half")
    run(load(tmp_path / "recipe.yaml"), run_dir=run_dir, until="prepare", console=Said())
    assert (again / "cases" / name).read_bytes() == (folder / "cases" / name).read_bytes()
