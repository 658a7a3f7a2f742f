"""Scans are added, changed, touched and removed: just what is new is made, the rest is linked, and later stages notice."""

from __future__ import annotations

import os
import shutil

import h5py
import numpy as np
import pytest

from ctgen.data.latents import LatentStore
from ctgen.data.prepared import PreparedCases
from ctgen.stages import run
from ctgen.stages.earlier import earlier_folders
from ctgen.testing import phantom
from ctgen.volume.io import write_volume

from .tiny import RECIPE, Said, load, read, write_recipe, write_scans

TEXT = RECIPE + "encode: {shard_cases: 2}\n"


class World:
    """A folder of scans, a run over it, and what each run read and encoded."""

    def __init__(self, root, monkeypatch, count=3):
        self.recipe, self.run_dir, self.scans = write_recipe(root, TEXT, count), root / "run", root / "scans"
        self.prepared, self.encoded = [], []
        from ctgen.stages import encode, prepare

        one, case = prepare.prepare_case, encode._encode_case
        monkeypatch.setattr(prepare, "prepare_case", lambda c, *rest: (self.prepared.append(c.id), one(c, *rest))[1])
        monkeypatch.setattr(
            encode, "_encode_case", lambda c, job, part, **rest: (self.encoded.append(job.id), case(c, job, part, **rest))[1]
        )

    def go(self, *overrides, until="encode", run_dir=None):
        self.prepared.clear()
        self.encoded.clear()
        self.said = Said()
        result = run(load(self.recipe, *overrides), run_dir=run_dir or self.run_dir, until=until, console=self.said)
        return {stage: folder for stage, folder in result.folders.items()}

    def add(self, number, seed=None):
        volume = phantom((16, 32, 32), (10.0, 10.0, 10.0), seed=number if seed is None else seed)
        write_volume(volume, self.scans / f"scan{number}.nii.gz")


@pytest.fixture
def world(tmp_path, monkeypatch):
    return World(tmp_path, monkeypatch)


def contents(folder):
    """Case -> dataset -> values of a cache, whatever its shards are."""
    with h5py.File(folder / "latents.h5", "r") as file:
        return {case_id: {name: group[name][()] for name in group} for case_id, group in file.items()}


def assert_same_cache(one, other):
    first, second = contents(one), contents(other)
    assert list(first) == list(second)
    for case_id, arrays in first.items():
        assert arrays.keys() == second[case_id].keys()
        for name, values in arrays.items():
            assert values.dtype == second[case_id][name].dtype
            np.testing.assert_array_equal(values, second[case_id][name])


def test_added_scans_alone_are_prepared_and_encoded(world, tmp_path):
    before = world.go()
    assert sorted(world.prepared) == sorted(world.encoded) == ["scan0", "scan1", "scan2"]
    world.add(3)
    world.add(4)
    after = world.go()
    assert sorted(world.prepared) == sorted(world.encoded) == ["scan3", "scan4"]
    assert before["prepare"] != after["prepare"] and before["encode"] != after["encode"]
    assert read(after["prepare"] / "changes.json") == {
        "since": before["prepare"].name, "unchanged": 3, "added": ["scan3", "scan4"], "changed": [], "removed": []
    }  # fmt: skip
    assert f"  3 cases as in {before['prepare'].name}, 2 added (scan3, scan4)" in world.said.lines
    assert "  3 cases are encoded already, by an earlier run" in world.said.lines
    # linked, not copied
    assert (after["prepare"] / "cases" / "scan0.npy").samefile(before["prepare"] / "cases" / "scan0.npy")
    # and nothing that a run from nothing would not have made
    fresh = world.go(run_dir=tmp_path / "fresh")
    assert_same_cache(after["encode"], fresh["encode"])
    assert read(after["prepare"] / "manifest.json") == read(fresh["prepare"] / "manifest.json")
    one, other = (read(folders["encode"] / "manifest.json")["summary"] for folders in (after, fresh))
    assert one == other


def test_a_changed_scan_is_made_again_and_a_removed_one_dropped(world, tmp_path):
    before = world.go()
    world.add(1, seed=9)
    (world.scans / "scan2.nii.gz").unlink()
    after = world.go()
    assert world.prepared == world.encoded == ["scan1"]
    changes = read(after["prepare"] / "changes.json")
    assert (changes["changed"], changes["removed"], changes["added"]) == (["scan1"], ["scan2"], [])
    assert LatentStore(after["encode"] / "latents.h5").ids == ["scan0", "scan1"]
    # the earlier results are as they were
    assert LatentStore(before["encode"] / "latents.h5").ids == ["scan0", "scan1", "scan2"]
    assert_same_cache(after["encode"], world.go(run_dir=tmp_path / "fresh")["encode"])


def test_a_touched_or_moved_scan_is_read_but_not_made_again(world):
    world.go()
    os.utime(world.scans / "scan1.nii.gz", ns=(1, 1))
    after = world.go()
    assert world.prepared == world.encoded == []
    assert read(after["prepare"] / "cases" / "scan1.json")["origin"]["files"][0]["mtime_ns"] == 1


def test_a_renamed_scan_is_prepared_but_not_encoded_again(world):
    world.go()
    (world.scans / "scan1.nii.gz").rename(world.scans / "other.nii.gz")
    after = world.go()
    assert (world.prepared, world.encoded) == (["other"], [])
    assert LatentStore(after["encode"] / "latents.h5").posterior("other").mean.shape == (1, 4, 8, 2, 2)


