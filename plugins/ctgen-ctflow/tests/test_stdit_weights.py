from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from ctflow_fixtures import awake, condition, draw, tensors, tiny_stdit
from ctgen_ctflow import stdit_weights
from ctgen_ctflow.stdit import Stdit
from ctgen_ctflow.stdit_layers import SelfAttention
from safetensors.torch import save_file

from ctgen import weights
from ctgen.errors import CheckpointError, ConfigError
from ctgen.train.checkpoint import write_checkpoint


@torch.no_grad()
def test_both_layouts_come_back_bit_for_bit(tmp_path: Path) -> None:
    model = awake(tiny_stdit(attention_transpose="released"))
    inputs = draw(1, 16, 4, 4, 4), torch.tensor([0.4]), condition(1)
    stdit_weights.save(model, tmp_path / "ours.safetensors")
    stdit_weights.save_released_layout(model, tmp_path / "denoiser_ema", (4, 4, 4))
    for place in ("ours.safetensors", "denoiser_ema", "denoiser_ema/diffusion_pytorch_model.safetensors"):
        again = tiny_stdit(attention_transpose="released", weights=str(tmp_path / place))
        assert torch.equal(again(*inputs), model(*inputs))
        assert again.weights.label == "FILE" and len(again.weights.sha256) == 64


def test_the_released_layout_has_the_released_keys(shared_folder: Path, tmp_path: Path) -> None:
    fixture = shared_folder / "fixtures" / "ctflow-stdit" / "denoiser_ema"
    model = tiny_stdit(layers=3, width=64, attention_transpose="released", weights=str(fixture))
    stdit_weights.save_released_layout(model, tmp_path, (16, 8, 8))
    written, expected = (tensors(folder / stdit_weights.RELEASED_FILE) for folder in (tmp_path, fixture))
    assert written.keys() == expected.keys()
    assert all(torch.allclose(written[key], expected[key], atol=1e-6) for key in expected)


@pytest.fixture
def released(shared_folder: Path) -> Path:
    return shared_folder / "fixtures" / "ctflow-stdit" / "denoiser_ema"


def read_released(folder: Path, **fields: object) -> Stdit:
    return tiny_stdit(layers=3, width=64, weights=str(folder), **fields)


def test_a_released_checkpoint_sets_the_head_layout_and_says_so(
    released: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "_noted", set())
    model = read_released(released)
    assert model.heads_layout == "released"
    assert all(not module.swap_heads for module in model.modules() if isinstance(module, SelfAttention))
    said = capsys.readouterr().err
    assert "computed without the head transpose" in said and "config.json does not name attention_transpose" in said
    assert "without the head transpose" in model.weights.source, "provenance says it too"
    assert tiny_stdit().heads_layout == "correct", "off where nothing says otherwise"


def test_the_head_layout_that_a_recipe_states_must_be_that_of_the_checkpoint(released: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="trained without the head transpose") as caught:
        read_released(released, attention_transpose="correct")
    assert 'backbone.attention_transpose="released"' in caught.value.hint
    shutil.copytree(released, tmp_path / "told")
    settings = json.loads((released / "config.json").read_text())
    (tmp_path / "told" / "config.json").chmod(0o644)
    (tmp_path / "told" / "config.json").write_text(json.dumps({**settings, "attention_transpose": "correct"}))
    assert read_released(tmp_path / "told").heads_layout == "correct"
    with pytest.raises(CheckpointError, match="trained with the head transpose"):
        read_released(tmp_path / "told", attention_transpose="released")
    (tmp_path / "told" / "config.json").write_text(json.dumps({**settings, "attention_transpose": "yes"}))
    with pytest.raises(CheckpointError, match="not 'correct' or 'released'"):
        read_released(tmp_path / "told")
    (tmp_path / "told" / "config.json").write_text("[1]")
    with pytest.raises(CheckpointError, match="not a JSON object"):
        read_released(tmp_path / "told")


