"""The mean of several files of weights: its numbers, what it says of its origin, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from typer.testing import CliRunner

from ctgen.atomic import sha256_of
from ctgen.commands.weights import app
from ctgen.errors import CheckpointError, ConfigError, CtgenError
from ctgen.weights_average import average_weights

A = {"w": torch.tensor([1.0, 2.0]), "steps": torch.tensor(7)}
B = {"w": torch.tensor([3.0, -2.0]), "steps": torch.tensor(7)}


def stored(path: Path, state: dict[str, Tensor], **metadata: str) -> Path:
    save_file(state, str(path), metadata={"format": "pt", **metadata})
    return path


def said(path: Path) -> dict[str, str]:
    with safe_open(str(path), framework="pt") as handle:
        return dict(handle.metadata())


def test_the_mean_and_where_it_comes_from(tmp_path: Path) -> None:
    a = stored(tmp_path / "a.safetensors", A, recipe="first", net="4 layers", component='{"heads": 4, "transpose": "auto"}')
    b = stored(tmp_path / "b.safetensors", B, recipe="second", net="4 layers", component='{"heads": 4, "transpose": "yes"}')
    out = tmp_path / "mean.safetensors"
    assert average_weights([a, b], out) == [0.5, 0.5]
    mean = load_file(out)
    assert mean["w"].tolist() == [2.0, 0.0] and mean["steps"].item() == 7
    metadata = said(out)
    assert metadata["recipe"] == "first + second" and metadata["net"] == "4 layers"
    assert json.loads(metadata["component"]) == {"heads": 4}
    assert json.loads(metadata["averaged"]) == [{"sha256": sha256_of(path), "share": 0.5} for path in (a, b)]
    average_weights([a, b], tmp_path / "again.safetensors")
    assert sha256_of(tmp_path / "again.safetensors") == sha256_of(out)


def test_configs_that_differ_are_refused(tmp_path: Path) -> None:
    """As two autoencoders with other norm groups: every tensor fits, and the mean means nothing."""
    a = stored(tmp_path / "a.safetensors", A, component='{"groups": 4, "new": 1}')
    for told, why in (('{"groups": 8}', "their configs say groups: 4, 8"), ("groups", "not as JSON"), ("[4]", "a JSON object")):
        b = stored(tmp_path / "b.safetensors", B, component=told)
        with pytest.raises(CheckpointError, match=why):
            average_weights([a, b], tmp_path / "mean.safetensors")
    b = stored(tmp_path / "b.safetensors", B, component='{"groups": 4}')
    average_weights([a, b], tmp_path / "mean.safetensors")
    assert json.loads(said(tmp_path / "mean.safetensors")["component"]) == {"groups": 4}


def test_shares_precision_and_folders(tmp_path: Path) -> None:
    folder = tmp_path / "final"
    folder.mkdir()
    stored(folder / "backbone.safetensors", {"w": torch.tensor([4.0])})
    half = stored(tmp_path / "half.safetensors", {"w": torch.tensor([8.0], dtype=torch.bfloat16)})
    assert average_weights([half, folder], tmp_path / "mean.safetensors", shares=[3, 1]) == [0.75, 0.25]
    mean = load_file(tmp_path / "mean.safetensors")["w"]
    assert mean.tolist() == [7.0] and mean.dtype == torch.bfloat16


def test_an_average_of_equals_is_the_same(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    state = {"w": torch.randn(50, 7, generator=generator).half(), "b": torch.randn(5, generator=generator)}
    files = [stored(tmp_path / f"{name}.safetensors", state) for name in "abc"]
    average_weights(files, tmp_path / "mean.safetensors")
    mean = load_file(tmp_path / "mean.safetensors")
    assert all(torch.equal(mean[name], state[name]) for name in state)


@pytest.mark.parametrize(
    ("other", "metadata", "why"),
    [
        ({"w": torch.zeros(3), "steps": torch.tensor(7)}, {}, "not of one network:\n  w: 2 and 3"),
        ({"w": torch.zeros(2)}, {}, "steps: a number and absent"),
        ({**B, "extra": torch.zeros(1)}, {}, "extra: absent and 1"),
        ({**B, "steps": torch.tensor(8)}, {}, "steps holds torch.int64, which cannot be averaged"),
        (B, {"scale": "0.3"}, "do not say the same of 'scale'"),
        ({**B, "w": torch.tensor([float("nan"), 0.0])}, {}, "the average of w is not finite"),
    ],
)
def test_what_is_not_of_one_network_is_refused(
    tmp_path: Path, other: dict[str, Tensor], metadata: dict[str, str], why: str
) -> None:
    a, b = stored(tmp_path / "a.safetensors", A), stored(tmp_path / "b.safetensors", other, **metadata)
    with pytest.raises(CheckpointError) as caught:
        average_weights([a, b], tmp_path / "mean.safetensors")
    assert why in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "b.safetensors"]


def test_wrong_calls(tmp_path: Path) -> None:
    a, b = stored(tmp_path / "a.safetensors", A), stored(tmp_path / "b.safetensors", B)
    for paths, out, shares, why in (
        ([a], "m.safetensors", None, "two files or more"),
        ([a, b], "m.pt", None, "ends in .safetensors"),
        ([a, b], "b.safetensors", None, "exists already"),
        ([a, b], "m.safetensors", [1.0], "1 shares for 2 files"),
        ([a, b], "m.safetensors", [1.0, 0.0], "must be positive"),
        ([a, b], "m.safetensors", [1.0, float("nan")], "must be positive"),
    ):
        with pytest.raises(ConfigError, match=why):
            average_weights(paths, tmp_path / out, shares=shares)
    pickled = tmp_path / "c.pt"
    torch.save(A, pickled)
    with pytest.raises(CheckpointError, match="is no safetensors file"):
        average_weights([a, pickled], tmp_path / "m.safetensors")


def test_the_command(tmp_path: Path) -> None:
    a, b = stored(tmp_path / "a.safetensors", A), stored(tmp_path / "b.safetensors", B)
    out = tmp_path / "mean.safetensors"
    done = CliRunner().invoke(app, ["average", str(a), str(b), "--shares", "3,1", "-o", str(out)])
    assert done.exit_code == 0 and done.output.splitlines() == [
        f"wrote {out}, an average:", f"  0.75 of {a}", f"  0.25 of {b}",
    ]  # fmt: skip
    assert load_file(out)["w"].tolist() == [1.5, 1.0]
    wrong = CliRunner().invoke(app, ["average", str(a), str(b), "--shares", "three", "-o", str(tmp_path / "m.safetensors")])
    assert isinstance(wrong.exception, CtgenError) and "not numbers with commas" in str(wrong.exception)
