"""Weights as they are shipped: half precision, told where they come from, and loaded again by their component."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from ctgen_ctflow import ship_weights
from ctgen_ctflow.ship_weights import ship
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from ctgen.atomic import sha256_of, write_json
from ctgen.errors import CheckpointError, ConfigError, StageError
from ctgen.recipe import Recipe, load_recipe

VAE = """\
name: small-vae
data: {use: atlas-thorax, cases: 3, seed: 5}
autoencoder: {use: flux-vae, architecture: mini, widths: [8, 8, 16, 16], weights: random}
objective: {use: a-vae, crop: 32}
train: {steps: 30, batch: 2, accumulate: 2, seed: 7}
"""
TEXT = """\
name: small-text
data: {use: atlas-thorax, cases: 3, seed: 5}
text_encoder: {use: ct-clip, layers: 1, width: 32, heads: 2, feed_forward: 48, max_tokens: 64, weights: random}
objective: report-labels
train: {steps: 30}
"""
WHOLE = """\
extends: preset:ctflow
name: small-dit
data: {use: atlas-thorax, cases: 3, seed: 5}
autoencoder: {weights: random}
text_encoder: {use: ct-clip, layers: 1, width: 32, heads: 2, feed_forward: 48, max_tokens: 64, weights: random}
backbone: {use: stdit, layers: 1, width: 32, heads: 4, weights: random}
train: {steps: 30}
"""


def build(recipe: Recipe, section: str, weights: str) -> nn.Module:
    use, sizes = getattr(recipe, section), recipe.sizes()
    context = {"latent": sizes.latent, "text": sizes.text} if section == "backbone" else {}
    torch.manual_seed(3)
    component: nn.Module = recipe.host.build(use.kind, use.name, use.config.model_copy(update={"weights": weights}), **context)
    return component


def train_stage(folder: Path, text: str, **metadata: str) -> tuple[Path, Recipe, dict[str, torch.Tensor]]:
    """A finished train stage as ctgen leaves it, without training; its recipe and the weights in it."""
    source = folder / "recipe-source.yaml"
    source.write_text(text, encoding="utf-8")
    recipe = load_recipe(source)
    section = recipe.objective.config.trains  # type: ignore[attr-defined]
    stage = folder / "train-0123abcd"
    (stage / "final").mkdir(parents=True)
    weights = stage / "final" / f"{section}.safetensors"
    state = {key: value.contiguous() for key, value in build(recipe, section, "random").state_dict().items()}
    save_file(state, str(weights), metadata=metadata or None)
    (stage / "recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
    rows: list[dict[str, float]] = [{"step": step, "loss": 1 / step, "lr": 1e-3, "seconds": step} for step in range(1, 30)]
    rows += [{"step": 30, "loss": 0.125, "psnr": 31.5, "lr": 1e-3, "seconds": 30}]
    (stage / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    summary: dict[str, Any] = {"trains": section, "steps": 30, "loss": 0.125, "seconds": 754.0, "started_from": "RANDOM"}
    summary |= {"weights_sha256": sha256_of(weights), **metadata}
    write_json(stage / "summary.json", summary)
    write_json(stage / "stage.json", {"stage": "train", "fingerprint": "0123abcd4567", "seconds": 760.0, "summary": summary})
    return stage, recipe, state


@pytest.mark.parametrize(("dtype", "digits"), [("float16", 11), ("bfloat16", 8)])
def test_rounded_weights_load_and_keep_scale_and_shift(tmp_path: Path, dtype: str, digits: int) -> None:
    stage, recipe, state = train_stage(tmp_path, VAE, scale="1.25", shift="-0.5")
    target = tmp_path / "out" / "flux-vae.safetensors"
    shipped = ship(stage, target, hardware="2 cores", dtype=dtype)
    stored = load_file(str(target))
    assert {value.dtype for value in stored.values()} == {ship_weights.DTYPES[dtype]}
    errors = {key: (stored[key].double() - state[key].double()).abs().max().item() for key in state}
    assert shipped.error == max(errors.values()) == errors[shipped.where] > 0
    assert shipped.relative_error < 2.0**-digits
    assert shipped.bytes == target.stat().st_size < 0.6 * (stage / "final" / "autoencoder.safetensors").stat().st_size
    loaded = build(recipe, "autoencoder", str(target))
    assert (loaded.scale, loaded.shift) == (1.25, -0.5)
    assert all(torch.equal(value, stored[key].float()) for key, value in loaded.state_dict().items())
    assert {value.dtype for value in loaded.state_dict().values()} == {torch.float32}
    assert sorted(path.name for path in target.parent.iterdir()) == ["flux-vae.md", "flux-vae.safetensors"]


def test_the_file_says_where_it_comes_from(tmp_path: Path) -> None:
    stage, _, _ = train_stage(tmp_path, VAE, scale="1.25", shift="-0.5")
    target = tmp_path / "flux-vae.safetensors"
    ship(stage, target, hardware="2 cores")
    with safe_open(str(target), framework="pt") as handle:
        metadata = handle.metadata()
    assert metadata["scale"] == "1.25" and metadata["shift"] == "-0.5"
    assert metadata["source_sha256"] == sha256_of(stage / "final" / "autoencoder.safetensors")
    assert metadata["steps"] == "30" and metadata["seed"] == "7" and metadata["recipe"] == "small-vae"
    assert len(metadata["recipe_hash"]) == 16 and metadata["ctgen"]
    assert json.loads(metadata["component"])["widths"] == [8, 8, 16, 16]


def test_the_card_tells_how_it_was_trained(tmp_path: Path) -> None:
    stage, _, _ = train_stage(tmp_path, VAE, scale="1.25", shift="-0.5")
    target = tmp_path / "flux-vae.safetensors"
    ship(stage, target, hardware="2 cores of a kind", notes=["PSNR 33 dB"])
    card = target.with_suffix(".md").read_text(encoding="utf-8")
    for words in (
        "small-vae", "30 x 4", "13 min", "2 cores of a kind", "PSNR 33 dB", "LIDC-IDRI-0001", "Attribution 3.0",
        "cases 3, seed 5", "loss 0.125, psnr 31.5", "Not for diagnosis", "crop: 32",
    ):  # fmt: skip
        assert words in card, words
    assert str(tmp_path) not in card
    curve = [line for line in card.splitlines() if line.startswith("| ") and line[2].isdigit()]
    assert len(curve) == 10 and curve[0].startswith("| 1 | 1 |") and curve[-1] == "| 30 | 0.125 | 31.5 |"


def test_text_encoder_and_backbone_load_what_was_stored(tmp_path: Path) -> None:
    for name, text, section in (("text", TEXT, "text_encoder"), ("dit", WHOLE, "backbone")):
        (tmp_path / name).mkdir()
        stage, recipe, state = train_stage(tmp_path / name, text)
        target = tmp_path / f"{name}.safetensors"
        ship(stage, target, hardware="2 cores")
        loaded = build(recipe, section, str(target)).state_dict()
        assert loaded.keys() == state.keys()
        for key, value in loaded.items():
            torch.testing.assert_close(value, state[key], rtol=2**-10, atol=1e-7, msg=key)


def test_a_shipped_backbone_refuses_another_number_of_heads(tmp_path: Path) -> None:
    stage, _, _ = train_stage(tmp_path, WHOLE)
    target = tmp_path / "stdit.safetensors"
    ship(stage, target, hardware="2 cores")
    other = tmp_path / "other.yaml"
    other.write_text(WHOLE.replace("heads: 4, weights: random}\n", f"heads: 2, weights: {target}}}\n"), encoding="utf-8")
    with pytest.raises(CheckpointError, match="heads: checkpoint 4, config 2"):
        build(load_recipe(other), "backbone", str(target))


def test_integers_and_buffers_stay_as_they_are() -> None:
    module = nn.BatchNorm1d(3)
    module.running_mean.fill_(1 / 3)  # type: ignore[union-attr]
    halved, *_ = ship_weights._halved(dict(module.state_dict()), module, torch.float16)
    assert halved["weight"].dtype == torch.float16
    assert halved["running_mean"].dtype == torch.float32 and halved["num_batches_tracked"].dtype == torch.int64


def test_what_half_precision_cannot_hold_is_an_error() -> None:
    module = nn.Linear(2, 1)
    with torch.no_grad():
        module.weight.fill_(1e5)
    with pytest.raises(CheckpointError, match=r"weight holds 1e\+05.*\n.*bfloat16"):
        ship_weights._halved(dict(module.state_dict()), module, torch.float16)
    assert ship_weights._halved(dict(module.state_dict()), module, torch.bfloat16)[3] < 0.01


def test_only_finished_unchanged_train_stages_are_shipped(tmp_path: Path) -> None:
    stage, _, state = train_stage(tmp_path, VAE)
    target = tmp_path / "out.safetensors"
    with pytest.raises(ConfigError, match="ends in"):
        ship(stage, tmp_path / "out.pt", hardware="")
    save_file({key: value + 1 for key, value in state.items()}, str(stage / "final" / "autoencoder.safetensors"))
    with pytest.raises(CheckpointError, match="has changed"):
        ship(stage, target, hardware="")
    (stage / "stage.json").unlink()
    with pytest.raises(StageError, match="not a finished train stage"):
        ship(stage, target, hardware="")
    assert not target.exists() and not target.with_suffix(".md").exists()


def test_the_named_recipe_must_be_the_one_that_was_trained(tmp_path: Path) -> None:
    stage, _, _ = train_stage(tmp_path, VAE)
    named, target = tmp_path / "recipe-source.yaml", tmp_path / "out.safetensors"
    ship(stage, target, hardware="", recipe_path=named)
    named.write_text(VAE.replace("batch: 2", "batch: 3"), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"train\.batch: trained with 2, recipe says 3"):
        ship(stage, target, hardware="", recipe_path=named)


def test_unknown_data_needs_its_licence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage, _, _ = train_stage(
        tmp_path, VAE.replace("{use: atlas-thorax, cases: 3, seed: 5}", f"{{use: folder, root: {tmp_path}}}")
    )
    arguments = [str(stage), str(tmp_path / "out.safetensors"), "--hardware", "2 cores"]
    with pytest.raises(SystemExit, match="--attribution"):
        ship_weights.main(arguments)
    ship_weights.main([*arguments, "--attribution", "scans of my own"])
    assert "largest rounding error" in capsys.readouterr().out
    assert "scans of my own" in (tmp_path / "out.md").read_text(encoding="utf-8")
