"""``ctgen weights inspect`` by the installed program: every kind of checkpoint, what it is, and what loads it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from ctflow_fixtures import LATENT, TEXT, awake, tiny_stdit
from ctgen_ctflow import stdit_weights
from ctgen_ctflow.configs import StditConfig
from ctgen_ctflow.stdit import Stdit
from safetensors.torch import save_file

from ctgen.atomic import sha256_of
from ctgen.train.checkpoint import write_checkpoint

WATCHED = """
import atexit, sys
atexit.register(lambda: print("torch" if "torch" in sys.modules else "light", file=sys.stderr))
from ctgen.cli import main
main()
"""
MINI = Path(stdit_weights.__file__).parent / "weights" / "mini"


def ctgen(*words: object, code: int = 0) -> tuple[str, list[str]]:
    done = subprocess.run([sys.executable, "-c", WATCHED, *map(str, words)], capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout, done.stderr.splitlines()


def inspect(path: Path) -> dict[str, Any]:
    out, _ = ctgen("weights", "inspect", path, "--json")
    facts: dict[str, Any] = json.loads(out)
    return facts


def build_from(out: str) -> Stdit:
    """What the printed recipe lines make."""
    fields = yaml.safe_load(out[out.index("  backbone:") :])["backbone"]
    assert fields.pop("use") == "stdit"
    return Stdit(StditConfig.model_validate(fields), latent=LATENT, text=TEXT)


def test_both_layouts_of_stdit_are_told_and_their_recipe_lines_load_them(tmp_path: Path) -> None:
    model = awake(tiny_stdit(attention_transpose="released"))
    stdit_weights.save_released_layout(model, tmp_path / "denoiser_ema", (4, 4, 4))
    settings = json.loads((tmp_path / "denoiser_ema" / "config.json").read_text())
    del settings["attention_transpose"]
    settings |= {"decay": 0.9999, "optimization_step": 680000, "power": 2 / 3, "min_decay": 0.0, "inv_gamma": 1.0}
    (tmp_path / "denoiser_ema" / "config.json").write_text(json.dumps(settings))
    ours = awake(tiny_stdit(skip="wiener", latent_std=(2.0,), time_factor=1000.0, position_input=True, mlp_ratio=2.0))
    stdit_weights.save(ours, tmp_path / "ours.safetensors")
    out, said = ctgen("weights", "inspect", tmp_path / "denoiser_ema")
    assert said[-1] == "light", "a look at a header imports no torch"
    assert "STDiT in CTFlow's released layout" in out and "trained without the head transpose" in out
    assert f"{sum(parameter.numel() for parameter in model.parameters()):,}" in out
    assert sha256_of(tmp_path / "denoiser_ema" / "diffusion_pytorch_model.safetensors") in out
    assert build_from(out).heads_layout == "released"
    out, _ = ctgen("weights", "inspect", tmp_path / "ours.safetensors")
    assert "STDiT in ctgen's layout" in out and "correct (the file says so)" in out
    again = build_from(out)
    assert again.config == StditConfig.model_validate(
        {**ours.config.model_dump(), "weights": str(tmp_path / "ours.safetensors")}
    )


def test_the_papers_sizes_are_named(tmp_path: Path) -> None:
    with torch.device("meta"):
        large = Stdit(StditConfig(size="L"), latent=LATENT, text=TEXT)
    # The shapes of size L with the data of a file of 2 GiB left out would be refused; one byte per value is enough of it.
    tensors = {f"model.{name}": value for name, value in large.state_dict().items()}
    header, end = {}, 0
    for name, value in tensors.items():
        header[name] = {"dtype": "U8", "shape": list(value.shape), "data_offsets": [end, end + value.numel()]}
        end += value.numel()
    text = json.dumps(header).encode()
    with (tmp_path / "diffusion_pytorch_model.safetensors").open("wb") as handle:
        handle.write(len(text).to_bytes(8, "little") + text)
        handle.truncate(8 + len(text) + end)  # a hole: takes no room on the disk
    (tmp_path / "config.json").write_text(json.dumps({"num_heads": 16, "depth": 24, "hidden_size": 1024}))
    out, _ = ctgen("weights", "inspect", tmp_path)
    assert "24 x 1024, 16 (size L)" in out and "    size: L\n" in out + "\n" and "    layers" not in out


def test_a_training_checkpoint(tmp_path: Path) -> None:
    model = tiny_stdit()
    spec = {"trains": "backbone", "component": {"use": "ctflow:stdit", **model.config.identity()}}
    states = {"model": model.state_dict(), "ema": model.state_dict()}
    done = write_checkpoint(tmp_path, 40, weights=states, state={}, loop={}, spec=spec)
    facts = inspect(done.folder)
    assert facts["checkpoint"]["step"] == 40 and facts["checkpoint"]["trains"] == "backbone"
    assert facts["file"].endswith("ema.safetensors") and facts["other_files"][0].endswith("model.safetensors")
    (load,) = facts["known"][0]["loads"]
    assert load["backbone"]["heads"] == 4 and "spec.json says so" in facts["known"][0]["spec"]["head layout"]
    out, _ = ctgen("weights", "inspect", done.folder)
    assert "checkpoint of ctgen after 40 steps, trains backbone" in out


@pytest.mark.parametrize(
    ("file", "kind", "section", "use"),
    [
        ("stdit.safetensors", "STDiT in ctgen's layout", "backbone", "stdit"),
        ("flux-vae.safetensors", "FLUX autoencoder in ctgen's layout", "autoencoder", "flux-vae"),
        ("ct_clip_pair.safetensors", "CT-CLIP, both towers", "text_encoder", "ct-clip"),
    ],
)
def test_shipped_weights(file: str, kind: str, section: str, use: str) -> None:
    facts = inspect(MINI / file)
    assert [one["kind"] for one in facts["known"]] == [kind] and facts["metadata"]["recipe"].startswith("mini-")
    (load,) = facts["known"][0]["loads"]
    assert load[section]["use"] == use and load[section]["weights"] == "mini"


@pytest.mark.parametrize(
    ("place", "kind", "spec"),
    [
        ("ctflow-stdit/denoiser_ema", "STDiT in CTFlow's released layout", ("layers x width, heads", "3 x 64, 4")),
        ("flux-vae-bfl/ae.safetensors", "FLUX autoencoder in BFL's layout", ("norm groups", 32)),
        ("flux-vae-bfl/diffusers_vae", "FLUX autoencoder in diffusers' layout", ("latent scale, shift", "0.3611, 0.1159")),
        ("ct-clip/CT-CLIP_tiny.pt", "CT-CLIP, both towers", ("latent width", 24)),
    ],
)
def test_published_layouts(place: str, kind: str, spec: tuple[str, object], shared_folder: Path) -> None:
    (known,) = inspect(shared_folder / "fixtures" / place)["known"]
    assert known["kind"] == kind and known["spec"][spec[0]] == spec[1] and known["plugin"] == "ctflow"


def test_files_that_nobody_knows_and_files_that_are_damaged(tmp_path: Path) -> None:
    save_file({"one\x1b[31m": torch.zeros(2)}, tmp_path / "w.safetensors")
    out, _ = ctgen("weights", "inspect", tmp_path / "w.safetensors")
    assert "no installed plugin knows these tensors" in out and "one\\x1b[31m 2 F32" in out and "\x1b" not in out
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "w.safetensors").read_bytes()[:-3])
    _, said = ctgen("weights", "inspect", tmp_path / "cut.safetensors", code=2)
    assert said[0].startswith("error: ") and "cut short?" in said[0] and len(said) == 2
    _, said = ctgen("weights", "inspect", tmp_path / "absent", code=2)
    assert "no such file or folder" in said[0]
    stdit_weights.save_released_layout(tiny_stdit(), tmp_path / "r", (4, 4, 4))
    (tmp_path / "r" / "config.json").unlink()
    out, _ = ctgen("weights", "inspect", tmp_path / "r")
    assert "damaged" in out and "config.json is missing" in out


@torch.no_grad()
def test_export_writes_the_published_folder(tmp_path: Path) -> None:
    """A finished train stage, as stages leave it, becomes a folder that loads and gives the same numbers."""
    stage = tmp_path / "run" / "train-12345678"
    (stage / "final").mkdir(parents=True)
    text = f"data: {{use: folder, root: {tmp_path}}}\nautoencoder: {{use: flux-vae, architecture: mini, weights: random}}\n"
    text += "text_encoder: {use: ct-clip, layers: 1, width: 48, heads: 4, feed_forward: 48, max_tokens: 16, weights: random}\n"
    text += "backbone: {use: stdit, layers: 2, width: 32, heads: 4}\nschedule: flow-matching\n"
    text += "rollout: {use: slice-blocks, block: 4}\nobjective: latent-flow\nprepare: {size: [16, 64, 64]}\n"
    (stage / "recipe.yaml").write_text(text)
    (stage / "stage.json").write_text(json.dumps({"stage": "train", "fingerprint": "12345678"}))
    trained = awake(tiny_stdit())
    save_file(trained.state_dict(), stage / "final" / "backbone.safetensors", trained.file_metadata())
    out, _ = ctgen("weights", "export", tmp_path / "run", tmp_path / "denoiser_ema")
    assert out == f"wrote {tmp_path / 'denoiser_ema'}\n"
    settings = json.loads((tmp_path / "denoiser_ema" / "config.json").read_text())
    assert settings["input_size"] == [4, 8, 8] and settings["attention_transpose"] == "correct"
    again = tiny_stdit(weights=str(tmp_path / "denoiser_ema"))
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in trained.state_dict().items())
    _, said = ctgen("weights", "export", stage, tmp_path / "denoiser_ema", code=2)
    assert "exists already" in said[0]
    _, said = ctgen("weights", "export", tmp_path, tmp_path / "other", code=2)
    assert "holds no finished train stage" in said[0]
