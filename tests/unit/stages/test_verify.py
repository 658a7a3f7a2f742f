"""`ctgen data verify`: a good cache is right, and every kind of damage is found and named."""

from __future__ import annotations

import json
import shutil

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from ctgen.cli import app
from ctgen.console import Console
from ctgen.data.latents import LatentStore, digest_of
from ctgen.data.masks import write_masks
from ctgen.data.prepared import PreparedCases, write_case
from ctgen.errors import StageError
from ctgen.host import Host
from ctgen.interfaces import Case
from ctgen.stages import run
from ctgen.stages.verify import verify

from .tiny import RECIPE, load, read, stage_folder, write_recipe

HOST = Host.discover()
# a lossless codec, so that what is decoded is what was prepared
GOOD = RECIPE.replace("cell: 8, channels: 4", "cell: 2, channels: 4") + "encode: {shard_cases: 2}\n"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    root = tmp_path_factory.mktemp("verify")
    run(load(write_recipe(root, GOOD)), run_dir=root / "run", until="encode")
    return root / "run"


@pytest.fixture
def cache(whole, tmp_path):
    """A copy of a run folder to damage: its encode folder."""
    return stage_folder(shutil.copytree(whole, tmp_path / "run"), "encode")


def check(path, cases=4):
    return verify(path, cases=cases, host=HOST, console=Console(quiet=True))


def complaints(path, cases=4):
    found = check(path, cases)
    assert not found.right
    return {(finding.where, finding.message) for finding in found.findings if finding.level == "wrong"}


def shard_of(cache, case_id):
    return cache / read(cache / "manifest.json")["index"][case_id]["shard"]


def rewrite(cache, case_id, name, change, *, hide=False):
    """Change values in a shard; ``hide``: with a fresh checksum."""
    with h5py.File(shard_of(cache, case_id), "r+") as file:
        values = file[case_id][name][()]
        change(values)
        file[case_id][name][...] = values
        if hide:
            file[case_id][name].attrs["sha256"] = digest_of(values)


def test_a_good_cache_is_right(whole):
    found = check(whole)
    assert found.right and not [finding for finding in found.findings if finding.level == "wrong"]
    assert (found.cases, found.readable, len(found.decoded)) == (4, 4, 4)
    assert all(numbers["psnr"] > 50 > numbers["psnr_of_grey"] for numbers in found.decoded.values())
    assert len(found.latents["std"]) == 4
    assert found.text_norms["tokens"] > 0
    assert found.lines()[-1] == "right"
    assert check(stage_folder(whole, "encode"), cases=1).decoded.keys() == {"scan0"}


def test_flipped_bytes_are_found(cache):
    path = shard_of(cache, "scan1")
    data = bytearray(path.read_bytes())
    with h5py.File(path, "r") as file:
        at = file["scan1/mean"].id.get_offset() + 11
    data[at] ^= 0x10
    path.write_bytes(data)
    assert complaints(cache) == {("scan1", "mean: the values are not those that were written (checksum)")}


def test_values_that_are_not_finite_are_found_even_with_a_right_checksum(cache):
    rewrite(cache, "scan2", "mean", lambda values: values.__setitem__((0, 0, 0, 0), np.nan), hide=True)
    found = complaints(cache)
    assert ("scan2", "mean: 1 of 2048 values are NaN or infinite") in found
    assert ("scan2", "is not the case that the manifest lists (checksum)") in found


def test_a_missing_shard_is_named_with_what_it_held(cache):
    shard = shard_of(cache, "scan0")
    shard.unlink()
    found = complaints(cache)
    assert (f"shards/{shard.name}", "is missing, and with it 2 cases") in found
    assert {where for where, _ in found} == {f"shards/{shard.name}", "scan0", "scan1"}
    assert check(cache).readable == 2


def test_a_truncated_shard_is_a_finding_and_no_crash(cache):
    path = shard_of(cache, "scan3")
    path.write_bytes(path.read_bytes()[:600])
    assert {where for where, message in complaints(cache) if "cannot be read" in message} == {"scan2", "scan3"}


def test_a_damaged_index_is_a_finding_and_no_crash(cache):
    (cache / "latents.h5").write_bytes(b"\0" * 4000)
    assert {where for where, _ in complaints(cache)} == {"latents.h5"}


def test_latents_of_another_volume_are_found(cache):
    """A mixed cache: the volumes were prepared again, the latents are old."""
    record = next(stage_folder(cache.parent, "prepare").glob("cases/scan1.json"))
    record.write_text(json.dumps({**read(record), "voxels_sha256": "0" * 64}))
    found = complaints(cache)
    assert ("scan1", "was encoded from another volume or report than the prepared one") in found


