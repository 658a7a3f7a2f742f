"""TAEF1: the contract, parity with diffusers in every layout, and what does not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from ctgen_ctflow.flux_vae_config import FluxVaeConfig
from ctgen_ctflow.taef1 import Taef1
from ctgen_ctflow.taef1_config import Taef1Config
from diffusers import AutoencoderTiny
from safetensors.torch import save_file
from torch import Tensor

from ctgen.errors import CheckpointError, MissingFileError
from ctgen.testing import check_autoencoder

FLUX_RANGE = (-1.0, 1.0)


def build(**fields: Any) -> Taef1:
    torch.manual_seed(0)
    return Taef1(Taef1Config(**{"weights": "random", **fields})).eval()


def smooth(size: int = 32) -> Tensor:
    """(2, 1, 2, size, size) HU, a few waves."""
    grid = torch.linspace(-3, 3, size)
    waves = [torch.sin(grid * k)[:, None] * torch.cos(grid * (k + 1)) for k in (1, 2, 3, 4)]
    return (600 * torch.stack(waves) - 300).reshape(2, 1, 2, size, size)


def slices(volume: Tensor) -> Tensor:
    return volume.transpose(1, 2).flatten(0, 1)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[AutoencoderTiny, Path]:
    """Random weights in the folder that diffusers writes, and in the two files of the original with its numbering."""
    torch.manual_seed(1)
    plain = AutoencoderTiny(latent_channels=16, scaling_factor=1.0, shift_factor=0.0).eval()
    root = tmp_path_factory.mktemp("taef1")
    plain.save_pretrained(root / "diffusers")
    (root / "original").mkdir()
    for side, first in (("encoder", 0), ("decoder", 1)):
        numbered = {}
        for key, value in getattr(plain, side).layers.state_dict().items():
            number, _, rest = key.partition(".")
            numbered[f"{int(number) + first}.{rest}"] = value.to(torch.bfloat16).contiguous()
        save_file(numbered, str(root / "original" / f"taef1_{side}.safetensors"))
    return plain, root


@pytest.mark.parametrize("name", ["diffusers", "diffusers/diffusion_pytorch_model.safetensors"])
@torch.no_grad()
def test_agrees_with_diffusers(published: tuple[AutoencoderTiny, Path], name: str) -> None:
    plain, root = published
    codec = Taef1(Taef1Config(weights=str(root / name), range=FLUX_RANGE)).eval()
    assert (codec.weights.label, codec.scale, codec.shift) == ("FILE", 1.0, 0.0)
    volume = smooth()
    latents = plain.encode((slices(volume) / 1000).expand(-1, 3, -1, -1)).latents
    posterior = codec.encode(volume)
    assert posterior.mean.shape == (2, 16, 2, 4, 4) and posterior.logvar is None
    torch.testing.assert_close(slices(posterior.mean), latents, rtol=0, atol=2e-5)
    wanted = plain.decode(latents).sample.mean(1, keepdim=True)
    latent = codec.finalise(posterior, generator=torch.Generator().manual_seed(0))
    assert torch.equal(latent, posterior.mean)
    torch.testing.assert_close(slices(codec.decode(latent)) / 1000, wanted, rtol=0, atol=2e-5)


def test_both_layouts_and_ours_hold_the_same_weights(published: tuple[AutoencoderTiny, Path], tmp_path: Path) -> None:
    plain, root = published
    original = build(weights=str(root / "original"))
    wanted = {f"net.{key}": value.to(torch.bfloat16).float() for key, value in plain.state_dict().items()}
    assert original.state_dict().keys() == wanted.keys()
    assert all(torch.equal(value, wanted[key]) for key, value in original.state_dict().items())
    path = tmp_path / "ours.safetensors"
    save_file({k: v.contiguous() for k, v in original.state_dict().items()}, str(path), metadata={"scale": "2", "shift": "0.5"})
    ours = build(weights=str(path))
    assert all(torch.equal(value, wanted[key]) for key, value in ours.state_dict().items())
    assert (ours.scale, ours.shift) == (2.0, 0.5)
    assert build(weights=str(path), scale=3.0).scale == 3.0


@torch.no_grad()
def test_the_published_weights_restore_an_image(shared_folder: Path) -> None:
    folder = shared_folder / "data" / "weights"
    volume = smooth(64)
    for ends in (FLUX_RANGE, (0.0, 0.8333)):
        codec = build(weights=str(folder), range=ends)
        restored = codec.decode(codec.finalise(codec.encode(volume), generator=None))
        assert (restored - volume).abs().mean() < 120, ends
        half = build(weights=str(folder), range=ends, precision="bfloat16")
        rough = half.decode(half.finalise(half.encode(volume), generator=None))
        assert rough.dtype == torch.float32 and rough.unique().numel() > 2000
        error = 20 * torch.log10(2000 / (rough - restored).square().mean().sqrt())
        assert 30 < error < 80, ends


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_conformance(precision: str) -> None:
    check_autoencoder(build(precision=precision), tolerance=2e-3)


@torch.no_grad()
def test_chunks_do_not_change_the_result() -> None:
    volume = smooth()
    whole = build(chunk=64).encode(volume).mean
    for chunk in ("auto", 1, 3):
        torch.testing.assert_close(build(chunk=chunk).encode(volume).mean, whole, rtol=0, atol=2e-6)


def test_takes_the_place_of_flux_vae() -> None:
    """The same sizes and fields: only ``use`` and ``weights`` change in a recipe."""
    shared = {"weights": "random", "range": FLUX_RANGE, "window_hu": (-1350.0, 150.0), "precision": "bfloat16", "chunk": 4}
    tiny, full = Taef1Config(**shared), FluxVaeConfig(**shared)  # type: ignore[arg-type]
    assert tiny.latent_spec() == full.latent_spec() and tiny.pixels == full.pixels


def test_what_does_not_fit(published: tuple[AutoencoderTiny, Path], tmp_path: Path) -> None:
    _, root = published
    with pytest.raises(CheckpointError, match="give the folder that holds both"):
        build(weights=str(root / "original" / "taef1_encoder.safetensors"))
    only = tmp_path / "only"
    only.mkdir()
    (only / "taef1_encoder.safetensors").write_bytes((root / "original" / "taef1_encoder.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match=r"lacks taef1_decoder\.safetensors"):
        build(weights=str(only))
    (only / "taef1_decoder.safetensors").write_bytes((root / "original" / "taef1_decoder.safetensors").read_bytes()[:5000])
    with pytest.raises(CheckpointError, match=r"taef1_decoder\.safetensors is not a readable safetensors file"):
        build(weights=str(only))
    AutoencoderTiny(latent_channels=4).save_pretrained(tmp_path / "taesd")
    with pytest.raises(CheckpointError, match=r"3 of another shape: net\.decoder\.layers\.0\.weight \(file 64x4x3x3"):
        build(weights=str(tmp_path / "taesd"))
    (tmp_path / "taesd" / "config.json").write_text(json.dumps({"_class_name": "AutoencoderKL"}), encoding="utf-8")
    with pytest.raises(CheckpointError, match="belongs to a AutoencoderKL, wanted an AutoencoderTiny"):
        build(weights=str(tmp_path / "taesd"))
    save_file({"blocks.0.weight": torch.zeros(1)}, str(tmp_path / "other.safetensors"))
    with pytest.raises(CheckpointError, match=r"none of the layouts(.|\n)*found 1 tensors: blocks\.0\.weight"):
        build(weights=str(tmp_path / "other.safetensors"))
    with pytest.raises(MissingFileError, match="hf:madebyollin/taef1"):
        build(weights=str(tmp_path / "absent"))
