"""Opening a run whose model is trained, to generate with it: the scans that it was trained on need not be there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctgen.atomic import read_json
from ctgen.errors import RecipeError, StageError
from ctgen.recipe import load_recipe
from ctgen.stages.components import build_components
from ctgen.stages.context import Context
from ctgen.stages.plan import DONE, same_model, trains

if TYPE_CHECKING:
    from ctgen.console import Console
    from ctgen.recipe import Recipe


def is_train_folder(folder: Path) -> bool:
    """Whether ``folder`` is a finished train stage's."""
    return (folder / DONE).is_file() and read_json(folder / DONE)["stage"] == "train"


def open_run(recipe: Recipe, run_dir: Path, console: Console, *, train_folder: Path | None = None) -> Context:
    """Components without the data set, and the folder of the model: ``train_folder``, or the newest in ``run_dir`` that fits.

    Raises StageError with the next command if the recipe's train stage is not finished there.
    """
    folder = train_folder or _newest(recipe, run_dir)
    if folder is None:
        others = [path.name for path in sorted(run_dir.glob("train-*")) if is_train_folder(path)]
        hint = f"run: ctgen run {recipe.source} --run-dir {run_dir}"
        if others:
            hint += f"\nor generate with a model trained by another recipe: {', '.join(str(run_dir / name) for name in others)}"
        raise StageError(f"the train stage of {run_dir} is not finished with this recipe", hint=hint)
    components = build_components(recipe, data=False)
    _check_neighbours(components, folder, trains(recipe))
    return Context(recipe, run_dir, console, components, folders={"train": folder})


def _newest(recipe: Recipe, run_dir: Path) -> Path | None:
    done = sorted(
        (path for path in run_dir.glob("train-*") if is_train_folder(path)), key=lambda path: (path / DONE).stat().st_mtime_ns
    )
    for folder in reversed(done):
        try:
            if same_model(load_recipe(folder / "recipe.yaml", host=recipe.host), recipe):
                return folder
        except RecipeError:
            # a recipe of another version of ctgen or of a plugin that is gone is not this one
            continue
    return None


def _check_neighbours(components: dict[str, Any], folder: Path, trained: str) -> None:
    """StageError if a network that was not trained has other weights now than when the model was trained beside it."""
    then = read_json(folder / "summary.json").get("beside", {})
    changed = [name for name, hash_then in then.items() if components[name].weights.sha256 != hash_then]
    if changed:
        raise StageError(
            f"the weights of {', '.join(changed)} have changed since {folder} trained the {trained}",
            hint="put the old weights back, or train again: ctgen run RECIPE",
        )
