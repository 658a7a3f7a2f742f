"""A recipe whose whole run takes a second, over phantoms on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ctgen.console import Console
from ctgen.host import Host
from ctgen.recipe import Recipe, load_recipe
from ctgen.testing import phantom
from ctgen.volume.io import write_volume

RECIPE = """
name: tiny
data: {use: folder, root: SCANS, default_report: "Normal chest.", valid_fraction: 0.4}
prepare: {size: [8, 16, 16], spacing_mm: [20, 20, 20], min_depth_mm: 100}
autoencoder: {use: tiny-ae, cell: 8, channels: 4}
text_encoder: {use: hash-text, width: 8, max_tokens: 16}
backbone: {use: tiny-conv, width: 4, layers: 1}
schedule: flow-matching
rollout: {use: slice-blocks, block: 4}
objective: latent-flow
train: {steps: 4, lr: 1e-3, batch: 2, checkpoint_every: 2, log_every: 1, warmup_steps: 0}
sample: {steps: 2, count: 2}
metrics: [reconstruction, hu-histogram, continuity, cost]
report: {slices: 2}
"""


def write_scans(folder: Path, count: int = 4) -> Path:
    for index in range(count):
        write_volume(phantom((16, 32, 32), (10.0, 10.0, 10.0), seed=index), folder / f"scan{index}.nii.gz")
    return folder


def write_recipe(root: Path, text: str = RECIPE, count: int = 4) -> Path:
    """``root``/recipe.yaml over ``count`` phantoms in ``root``/scans."""
    write_scans(root / "scans", count)
    path = root / "recipe.yaml"
    path.write_text(text.replace("SCANS", str(root / "scans")), encoding="utf-8")
    return path


def load(path: Path, *overrides: str, host: Host | None = None) -> Recipe:
    return load_recipe(path, overrides, host=host)


class Said(Console):
    """A console that keeps every line."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def say(self, text: str = "") -> None:
        self.lines.append(text)

    result = warn = say

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file below ``folder`` with its bytes and its time of change."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def stage_folder(run_dir: Path, stage: str) -> Path:
    """The one folder of a stage."""
    (found,) = run_dir.glob(f"{stage}-*")
    return found


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
