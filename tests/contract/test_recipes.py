"""Every recipe of the repository is valid, and says what it needs before it does any work."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ctgen.recipe import load_recipe

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted((ROOT / "recipes").rglob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: str(path.relative_to(ROOT)))
def test_is_valid_and_repeats_itself(path: Path, tmp_path: Path) -> None:
    recipe = load_recipe(path)
    resolved = tmp_path / "resolved.yaml"
    resolved.write_text(recipe.to_yaml(), encoding="utf-8")
    assert load_recipe(resolved) == recipe


def test_all_recipes_were_found() -> None:
    assert {"ctflow.yaml", "ctflow-ct-rate.yaml", "vae.yaml", "clip.yaml", "backbone.yaml"} <= {path.name for path in RECIPES}


def test_the_full_scale_stops_before_any_work(tmp_path: Path) -> None:
    """Without its files it names every one that is missing, where it looked and how to get it, and writes nothing."""
    recipe = ROOT / "recipes" / "ctflow-ct-rate.yaml"
    command = [sys.executable, "-m", "ctgen", "run", str(recipe), "--run-dir", str(tmp_path / "run")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2, done.stderr
    for needed in ("flux-vae", "ct-clip", "dataset", "hf download", str(tmp_path / "checkpoints"), "CT-RATE"):
        assert needed in done.stderr, f"{needed!r} is not in:\n{done.stderr}"
    assert not (tmp_path / "run").exists()
