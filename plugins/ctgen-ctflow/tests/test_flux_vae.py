"""FLUX's autoencoder on CT slices: parity in every layout, the pixel mapping, draws, weights and their errors."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ctflow_fixtures import tensors
from ctgen_ctflow import flux_vae, flux_vae_weights
from ctgen_ctflow.flux_vae import FluxVae
from ctgen_ctflow.flux_vae_config import FluxVaeConfig
from ctgen_ctflow.linear_start import linear_start
from diffusers import AutoencoderKL
from safetensors.torch import save_file
from torch import Tensor

from ctgen.errors import CheckpointError, MissingFileError
from ctgen.interfaces import LatentSpec, Posterior
from ctgen.markers import make_markers
from ctgen.testing import check_autoencoder

SMALL: dict[str, Any] = {"architecture": "mini", "widths": (8, 8, 16, 16)}
FIXTURE: dict[str, Any] = {"widths": (32, 64, 32, 32), "layers": 1, "range": (-1.0, 1.0)}


def build(**fields: Any) -> FluxVae:
    torch.manual_seed(0)
    return FluxVae(FluxVaeConfig(**{"weights": "random", **SMALL, **fields})).eval()


def scan(depth: int = 3, size: int = 16, batch: int = 1) -> Tensor:
    """(batch, 1, depth, size, size) HU from -1000 to 1000."""
    return torch.rand(batch, 1, depth, size, size, generator=torch.Generator().manual_seed(1)) * 2000 - 1000


@pytest.fixture(scope="module")
def folder(shared_folder: Path) -> Path:
    return shared_folder / "fixtures" / "flux-vae-bfl"


@pytest.mark.parametrize("name", ["diffusers_vae", "diffusers_vae/diffusion_pytorch_model.safetensors", "ae.safetensors", "."])
@torch.no_grad()
def test_published_layouts_give_the_reference_numbers(folder: Path, name: str) -> None:
    wanted = tensors(folder / "io.safetensors")
    vae = FluxVae(FluxVaeConfig(weights=str(folder / name), **FIXTURE)).eval()
    assert vae.weights.label == "FILE" and len(vae.weights.sha256) == 64
    assert (vae.scale, vae.shift) == (0.3611, 0.1159)
    mean, logvar = vae.vae.encode(wanted["image"]).latent_dist.parameters.chunk(2, dim=1)
    assert (mean - wanted["posterior_mean"]).abs().max() <= 2e-5
    assert (logvar - wanted["posterior_logvar"]).abs().max() <= 2e-5
    latent = vae.finalise(Posterior(mean[:, :, None], logvar[:, :, None]), generator=None)
    assert (latent[:, :, 0] - wanted["latent_scaled"]).abs().max() <= 2e-5
    decoded = vae.decode(wanted["latent_scaled"][:, :, None])[:, :, 0] / 1000
    assert (decoded - wanted["decoded"].mean(1, keepdim=True)).abs().max() <= 2e-5


@torch.no_grad()
def test_the_public_topology_from_black_forest_labs_names(folder: Path, tmp_path: Path) -> None:
    """All levels and both residual blocks, with weights that the fixture defines by a formula."""
    facts = json.loads((folder / "fixture.json").read_text(encoding="utf-8"))
    made = FluxVae(FluxVaeConfig(weights="random", widths=(32, 64, 128, 128), range=(-1.0, 1.0)))
    names = {key.removeprefix("vae."): value for key, value in made.state_dict().items()}
    published = {ours: theirs for theirs, ours in recipe_names(names).items()}
    state = {}
    for key, theirs in published.items():
        shape = tuple(names[key].shape)
        random = np.random.RandomState((zlib.crc32(theirs.encode("ascii")) + facts["recipe"]["seed"]) % 2**32)
        gain = len(shape) == 1 and theirs.endswith(".weight")
        spread = np.prod(shape[1:]) ** -0.5 if len(shape) > 1 else 0.1 if gain else 0.05
        value = gain + spread * random.standard_normal(int(np.prod(shape)))
        value = value.reshape(shape).astype(np.float32)
        linear = ".attn_1." in theirs and len(shape) == 2
        state[theirs] = torch.from_numpy(value[:, :, None, None].copy() if linear else value)
    assert len(state) == facts["recipe"]["tensor_count"]
    save_file(state, str(tmp_path / "ae.safetensors"))
    vae = FluxVae(FluxVaeConfig(weights=str(tmp_path / "ae.safetensors"), widths=(32, 64, 128, 128), range=(-1.0, 1.0))).eval()
    wanted = tensors(folder / "io.safetensors")
    mean, logvar = vae.vae.encode(wanted["recipe_image"]).latent_dist.parameters.chunk(2, dim=1)
    assert (mean - wanted["recipe_posterior_mean"]).abs().max() <= 2e-5
    assert (logvar - wanted["recipe_posterior_logvar"]).abs().max() <= 2e-5
    decoded = vae.decode(wanted["recipe_latent_scaled"][:, :, None])[:, :, 0] / 1000
    assert (decoded - wanted["recipe_decoded"].mean(1, keepdim=True)).abs().max() <= 2e-5


def recipe_names(names: dict[str, Tensor]) -> dict[str, str]:
    """Published name -> diffusers name, written the other way round than the loader does it."""
    found = {}
    for name in names:
        parts = name.split(".")
        if parts[1].endswith("_blocks"):
            level = int(parts[2]) if parts[1] == "down_blocks" else 3 - int(parts[2])
            side = parts[1].removesuffix("_blocks")
            block = f"block.{parts[4]}" if parts[3] == "resnets" else side + "sample"
            parts = [parts[0], side, str(level), block, *parts[5:]]
        elif parts[1] == "mid_block":
            block = f"block_{int(parts[3]) + 1}" if parts[2] == "resnets" else "attn_1"
            parts = [parts[0], "mid", block, *parts[4:]]
        words = {"conv_shortcut": "nin_shortcut", "conv_norm_out": "norm_out", "group_norm": "norm", "to_q": "q", "to_k": "k"}
        words |= {"to_v": "v", "to_out": "proj_out"}
        parts = [words.get(part, part) for part in parts]
        if "proj_out" in parts:
            parts.pop(parts.index("proj_out") + 1)
        found[".".join(parts)] = name
    return found


@torch.no_grad()
def test_agrees_with_plain_diffusers_calls(folder: Path) -> None:
    plain = AutoencoderKL.from_pretrained(folder / "diffusers_vae").eval()
    vae = FluxVae(FluxVaeConfig(weights=str(folder / "diffusers_vae"), **FIXTURE)).eval()
    volume = scan(depth=2, size=32, batch=2)
    pixels = (volume / 1000).transpose(1, 2).flatten(0, 1).expand(-1, 3, -1, -1)
    distribution = plain.encode(pixels).latent_dist
    posterior = vae.encode(volume)
    assert posterior.mean.shape == (2, 16, 2, 4, 4)
    close(posterior.mean.transpose(1, 2).flatten(0, 1), distribution.mean)
    assert posterior.logvar is not None
    close(posterior.logvar.transpose(1, 2).flatten(0, 1), distribution.logvar)
    latent = vae.finalise(posterior, generator=None)
    raw = latent.transpose(1, 2).flatten(0, 1) / plain.config.scaling_factor + plain.config.shift_factor
    wanted = plain.decode(raw).sample.mean(1, keepdim=True) * 1000
    close(vae.decode(latent).transpose(1, 2).flatten(0, 1), wanted, 1000)


def close(found: Tensor, wanted: Tensor, scale: float = 1.0) -> None:
    torch.testing.assert_close(found, wanted, rtol=0, atol=2e-5 * scale)


@pytest.mark.parametrize("ends", [(0.0, 0.8333), (-1.0, 1.0), (0.0, 1.0)])
@pytest.mark.parametrize("window", [(-1000.0, 1000.0), (-1350.0, 150.0)])
def test_the_pixel_mapping_inverts(ends: tuple[float, float], window: tuple[float, float]) -> None:
    vae = build(range=ends, window_hu=window)
    hu = torch.linspace(*window, 256).reshape(1, 1, 1, 16, 16)
    pixels = vae._pixels(hu)
    assert pixels.shape == (1, 3, 16, 16)
    assert pixels.min().item() == pytest.approx(ends[0], abs=1e-6) and pixels.max().item() == pytest.approx(ends[1], abs=1e-6)
    torch.testing.assert_close(vae._to_hu(pixels[:, :1]).unsqueeze(2), hu, rtol=0, atol=1e-3)
    assert vae._pixels(torch.full((1, 1, 1, 8, 8), -3000.0)).unique().tolist() == pytest.approx([ends[0]])
    assert vae._pixels(torch.full((1, 1, 1, 8, 8), 9000.0)).unique().tolist() == pytest.approx([1.0])


@torch.no_grad()
def test_markers_are_black_and_white() -> None:
    vae = build()
    black, white = vae.marker_hu
    assert black == -1000.0 and white == pytest.approx(1400.1, abs=0.1)
    for hu, pixel in ((black, 0.0), (white, 1.0)):
        assert vae._pixels(torch.full((1, 1, 1, 8, 8), hu)).unique().tolist() == pytest.approx([pixel], abs=1e-6)
    markers = make_markers(vae, 16, 16)
    plain = vae.vae.encode(torch.ones(1, 3, 16, 16)).latent_dist.mean
    torch.testing.assert_close(markers.end[:, 0], plain[0])
    assert build(range=(-1.0, 1.0)).marker_hu == (-1000.0, 1000.0)


@torch.no_grad()
def test_chunks_do_not_change_the_result() -> None:
    whole, parts = build(chunk=64), build(chunk=2)
    volume = scan(depth=5, batch=2)
    posterior = whole.encode(volume)
    torch.testing.assert_close(parts.encode(volume).mean, posterior.mean, rtol=0, atol=1e-5)
    latent = posterior.mean
    torch.testing.assert_close(parts.decode(latent) / 2000, whole.decode(latent) / 2000, rtol=0, atol=1e-5)


def test_decode_undoes_finalise() -> None:
    seen: list[Tensor] = []
    vae = build(scale=0.7, shift=-0.3)
    vae.vae.decode = lambda raw: seen.append(raw) or _Sample(raw.new_zeros(len(raw), 3, 16, 16))  # type: ignore[func-returns-value]
    mean = torch.randn(2, 16, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    latent = vae.finalise(Posterior(mean, None), generator=torch.Generator())
    torch.testing.assert_close(latent, (mean + 0.3) * 0.7)
    vae.decode(latent)
    torch.testing.assert_close(torch.cat(seen), mean.transpose(1, 2).flatten(0, 1))


class _Sample:
    def __init__(self, sample: Tensor) -> None:
        self.sample = sample


def test_a_draw_depends_on_its_generator_alone() -> None:
    vae = build()
    posterior = Posterior(torch.zeros(1, 16, 2, 4, 4), torch.full((1, 16, 2, 4, 4), 2.0))
    torch.manual_seed(1)
    first = vae.finalise(posterior, generator=torch.Generator().manual_seed(5))
    torch.manual_seed(2)
    state = torch.get_rng_state()
    again = vae.finalise(posterior, generator=torch.Generator().manual_seed(5))
    assert torch.equal(first, again) and torch.equal(torch.get_rng_state(), state)
    assert first.std().item() == pytest.approx(np.exp(1.0), rel=0.15)
    assert not torch.equal(first, vae.finalise(posterior, generator=torch.Generator().manual_seed(6)))
    assert vae.finalise(posterior, generator=None).abs().max() == 0


def test_a_loss_reaches_every_parameter() -> None:
    vae = build().train()
    reconstruction, posterior = vae(scan(), torch.Generator().manual_seed(0))
    assert posterior.logvar is not None
    (reconstruction.square().mean() + posterior.logvar.mean()).backward()
    silent = [name for name, value in vae.named_parameters() if value.grad is None or not value.grad.any()]
    # a constant added to all keys changes no attention
    assert [name for name in silent if not name.endswith("to_k.bias")] == []


def test_sizes_follow_from_the_config() -> None:
    assert build().latent == LatentSpec(16, (1, 8, 8))
    assert build(widths=(8, 8), latent_channels=4).latent == LatentSpec(4, (1, 2, 2))
    assert FluxVaeConfig(weights="random").channels == (128, 256, 512, 512)
    problems = dict(FluxVaeConfig(weights="random", widths=(8, 12), groups=8).check(None))  # type: ignore[arg-type]
    assert "8 normalisation groups do not divide a level of 12" in problems["groups"]
    problems = dict(FluxVaeConfig(weights="random", range=(0.0, 255.0)).check(None))  # type: ignore[arg-type]
    assert "ends at 255.0" in problems["range"]


def test_conformance() -> None:
    check_autoencoder(build(), tolerance=2e-3)


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
    assert "ctgen layout" in caught.value.message and "widths (8, 8, 16, 32)" in caught.value.message
    assert "to_k.bias: file 16, config absent" in caught.value.message and "... and" in caught.value.message
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


def test_files_that_are_no_autoencoder(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"blocks.0.attn.qkv.weight": torch.zeros(2), "pos_embed": torch.zeros(1)}, str(path))
    with pytest.raises(CheckpointError, match=r"none of the layouts(.|\n)*blocks\.0\.attn\.qkv\.weight, pos_embed"):
        build(weights=str(path))
    path.write_text("not a safetensors file", encoding="utf-8")
    with pytest.raises(CheckpointError, match="not a readable safetensors file"):
        build(weights=str(path))
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"holds neither diffusion_pytorch_model\.safetensors nor ae\.safetensors"):
        build(weights=str(tmp_path / "empty"))
    assert flux_vae_weights.layout_of({"encoder.down.0.block.0.norm1.weight": 0}, path) == "bfl"


def test_linear_start_is_a_choice_of_the_config() -> None:
    linear, default = build(architecture="mini", widths=None, start="linear"), build(architecture="mini", widths=None)
    assert linear.state_dict().keys() == default.state_dict().keys()
    torch.manual_seed(0)
    again = FluxVae(FluxVaeConfig(weights="random", architecture="mini"))
    linear_start(again.vae, centre=0.4 * 0.8333)
    assert all(torch.equal(value, linear.state_dict()[key]) for key, value in again.state_dict().items())
