"""Weights of FLUX's autoencoder: precisions, labels, layouts, and files that do not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from ctgen_ctflow import flux_vae
from ctgen_ctflow.flux_vae import FluxVae
from ctgen_ctflow.flux_vae_config import FluxVaeConfig
from safetensors.torch import load_file, save_file
from torch import Tensor

from ctgen.errors import CheckpointError, MissingFileError

SMALL: dict[str, Any] = {"architecture": "mini", "widths": (8, 8, 16, 16)}
FIXTURE: dict[str, Any] = {"widths": (32, 64, 32, 32), "layers": 1, "range": (-1.0, 1.0)}


def build(**fields: Any) -> FluxVae:
    torch.manual_seed(0)
    return FluxVae(FluxVaeConfig(**{"weights": "random", **SMALL, **fields})).eval()


@pytest.fixture(scope="module")
def folder(shared_folder: Path) -> Path:
    return shared_folder / "fixtures" / "flux-vae-bfl"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_files_load_as_float32_with_their_scale(tmp_path: Path, dtype: torch.dtype) -> None:
    state = {key: value.to(dtype).contiguous() for key, value in build().state_dict().items()}
    path = tmp_path / "vae.safetensors"
    save_file(state, str(path), metadata={"scale": "1.5", "shift": "-0.25", "more": "words"})
    vae = build(weights=str(path))
    assert all(value.dtype == torch.float32 for value in vae.state_dict().values())
    assert all(torch.equal(value, state[key].float()) for key, value in vae.state_dict().items())
    assert (vae.scale, vae.shift) == (1.5, -0.25)
    stated = build(weights=str(path), scale=2.0)
    assert (stated.scale, stated.shift) == (2.0, -0.25)
    stated.load_metadata({"scale": "9", "shift": "8"})
    assert (stated.scale, stated.shift) == (2.0, 8.0)


def test_labels_say_where_weights_come_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = build()
    assert (made.weights.label, made.scale, made.shift) == ("RANDOM", 1.0, 0.0)
    path = tmp_path / "mini.safetensors"
    monkeypatch.setattr(flux_vae, "SHIPPED", {"mini": path})
    with pytest.raises(MissingFileError, match="no mini weights are shipped"):
        build(weights="mini")
    save_file({key: value.contiguous() for key, value in made.state_dict().items()}, str(path))
    assert build(weights="mini").weights.label == "MINI"
    found = build(weights=str(path)).weights
    assert (found.label, found.source) == ("FILE", str(path))
    with pytest.raises(MissingFileError, match="hf download"):
        build(weights=str(tmp_path / "absent"))


def test_another_architecture_is_an_error_that_lists_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "vae.safetensors"
    save_file({key: value.contiguous() for key, value in build().state_dict().items()}, str(path))
    with pytest.raises(CheckpointError) as caught:
        build(weights=str(path), widths=(8, 8, 16, 32), mid_attention=False)
    assert "ctgen layout, 176 tensors" in caught.value.message and "widths (8, 8, 16, 32)" in caught.value.message
    assert "20 unexpected: vae.decoder.mid_block.attentions.0.group_norm.bias" in caught.value.message
    assert "vae.decoder.conv_in.bias (file 16, config 32)" in caught.value.message and " more" in caught.value.message
    assert "widths [8, 8, 16, 16], layers 1, latent_channels 16, image_channels 3, mid_attention true" in caught.value.hint


def test_norm_groups_are_compared_where_they_are_known(folder: Path, tmp_path: Path) -> None:
    """No shape shows them: with others the numbers would be wrong without a word."""
    for name in ("diffusers_vae", "ae.safetensors"):
        with pytest.raises(CheckpointError, match=r"norm groups: file 32, config 16(.|\n)*groups 32"):
            FluxVae(FluxVaeConfig(weights=str(folder / name), groups=16, **FIXTURE))
    path = tmp_path / "vae.safetensors"
    component = json.dumps({"architecture": "mini", "groups": None})
    save_file({k: v.contiguous() for k, v in build().state_dict().items()}, str(path), metadata={"component": component})
    build(weights=str(path))
    with pytest.raises(CheckpointError, match="norm groups: file 4, config 2"):
        build(weights=str(path), groups=2)


def stored(path: Path, tensors: dict[str, Tensor], **metadata: str) -> str:
    save_file({key: value.contiguous() for key, value in tensors.items()}, str(path), metadata=metadata or None)
    return str(path)


def test_names_of_something_else(tmp_path: Path) -> None:
    path = stored(tmp_path / "other.safetensors", {"blocks.0.attn.qkv.weight": torch.zeros(2), "pos_embed": torch.zeros(1)})
    with pytest.raises(CheckpointError) as caught:
        build(weights=path)
    for words in ("none of the layouts", "encoder.down_blocks.*", "encoder.down.*", "vae.encoder.down_blocks.*"):
        assert words in caught.value.message
    assert "found 2 tensors: blocks.0.attn.qkv.weight, pos_embed" in caught.value.message
    assert "0 of 176 names found, 176 missing, 2 unexpected" in caught.value.message
    with pytest.raises(CheckpointError, match="found 0 tensors: none"):
        build(weights=stored(tmp_path / "nothing.safetensors", {}))


def test_only_the_ends_of_a_network_say_which_layout_is_nearest(tmp_path: Path) -> None:
    tensors = {key.removeprefix("vae."): value for key, value in build().state_dict().items() if "conv_in" in key}
    with pytest.raises(CheckpointError, match=r"nearest is (diffusers|bfl): 4 of 176 names found, 172 missing, 0 unexpected"):
        build(weights=stored(tmp_path / "ends.safetensors", tensors))


def test_two_layouts_in_one_file(tmp_path: Path) -> None:
    state = build().state_dict()
    tensors = {**state, **{key.removeprefix("vae."): value.clone() for key, value in state.items()}}
    with pytest.raises(CheckpointError, match="mixes the layouts ctgen and diffusers"):
        build(weights=stored(tmp_path / "both.safetensors", tensors))


@pytest.mark.parametrize("half", ["encoder", "decoder"])
def test_half_a_checkpoint(tmp_path: Path, half: str) -> None:
    tensors = {key: value for key, value in build().state_dict().items() if key.startswith(f"vae.{half}.")}
    with pytest.raises(
        CheckpointError, match=rf"ctgen layout, {len(tensors)} tensors(.|\n)*{176 - len(tensors)} missing: vae\."
    ):
        build(weights=stored(tmp_path / "half.safetensors", tensors))


def test_half_of_the_names_of_a_published_file(folder: Path, tmp_path: Path) -> None:
    tensors = load_file(folder / "ae.safetensors")
    some = dict(sorted(tensors.items())[::2])
    with pytest.raises(CheckpointError, match=rf"bfl layout, {len(some)} tensors(.|\n)*{len(tensors) - len(some)} missing"):
        FluxVae(FluxVaeConfig(weights=stored(tmp_path / "ae.safetensors", some), **FIXTURE))


def test_integers_are_no_weights(tmp_path: Path) -> None:
    tensors = {key: value.to(torch.int8) for key, value in build().state_dict().items()}
    with pytest.raises(CheckpointError, match=r"176 no floating point numbers: vae\.decoder\.conv_in\.bias"):
        build(weights=stored(tmp_path / "int8.safetensors", tensors))


def test_files_that_are_no_safetensors(tmp_path: Path) -> None:
    path = Path(stored(tmp_path / "vae.safetensors", dict(build().state_dict())))
    whole = path.read_bytes()
    for size in (len(whole) - 7, len(whole) // 2, 100, 0):
        path.write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match="not a readable safetensors file: "):
            build(weights=str(path))
    path.write_text("not a safetensors file", encoding="utf-8")
    with pytest.raises(CheckpointError, match="not a readable safetensors file: "):
        build(weights=str(path))
    for zipped in (True, False):
        torch.save({"text_transformer.weight": torch.zeros(2)}, path, _use_new_zipfile_serialization=zipped)
        with pytest.raises(CheckpointError, match=r"not a readable safetensors file \(it is a pickle of torch.save\)"):
            build(weights=str(path))


def test_folders_without_weights(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds neither diffusion_pytorch_model\.safetensors nor ae\.safetensors"):
        build(weights=str(tmp_path))
    (tmp_path / "diffusion_pytorch_model.bin").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"diffusion_pytorch_model\.bin is not read: only safetensors"):
        build(weights=str(tmp_path))
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae" / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(CheckpointError, match=f"try {tmp_path / 'vae'}"):
        build(weights=str(tmp_path))


def diffusers_names() -> dict[str, Tensor]:
    return {key.removeprefix("vae."): value for key, value in build().state_dict().items()}


def test_precision_variants_of_a_diffusers_folder(tmp_path: Path) -> None:
    half = {key: value.half() for key, value in diffusers_names().items()}
    stored(tmp_path / "diffusion_pytorch_model.fp16.safetensors", half)
    vae = build(weights=str(tmp_path))
    assert all(torch.equal(value, half[key.removeprefix("vae.")].float()) for key, value in vae.state_dict().items())
    stored(tmp_path / "diffusion_pytorch_model.bf16.safetensors", half)
    with pytest.raises(CheckpointError, match=r"2 variants of its weights: .*bf16\.safetensors, .*fp16\.safetensors"):
        build(weights=str(tmp_path))
    stored(tmp_path / "diffusion_pytorch_model.safetensors", diffusers_names())
    assert torch.equal(build(weights=str(tmp_path)).vae.encoder.conv_in.weight, build().vae.encoder.conv_in.weight)


def test_a_diffusers_folder_in_shards(tmp_path: Path) -> None:
    tensors = diffusers_names()
    where = {}
    for number in (1, 2):
        name = f"diffusion_pytorch_model-0000{number}-of-00002.safetensors"
        part = dict(list(tensors.items())[number - 1 :: 2])
        stored(tmp_path / name, part)
        where |= dict.fromkeys(part, name)
    index = tmp_path / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": where}), encoding="utf-8")
    (tmp_path / "config.json").write_text(json.dumps({"norm_num_groups": 4, "scaling_factor": 0.5}), encoding="utf-8")
    vae = build(weights=str(tmp_path))
    assert all(torch.equal(value, tensors[key.removeprefix("vae.")]) for key, value in vae.state_dict().items())
    assert (vae.scale, vae.shift) == (0.5, 0.1159)
    (tmp_path / "diffusion_pytorch_model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"2 files, of which 1 are missing: diffusion_pytorch_model-00002"):
        build(weights=str(tmp_path))
    for damage in ("{", "[]", "{}"):
        index.write_text(damage, encoding="utf-8")
        with pytest.raises(CheckpointError, match=r"is damaged|no weight_map"):
            build(weights=str(tmp_path))


@pytest.mark.parametrize(("field", "value"), [("_class_name", "AutoencoderTiny"), ("act_fn", "relu")])
def test_settings_that_tensors_do_not_show(tmp_path: Path, field: str, value: str) -> None:
    stored(tmp_path / "diffusion_pytorch_model.safetensors", diffusers_names())
    (tmp_path / "config.json").write_text(json.dumps({field: value}), encoding="utf-8")
    with pytest.raises(CheckpointError, match=f"{field}: config.json '{value}'"):
        build(weights=str(tmp_path))
