from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from ctflow_fixtures import awake, condition, draw, tensors, tiny_stdit
from ctgen_ctflow import stdit_weights
from safetensors.torch import save_file

from ctgen.errors import CheckpointError


@torch.no_grad()
def test_both_layouts_come_back_bit_for_bit(tmp_path: Path) -> None:
    model = awake(tiny_stdit(attention_transpose="released"))
    inputs = draw(1, 16, 4, 4, 4), torch.tensor([0.4]), condition(1)
    stdit_weights.save(model, tmp_path / "ours.safetensors")
    stdit_weights.write_released(model, tmp_path / "denoiser_ema", (4, 4, 4))
    for place in ("ours.safetensors", "denoiser_ema", "denoiser_ema/diffusion_pytorch_model.safetensors"):
        again = tiny_stdit(attention_transpose="released", weights=str(tmp_path / place))
        assert torch.equal(again(*inputs), model(*inputs))
        assert again.weights.label == "FILE" and len(again.weights.sha256) == 64


def test_the_released_layout_has_the_released_keys(shared_folder: Path, tmp_path: Path) -> None:
    fixture = shared_folder / "fixtures" / "ctflow-stdit" / "denoiser_ema"
    model = tiny_stdit(layers=3, width=64, attention_transpose="released", weights=str(fixture))
    stdit_weights.write_released(model, tmp_path, (16, 8, 8))
    written, expected = (tensors(folder / stdit_weights.RELEASED_FILE) for folder in (tmp_path, fixture))
    assert written.keys() == expected.keys()
    assert all(torch.allclose(written[key], expected[key], atol=1e-6) for key in expected)


def test_the_head_layout_is_never_taken_by_accident(shared_folder: Path) -> None:
    fixture = shared_folder / "fixtures" / "ctflow-stdit" / "denoiser_ema"
    with pytest.raises(CheckpointError, match="trained without the head transpose") as caught:
        tiny_stdit(layers=3, width=64, weights=str(fixture))
    assert 'backbone.attention_transpose="released"' in caught.value.hint


def test_all_differences_are_listed(tmp_path: Path) -> None:
    stdit_weights.save(tiny_stdit(), tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError) as caught:
        tiny_stdit(width=64, heads=8, layers=1, weights=str(tmp_path / "a.safetensors"))
    for line in ("width: checkpoint 32, config 64", "heads: checkpoint 4, config 8", "layers: checkpoint 2, config 1"):
        assert line in caught.value.message


def test_tensors_without_description_are_compared_by_shape(tmp_path: Path) -> None:
    state = tiny_stdit().state_dict()
    del state["t_block.1.bias"]
    state["extra"] = torch.zeros(2)
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError) as caught:
        tiny_stdit(weights=str(tmp_path))
    assert "t_block.1.bias: not in the file" in caught.value.message and "extra: in the file" in caught.value.message


def test_scaled_positions_are_refused(tmp_path: Path) -> None:
    stdit_weights.write_released(tiny_stdit(), tmp_path, (4, 4, 4))
    file = tmp_path / stdit_weights.RELEASED_FILE
    state = tensors(file)
    state["model.pos_embed_temporal"] = state["model.pos_embed_temporal"].flip(1)
    save_file(state, file)
    with pytest.raises(CheckpointError, match="time_scale"):
        tiny_stdit(weights=str(tmp_path))


def test_unreadable_and_undescribed_files(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"not tensors")
    with pytest.raises(CheckpointError, match="not a readable safetensors"):
        tiny_stdit(weights=str(tmp_path / "a.safetensors"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="holds none of"):
        tiny_stdit(weights=str(tmp_path / "empty"))
    stdit_weights.write_released(tiny_stdit(), tmp_path / "r", (4, 4, 4))
    settings = json.loads((tmp_path / "r" / "config.json").read_text())
    assert settings["num_heads"] == 4 and settings["input_size"] == [4, 4, 4]
    (tmp_path / "r" / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"config\.json is missing"):
        tiny_stdit(weights=str(tmp_path / "r"))
