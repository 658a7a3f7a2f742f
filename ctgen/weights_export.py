"""``ctgen weights export``: trained weights in the layout in which others publish the same network."""

from __future__ import annotations

from pathlib import Path

from ctgen.errors import ConfigError, StageError
from ctgen.recipe import load_recipe
from ctgen.stages.components import build, restore
from ctgen.stages.opening import is_train_folder
from ctgen.stages.plan import DONE, trains
from ctgen.stages.train import weights_file


def export_run(run: Path, out: Path) -> Path:
    """Write the averaged weights of a finished train stage to the new folder ``out``; returns it.

    The component does the writing: ``save_released_layout(folder, sizes)``. StageError: nothing is trained in ``run``;
    ConfigError: ``out`` is not empty, or the component or its config has no public layout.
    """
    folder = run if is_train_folder(run) else _newest(run)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} exists already", hint="name a new folder")
    recipe = load_recipe(folder / "recipe.yaml")
    section = trains(recipe)
    component = build(recipe, section)
    if not hasattr(component, "save_released_layout"):
        raise ConfigError(
            f"{section} {getattr(recipe, section).name!r} has no public layout",
            hint=f"its weights are the safetensors file {weights_file(folder, section)}",
        )
    restore(component, weights_file(folder, section))
    component.save_released_layout(out, recipe.sizes())
    return out


def _newest(run: Path) -> Path:
    found = [path for path in run.glob("train-*") if is_train_folder(path)]
    if not found:
        raise StageError(f"{run} holds no finished train stage", hint="give a run folder, or a folder train-... in it")
    return max(found, key=lambda path: (path / DONE).stat().st_mtime_ns)
