"""FLUX's autoencoder on CT slices: parity in every layout, the pixel mapping, draws, weights and their errors."""

from __future__ import annotations

import copy
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ctflow_fixtures import tensors
from ctgen_ctflow import flux_vae_pass
from ctgen_ctflow.flux_vae import FluxVae
from ctgen_ctflow.flux_vae_config import FluxVaeConfig
from ctgen_ctflow.linear_start import linear_start
from diffusers import AutoencoderKL
from safetensors.torch import save_file
from torch import Tensor

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


@torch.no_grad()
def test_markers_are_black_and_white() -> None:
    vae = build()
    black, white = vae.marker_hu
    assert black == -1000.0 and white == pytest.approx(1400.1, abs=0.1)
    for hu, pixel in ((black, 0.0), (white, 1.0)):
        assert vae.pixels.to_pixels(torch.tensor(hu)).item() == pytest.approx(pixel, abs=1e-6)
    markers = make_markers(vae, 16, 16)
    plain = vae.vae.encode(torch.ones(1, 3, 16, 16)).latent_dist.mean
    torch.testing.assert_close(markers.end[:, 0], plain[0])
    assert build(range=(-1.0, 1.0)).marker_hu == (-1000.0, 1000.0)


@torch.no_grad()
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_chunks_do_not_change_the_result(precision: str) -> None:
    """Nothing in the network, its norms included, looks beyond one slice."""
    # how a batch is summed up depends on its size and on the processor: up to 3.4e-6 was seen
    rounding = 1e-5
    whole = build(chunk=64, precision=precision)
    volume = scan(depth=5, batch=2)
    posterior = whole.encode(volume)
    decoded = whole.decode(posterior.mean)
    for chunk in ("auto", 1, 2, 3):
        parts = build(chunk=chunk, precision=precision)
        found = parts.encode(volume)
        assert found.logvar is not None and posterior.logvar is not None
        for one, other in ((found.mean, posterior.mean), (found.logvar, posterior.logvar)):
            torch.testing.assert_close(one, other, rtol=0, atol=rounding)
        torch.testing.assert_close(parts.decode(posterior.mean) / 2000, decoded / 2000, rtol=0, atol=rounding)
    alone = whole.encode(volume[1:, :, 2:3])
    torch.testing.assert_close(alone.mean[0, :, 0], posterior.mean[1, :, 2], rtol=0, atol=rounding)


@pytest.mark.parametrize("fields", [{"architecture": "mini", "widths": None}, {"mid_attention": False}, {"layers": 2}])
@pytest.mark.parametrize("count", [1, 3])
def test_float32_is_what_diffusers_computes_bit_for_bit(fields: dict[str, Any], count: int) -> None:
    vae = build(**fields)
    pixels = torch.rand(count, 3, 32, 24, generator=torch.Generator().manual_seed(2))
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        moments = vae.vae.encode(pixels).latent_dist.parameters
        raw = moments[:, :16].contiguous(memory_format=torch.channels_last)
        assert torch.equal(vae.encode_slices(pixels), moments)
        assert torch.equal(vae.decode_slices(raw), vae.vae.decode(raw).sample)
    # with gradients nothing is done in place
    assert torch.equal(vae.encode_slices(pixels), moments)


def psnr(found: Tensor, wanted: Tensor, span: float) -> float:
    return float(20 * torch.log10(span / (found - wanted).square().mean().sqrt()))


@torch.no_grad()
def test_bfloat16_is_near_float32_where_it_matters() -> None:
    """With the shipped weights on smooth images; moments and HU are float32 and not rounded to 8 bits."""
    full, half = (build(architecture="mini", widths=None, weights="mini", precision=name) for name in ("float32", "bfloat16"))
    grid = torch.linspace(-3, 3, 64)
    waves = torch.stack([torch.sin(grid * k)[:, None] * torch.cos(grid * (k + 1)) for k in (1, 2, 3)])
    volume = (600 * waves - 300)[None, None]
    exact, rough = full.encode(volume), half.encode(volume)
    assert rough.logvar is not None and exact.logvar is not None
    assert {value.dtype for value in (rough.mean, rough.logvar, half.decode(rough.mean))} == {torch.float32}
    assert 0 < (rough.mean - exact.mean).std() < 0.03 * exact.mean.std()
    latent = full.finalise(exact, generator=None)
    assert 46 < psnr(half.decode(latent), full.decode(latent), 2000) < 90
    # 8 bits would leave steps of 4 HU and more: some 500 values
    assert half.decode(latent).unique().numel() > 2000
    assert all(parameter.dtype == torch.float32 for parameter in half.parameters())