def test_a_new_report_makes_its_case_again(world):
    world.go()
    (world.scans / "reports.csv").write_text("id,report\nscan1,Large nodule.\n")
    world.go()
    assert world.prepared == world.encoded == ["scan1"]


def test_a_scan_that_was_left_out_is_not_read_again(world):
    write_volume(phantom((4, 32, 32), (10.0, 10.0, 10.0)), world.scans / "slab.nii.gz")
    world.go(until="prepare")
    world.add(3)
    after = world.go(until="prepare")
    assert world.prepared == ["scan3"]
    assert [entry.id for entry in PreparedCases(after["prepare"]).skipped] == ["slab"]


def test_training_notices_that_the_data_changed(world):
    before = world.go(until="train")
    world.add(3)
    after = world.go(until="train")
    assert before["train"] != after["train"]
    assert read(after["train"] / "summary.json") != read(before["train"] / "summary.json")


@pytest.mark.parametrize(
    ("override", "stages"),
    [
        ("prepare.spacing_mm=[10,20,20]", ("prepare", "encode")),
        ("prepare.fill_hu=-900", ("prepare", "encode")),
        ("autoencoder.cell=4", ("encode",)),
        ("autoencoder.channels=2", ("encode",)),
        ("text_encoder.width=12", ("encode",)),
    ],
)
def test_another_window_spacing_or_model_never_shares_a_cache(world, override, stages):
    world.go()
    after = world.go(override)
    assert len(world.encoded) == 3
    assert bool(world.prepared) == ("prepare" in stages)
    assert not (after["encode"] / "plan.json").read_text().count('"taken": {\n')


def test_settings_that_cannot_change_a_case_share_everything(world):
    world.go()
    world.go("encode.check_cases=1")
    assert world.prepared == world.encoded == []


def test_work_that_was_broken_off_is_used_too(world):
    before = world.go()
    (before["encode"] / "stage.json").unlink()
    (before["encode"] / "manifest.json").unlink()
    shards = sorted((before["encode"] / "shards").glob("*.h5"))
    lost = read(before["encode"] / "plan.json")["shards"][1]
    (before["encode"] / lost["file"]).unlink()
    world.add(3)
    world.go()
    assert len(shards) == 2
    assert sorted(world.encoded) == sorted([*(case_id for case_id, _ in lost["cases"]), "scan3"])


def test_the_earlier_folder_may_be_deleted(world):
    before = world.go()
    world.add(3)
    after = world.go()
    kept = contents(after["encode"])
    for folder in before.values():
        shutil.rmtree(folder)
    assert contents(after["encode"])["scan0"]["mean"].tolist() == kept["scan0"]["mean"].tolist()
    assert PreparedCases(after["prepare"]).array("scan0").shape == (8, 16, 16)


def test_a_data_set_that_cannot_tell_is_prepared_again(world, monkeypatch):
    from ctgen.data.folder import FolderDataset

    monkeypatch.delattr(FolderDataset, "origin")
    world.go()
    world.add(3)
    after = world.go()
    assert len(world.prepared) == 4
    # what is encoded is known by its voxels and report alone
    assert world.encoded == ["scan3"]
    assert "origin" not in read(after["prepare"] / "cases" / "scan0.json")


def test_folders_of_other_settings_are_not_looked_at(world):
    folders = world.go(until="prepare")
    key = read(folders["prepare"] / "cache.json")["key"]
    assert earlier_folders(world.run_dir, "prepare", key, world.run_dir / "prepare-new") == [folders["prepare"]]
    assert earlier_folders(world.run_dir, "prepare", "other", world.run_dir / "prepare-new") == []
    assert earlier_folders(world.run_dir, "prepare", key, folders["prepare"]) == []


def test_several_processes_take_over_too(world):
    world.go(until="prepare")
    write_scans(world.scans, 5)
    after = world.go("prepare.workers=2", until="prepare")
    # rewritten with the same bytes: the three scans are touched, not changed
    assert read(after["prepare"] / "changes.json")["unchanged"] == 3
    assert len(PreparedCases(after["prepare"]).ids()) == 5


def test_another_text_encoder_takes_the_latents_over_and_encodes_texts_alone(world, monkeypatch):
    from ctgen.stages import encode

    before = world.go()["encode"]
    slices, encoded = encode.encode_slices, []
    monkeypatch.setattr(encode, "encode_slices", lambda *given: (encoded.append(1), slices(*given))[1])
    after = world.go("text_encoder.width=12")["encode"]
    assert len(world.encoded) == 3
    assert not encoded
    assert "  latents of 3 cases were there, of an earlier run: only their texts were encoded" in world.said.lines
    old, new = contents(before), contents(after)
    assert list(old) == list(new)
    for case_id, arrays in new.items():
        assert arrays["tokens"].shape[1] == 12
        for name in old[case_id].keys() - {"tokens", "pooled"}:
            np.testing.assert_array_equal(arrays[name], old[case_id][name])
    assert read(after / "manifest.json")["summary"] == read(before / "manifest.json")["summary"]
    # other voxels under the same name, or another autoencoder, are encoded
    world.add(1, seed=77)
    world.go("text_encoder.width=10")
    assert len(encoded) == 1
    world.go("text_encoder.width=10", "autoencoder.channels=2")
    assert len(encoded) == 4
