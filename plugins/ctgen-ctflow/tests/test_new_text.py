"""A backbone's whitening turned to another text encoder's vectors: only its buffers change, and bad input is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ctgen_ctflow.new_text import FEWEST, main, turned
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ctgen.data.latents import merge_parts, write_index, write_part
from ctgen.errors import CheckpointError
from ctgen.interfaces import Posterior, TextFeatures
from ctgen.whitening import Whitening


def vectors(count: int = 300) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    told = torch.randn((count, 4), generator=generator)
    return tuple(torch.nn.functional.normalize(told @ torch.randn((4, 8), generator=generator), dim=1) for _ in range(2))


def backbone(old: torch.Tensor) -> dict[str, torch.Tensor]:
    whitening = Whitening(8)
    whitening.fit(old)
    return {
        "other.weight": torch.arange(6.0),
        "y.whitening.mean": whitening.mean,
        "y.whitening.matrix": whitening.matrix,
    }


def cache(folder: Path, found: torch.Tensor, short: torch.Tensor | None = None) -> Path:
    parts = []
    for number, vector in enumerate(found):
        name = f"case{number:04d}"
        text = TextFeatures(vector[None, None], torch.ones((1, 1), dtype=torch.bool), vector[None])
        zeros = torch.zeros(1, 1, 1, 1, 1)
        few = None if short is None else TextFeatures(short[number][None, None], text.mask, short[number][None])
        write_part(folder / "parts" / f"{name}.h5", Posterior(zeros, zeros), text, impressions=few)
        parts.append((name, folder / "parts" / f"{name}.h5"))
    merge_parts(parts, folder / "shards" / "0.h5")
    write_index([(name, "shards/0.h5", name) for name, _ in parts], folder / "latents.h5")
    return folder


def test_only_the_whitening_changes_and_gives_what_it_gave(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = vectors()
    weights, out = backbone(old), tmp_path / "out.safetensors"
    save_file(weights, tmp_path / "in.safetensors", metadata={"kept": "yes"})
    folders = [str(cache(tmp_path / name, found)) for name, found in (("old", old), ("new", new))]
    assert main([str(tmp_path / "in.safetensors"), *folders, str(out)]) == 0
    assert "300 reports" in capsys.readouterr().out
    found = load_file(out)
    with safe_open(out, "pt") as file:
        assert file.metadata() == {"kept": "yes"}
    assert set(found) == set(weights) and torch.equal(found["other.weight"], weights["other.weight"])

    def given(weights: dict[str, torch.Tensor], of: torch.Tensor) -> torch.Tensor:
        return (of - weights["y.whitening.mean"]) @ weights["y.whitening.matrix"]

    wanted = given(weights, old)
    apart = (given(found, new) - wanted).square().mean()
    assert apart < 0.3 * (given(weights, new) - wanted).square().mean()


def test_impressions_in_the_new_cache_are_fitted_to_as_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, _ = vectors()
    short = 0.3 * old + 1.0
    save_file(backbone(old), tmp_path / "in.safetensors")
    folders = [str(cache(tmp_path / "old", old)), str(cache(tmp_path / "new", old, short))]
    assert main([str(tmp_path / "in.safetensors"), *folders, str(tmp_path / "out.safetensors")]) == 0
    assert "fitted to the impressions of 300 as well" in capsys.readouterr().out
    found, before = load_file(tmp_path / "out.safetensors"), backbone(old)

    def size(weights: dict[str, torch.Tensor], of: torch.Tensor) -> float:
        return float(((of - weights["y.whitening.mean"]) @ weights["y.whitening.matrix"]).norm(dim=1).mean())

    assert size(found, short) < 2 * size(found, old) < 0.5 * size(before, short)


def test_what_cannot_be_turned_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = vectors()
    with pytest.raises(CheckpointError, match="found 0"):
        turned({"other.weight": torch.zeros(2)}, old, new)
    with pytest.raises(CheckpointError, match=r"whitening of \(8, 8\)"):
        turned(backbone(old), old[:, :6], new[:, :6])
    save_file(backbone(old), tmp_path / "in.safetensors")
    few = [str(cache(tmp_path / name, found[:5])) for name, found in (("old", old), ("new", new))]
    assert main([str(tmp_path / "in.safetensors"), *few, str(tmp_path / "out.safetensors")]) == 2
    assert f"at least {FEWEST}" in capsys.readouterr().err
    assert not (tmp_path / "out.safetensors").exists()