@torch.no_grad()
def test_doubling_folded_into_the_convolution() -> None:
    conv = torch.nn.Conv2d(6, 5, 3, padding=1)
    x = torch.randn(2, 6, 5, 7, generator=torch.Generator().manual_seed(0))
    wanted = conv(torch.nn.functional.interpolate(x, scale_factor=2.0, mode="nearest"))
    found = torch.empty_like(wanted)
    # the same sums in bfloat16 weights: exact when the weights are small whole numbers
    conv.weight.copy_((conv.weight * 20).round())
    wanted = conv(torch.nn.functional.interpolate(x, scale_factor=2.0, mode="nearest"))
    for index, kernel in enumerate(flux_vae_pass.upsampling_kernels(conv.weight)):
        assert kernel.shape == (5, 6, 2, 2)
        row, column = divmod(index, 2)
        corner = torch.nn.functional.conv2d(x, kernel.float(), conv.bias, padding=1)
        found[:, :, row::2, column::2] = corner[:, :, row : row + 5, column : column + 7]
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_kept_casts_follow_the_weights(tmp_path: Path) -> None:
    """The bfloat16 copies are made anew after an update, a load and a cast; copies of the component start without them."""
    vae, volume = build(precision="bfloat16"), scan()
    with torch.no_grad():
        before = vae.encode(volume).mean
        assert vae.passes.kept._made
        for parameter in vae.parameters():
            parameter.mul_(1.1)
        after = vae.encode(volume).mean
        assert not torch.equal(before, after)
        vae.load_state_dict(build().state_dict())
        assert torch.equal(vae.encode(volume).mean, before)
        twin = copy.deepcopy(vae)
        assert not twin.passes.kept._made and twin.passes.vae is twin.vae
        assert torch.equal(twin.encode(volume).mean, before)
    vae.train()
    assert not vae.passes.kept._made
    vae.encode(volume)
    assert not vae.passes.kept._made


@pytest.mark.parametrize("stored", ["ctgen", "diffusers"])
@torch.no_grad()
def test_other_sizes_agree_with_diffusers(tmp_path: Path, stored: str) -> None:
    """A random checkpoint unlike the fixture: two levels, one image channel, 4 latent channels, no attention."""
    torch.manual_seed(5)
    plain = AutoencoderKL(
        in_channels=1, out_channels=1, down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, block_out_channels=(16, 24), layers_per_block=3, latent_channels=4,
        norm_num_groups=8, use_quant_conv=False, use_post_quant_conv=False, mid_block_add_attention=False,
        scaling_factor=0.7, shift_factor=-0.2,
    ).eval()  # fmt: skip
    for parameter in plain.parameters():
        parameter.add_(0.05 * torch.randn(parameter.shape))
    fields: dict[str, Any] = {"widths": (16, 24), "layers": 3, "latent_channels": 4, "groups": 8, "image_channels": 1}
    fields |= {"mid_attention": False, "range": (-1.0, 1.0)}
    if stored == "diffusers":
        plain.save_pretrained(tmp_path)
        weights = tmp_path
    else:
        weights = tmp_path / "vae.safetensors"
        state = {f"vae.{key}": value.contiguous() for key, value in plain.state_dict().items()}
        save_file(state, str(weights), metadata={"scale": "0.7", "shift": "-0.2"})
    vae = FluxVae(FluxVaeConfig(weights=str(weights), **fields)).eval()
    assert (vae.scale, vae.shift) == (0.7, -0.2)
    volume = scan(depth=2, size=20, batch=2)
    distribution = plain.encode((volume / 1000).transpose(1, 2).flatten(0, 1)).latent_dist
    posterior = vae.encode(volume)
    assert posterior.logvar is not None
    close(posterior.mean.transpose(1, 2).flatten(0, 1), distribution.mean)
    close(posterior.logvar.transpose(1, 2).flatten(0, 1), distribution.logvar)
    latent = vae.finalise(posterior, generator=None)
    torch.testing.assert_close(latent, (posterior.mean + 0.2) * 0.7)
    close(vae.decode(latent).transpose(1, 2).flatten(0, 1) / 1000, plain.decode(distribution.mean).sample)


def test_decode_undoes_finalise(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    vae = build(scale=0.7, shift=-0.3)
    monkeypatch.setattr(vae, "decode_slices", lambda raw: seen.append(raw) or raw.new_zeros(len(raw), 3, 16, 16))
    mean = torch.randn(2, 16, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    latent = vae.finalise(Posterior(mean, None), generator=torch.Generator())
    torch.testing.assert_close(latent, (mean + 0.3) * 0.7)
    vae.decode(latent)
    torch.testing.assert_close(torch.cat(seen), mean.transpose(1, 2).flatten(0, 1))


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


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_loss_reaches_every_parameter(precision: str) -> None:
    vae = build(precision=precision).train()
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


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_conformance(precision: str) -> None:
    check_autoencoder(build(precision=precision), tolerance=2e-3)


def test_linear_start_is_a_choice_of_the_config() -> None:
    linear, default = build(architecture="mini", widths=None, start="linear"), build(architecture="mini", widths=None)
    assert linear.state_dict().keys() == default.state_dict().keys()
    torch.manual_seed(0)
    again = FluxVae(FluxVaeConfig(weights="random", architecture="mini"))
    linear_start(again.vae, centre=0.4 * 0.8333)
    assert all(torch.equal(value, linear.state_dict()[key]) for key, value in again.state_dict().items())