def test_a_case_decoding_to_something_else_is_found(cache):
    """Wrong values with right checksums everywhere: only decoding tells."""
    rewrite(cache, "scan1", "mean", lambda values: np.negative(values, out=values), hide=True)
    with h5py.File(shard_of(cache, "scan1"), "r") as file:
        from ctgen.stages.encode import digest

        fresh = digest(file["scan1"])
    manifest = read(cache / "manifest.json")
    manifest["index"]["scan1"]["digest"] = fresh
    (cache / "manifest.json").write_text(json.dumps(manifest))
    (found,) = complaints(cache)
    assert found[0] == "scan1" and "decodes to something else: PSNR" in found[1]


def test_changed_and_damaged_prepared_masks_are_found(cache):
    folder = stage_folder(cache.parent, "prepare")
    cases = PreparedCases(folder)
    for name in ("scan0", "scan1", "scan2"):
        volume = cases.volume(name)
        masked = Case(name, volume, cases.report(name), split=cases.record(name)["split"], masks={"Emphysema": volume.hu > 0})
        write_case(folder, masked, volume, {})
    assert check(cache).right
    file = folder / "cases" / "scan0.masks.npz"
    file.write_bytes(file.read_bytes()[:200])
    write_masks(folder / "cases" / "scan1.masks.npz", np.zeros((1, 256), np.uint8), ("Emphysema",), (8, 16, 16))
    (folder / "cases" / "scan2.masks.npz").unlink()
    found = dict(complaints(cache))
    assert found["scan1"] == "its prepared masks are not those that were written (checksum)"
    assert found["scan0"].startswith("its prepared masks cannot be read: ")
    assert found["scan2"].startswith("its prepared masks cannot be read: ")


def test_a_changed_prepared_volume_is_found(cache):
    path = next(stage_folder(cache.parent, "prepare").glob("cases/scan0.npy"))
    array = np.load(path)
    array[3, 4, 5] += 1
    path.unlink()
    np.save(path, array)
    assert ("scan0", "its prepared volume is not the one that was written (checksum)") in complaints(cache)


def test_empty_and_exchanged_text_features_are_found(cache):
    rewrite(cache, "scan0", "tokens", lambda values: values.fill(0), hide=True)
    assert ("scan0", "text features are all 0") in complaints(cache)


def test_a_scale_far_from_one_is_named(whole, monkeypatch):
    monkeypatch.setattr("ctgen.stages.verify.POSSIBLE_STD", (5.0, 10.0))
    (wrong,) = complaints(whole)
    assert wrong[1].startswith("the standard deviation of the finalised latents is ")
    named = [finding.message for finding in check(whole).findings if finding.level == "warning"]
    assert [message.split(" of ")[0] for message in named] == [f"channel {index}" for index in range(4)]
    monkeypatch.undo()
    monkeypatch.setattr("ctgen.stages.verify.USUAL_STD", (5.0, 10.0))
    found = check(whole)
    assert found.right
    assert any("standard deviation" in finding.message for finding in found.findings)


def test_without_the_prepared_volumes_the_rest_is_checked(cache):
    shutil.rmtree(stage_folder(cache.parent, "prepare"))
    found = check(cache)
    assert found.right and found.readable == 4 and not found.decoded
    assert "not beside it" in found.findings[0].message


def test_other_weights_than_the_caches_are_an_error(cache):
    manifest = read(cache / "manifest.json")
    (cache / "manifest.json").write_text(json.dumps({**manifest, "autoencoder_weights": "another"}))
    assert {where for where, message in complaints(cache) if "weights" in message} == {""}


def test_the_command_has_an_exit_code(cache):
    runner = CliRunner()
    good = runner.invoke(app, ["data", "verify", str(cache), "--json"])
    assert good.exit_code == 0
    assert json.loads(good.stdout)["right"] is True
    rewrite(cache, "scan1", "mean", lambda values: values.fill(3))
    bad = runner.invoke(app, ["data", "verify", str(cache.parent), "--cases", "1"])
    assert bad.exit_code == 1
    assert "wrong: scan1: mean: the values are not those that were written (checksum)" in bad.stdout
    assert bad.stdout.rstrip().endswith("WRONG")


def test_a_folder_without_a_cache_says_what_to_run(tmp_path):
    with pytest.raises(StageError, match="no finished latent cache") as caught:
        check(tmp_path)
    assert "--until encode" in caught.value.hint


def test_reading_a_case_from_a_damaged_cache_names_the_file(cache):
    shard_of(cache, "scan0").unlink()
    with pytest.raises(Exception, match=r"case 'scan0' cannot be read from .*shards") as caught:
        LatentStore(cache / "latents.h5").posterior("scan0")
    assert "ctgen data verify" in caught.value.hint