@torch.no_grad()
@pytest.mark.parametrize("layout", ["correct", "released"])
def test_our_own_files_carry_the_head_layout(layout: str, tmp_path: Path) -> None:
    model = awake(tiny_stdit(attention_transpose=layout))
    file = stdit_weights.save(model, tmp_path / "ours.safetensors")
    again = tiny_stdit(weights=str(file))
    inputs = draw(1, 16, 4, 4, 4), torch.tensor([0.4]), condition(1)
    assert again.heads_layout == layout and torch.equal(again(*inputs), model(*inputs))
    with pytest.raises(CheckpointError, match="attention_transpose: checkpoint"):
        tiny_stdit(weights=str(file), attention_transpose="released" if layout == "correct" else "correct")


def test_a_trained_file_put_into_a_built_model_is_heeded(tmp_path: Path) -> None:
    """As stages and train.init do it: build, copy, show the metadata."""
    trained = tiny_stdit(attention_transpose="released")
    followed = tiny_stdit()
    followed.load_metadata(trained.file_metadata())
    assert followed.heads_layout == "released"
    with pytest.raises(CheckpointError, match="trained without the head transpose"):
        tiny_stdit(attention_transpose="correct").load_metadata(trained.file_metadata())
    followed.load_metadata({})
    assert followed.heads_layout == "released", "no word changes nothing"
    with pytest.raises(CheckpointError, match="damaged"):
        tiny_stdit().load_metadata({"stdit": "{"})


def test_a_training_checkpoint_says_its_head_layout_in_its_spec(tmp_path: Path) -> None:
    trained = tiny_stdit(attention_transpose="released")
    spec = {"component": {"use": "ctflow:stdit", **trained.config.identity()}}
    states = {"model": trained.state_dict(), "ema": trained.state_dict()}
    done = write_checkpoint(tmp_path, 3, weights=states, state={}, loop={}, spec=spec)
    assert tiny_stdit(weights=str(done.folder)).heads_layout == "released"
    done = write_checkpoint(tmp_path, 4, weights=states, state={}, loop={}, spec={}, metadata=trained.file_metadata())
    assert tiny_stdit(weights=str(done.folder / "ema.safetensors")).heads_layout == "released"
    (done.folder / "ema.safetensors").unlink()
    (done.folder / "spec.json").write_text("{")
    save_file(trained.state_dict(), done.folder / "ema.safetensors")
    with pytest.raises(CheckpointError, match=r"spec\.json beside the weights is damaged"):
        tiny_stdit(weights=str(done.folder))


def test_what_shapes_do_not_show_is_compared(tmp_path: Path) -> None:
    file = stdit_weights.save(tiny_stdit(skip="wiener", latent_std=(2.0,), time_factor=1000.0), tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError) as caught:
        tiny_stdit(weights=str(file))
    assert "skip: checkpoint 'wiener', config 'none'" in caught.value.message
    assert "time_factor: checkpoint 1000.0, config 1.0" in caught.value.message
    with pytest.raises(CheckpointError, match="latent_std"):
        tiny_stdit(weights=str(file), skip="wiener", latent_std=(1.0,), time_factor=1000.0)


@pytest.mark.parametrize(
    "field",
    [
        {"text_whitening": True},
        {"text_modulation": True},
        {"text": "tokens"},
        {"skip": "wiener"},
        {"target": "clean"},
        {"position_input": True},
        {"time_factor": 1000.0},
    ],
)
def test_the_released_layout_refuses_what_the_published_network_has_not(field: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"no {next(iter(field))}"):
        stdit_weights.save_released_layout(tiny_stdit(**field), tmp_path / "out", (4, 4, 4))
    assert not (tmp_path / "out").exists()


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
    stdit_weights.save_released_layout(tiny_stdit(), tmp_path, (4, 4, 4))
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
    stdit_weights.save_released_layout(tiny_stdit(), tmp_path / "r", (4, 4, 4))
    settings = json.loads((tmp_path / "r" / "config.json").read_text())
    assert settings["num_heads"] == 4 and settings["input_size"] == [4, 4, 4]
    (tmp_path / "r" / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"config\.json is missing"):
        tiny_stdit(weights=str(tmp_path / "r"))
