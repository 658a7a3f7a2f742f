from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from ctgen.errors import CheckpointError
from ctgen.train import checkpoint as module
from ctgen.train.checkpoint import (
    differences,
    list_checkpoints,
    load_weights,
    newest_checkpoint,
    prune_checkpoints,
    read_checkpoint,
    read_state,
    write_checkpoint,
)


def write(folder, step, **spec):
    weights = {"model": nn.Linear(2, 3).state_dict()}
    return write_checkpoint(folder, step, weights=weights, state={"x": torch.arange(3)}, loop={"seconds": 1.5}, spec=spec)


def test_round_trip(tmp_path):
    written = write(tmp_path, 7, width=3, patch=(1, 2, 2))
    found = newest_checkpoint(tmp_path)
    assert found == written and found.step == 7 and found.spec == {"width": 3, "patch": [1, 2, 2]}
    assert found.weights("model") == tmp_path / "step-7" / "model.safetensors"
    assert set(found.sha256) == {"model.safetensors", "state/optimisers.pt", "state/loop.json"}
    assert found.versions["torch"] == torch.__version__
    state, loop = read_state(found)
    assert state["x"].tolist() == [0, 1, 2] and loop == {"seconds": 1.5}
    module.check_spec(found, {"width": 3, "patch": (1, 2, 2)})


def test_tied_and_strided_weights_are_whole(tmp_path):
    weight = torch.arange(12.0).reshape(3, 4)
    tensors = {"a": weight, "b": weight, "part": weight[1:], "turned": weight.T}
    written = write_checkpoint(tmp_path, 1, weights={"model": tensors}, state={}, loop={}, spec={})
    found = load_file(written.weights("model"))
    assert all(torch.equal(found[name], value) for name, value in tensors.items())


def test_only_complete_folders_count_and_are_ordered_by_number(tmp_path):
    for step in (9, 100, 20):
        write(tmp_path, step)
    (tmp_path / "step-500").mkdir()
    (tmp_path / "step-x").mkdir()
    (tmp_path / "notes.txt").touch()
    assert [found.step for found in list_checkpoints(tmp_path)] == [9, 20, 100]
    assert list_checkpoints(tmp_path / "absent") == [] and newest_checkpoint(tmp_path / "absent") is None
    with pytest.raises(CheckpointError, match=r"step-500 is not a checkpoint"):
        read_checkpoint(tmp_path / "step-500")


def test_prune_keeps_the_newest_and_clears_leftovers(tmp_path):
    for step in (1, 2, 3, 4):
        write(tmp_path, step)
    (tmp_path / ".writing-step-5-77" / "state").mkdir(parents=True)
    (tmp_path / ".removing-step-0").mkdir()
    prune_checkpoints(tmp_path, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-3", "step-4"]
    prune_checkpoints(tmp_path, 0)
    assert [found.step for found in list_checkpoints(tmp_path)] == [4]


def test_a_failed_write_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    write(tmp_path, 3)

    def full(*args, **kwargs):
        raise OSError("No space left on device")

    monkeypatch.setattr(module.torch, "save", full)
    with pytest.raises(OSError, match="No space"):
        write(tmp_path, 4)
    assert newest_checkpoint(tmp_path).step == 3
    prune_checkpoints(tmp_path, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["step-3"]


def test_a_checkpoint_may_be_written_again(tmp_path):
    write(tmp_path, 3, run=1)
    assert write(tmp_path, 3, run=2).spec == {"run": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["step-3"]


def test_differences_are_listed_by_leaf():
    found = {"backbone": {"use": "stdit", "width": 384}, "seed": 0, "old": 1}
    wanted = {"backbone": {"use": "stdit", "width": 512}, "seed": 0, "new": [1, 2]}
    assert differences(found, wanted) == [
        "backbone.width: checkpoint 384, wanted 512",
        'new: checkpoint "absent", wanted [1, 2]',
        'old: checkpoint 1, wanted "absent"',
    ]


def test_weights_that_do_not_fit_are_named(tmp_path):
    written = write(tmp_path, 1)
    target = nn.Sequential(nn.Linear(2, 3))
    with pytest.raises(CheckpointError) as error:
        load_weights(target, written.weights("model"))
    assert "missing in the file: 0.weight (3, 2)" in str(error.value)
    assert "not in the component: bias (3,)" in str(error.value)
    with pytest.raises(CheckpointError, match=r"weight: file \(3, 2\), component \(3, 5\)"):
        load_weights(nn.Linear(5, 3), written.weights("model"))
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_weights(target, tmp_path / "absent.safetensors")


@pytest.mark.parametrize("damage", ["", "{}", '{"step": 1'])
def test_a_damaged_spec_says_what_to_do(tmp_path, damage):
    write(tmp_path, 1)
    (tmp_path / "step-1" / "spec.json").write_text(damage)
    with pytest.raises(CheckpointError, match=r"spec.json is damaged"):
        newest_checkpoint(tmp_path)


def test_state_is_checked_against_its_hash(tmp_path):
    written = write(tmp_path, 1)
    (written.folder / "state" / "loop.json").write_text(json.dumps({"seconds": 0}))
    with pytest.raises(CheckpointError, match=r"loop.json is damaged"):
        read_state(written)
    (written.folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model.safetensors is missing"):
        read_state(written)
