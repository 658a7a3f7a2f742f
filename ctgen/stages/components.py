"""Building what a recipe names: seeded, all missing files reported at once, weights put back after training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from ctgen.atomic import sha256_of, stable_hash
from ctgen.errors import CheckpointError, MissingFileError, StageError
from ctgen.interfaces import WeightsInfo
from ctgen.stages.plan import MODULES, trains
from ctgen.stages.processes import joined, world_size

if TYPE_CHECKING:
    from ctgen.recipe import Recipe


@contextmanager
def seeded(*parts: object) -> Iterator[None]:
    """Module initialisers draw from torch's global generator: give them a fixed state, and put the old one back."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stable_hash(*parts))
        yield


def build_components(recipe: Recipe, *, data: bool = True) -> dict[str, Any]:
    """Every component that the recipe's objective needs, by section. All missing files are one error, before any work.

    Without ``data`` the data set is left out: a trained model generates on a machine that has no scans.
    """
    built: dict[str, Any] = {}
    missing: list[MissingFileError] = []
    for section in (*MODULES, "schedule", "rollout"):
        if getattr(recipe, section) is None:
            continue
        try:
            built[section] = build(recipe, section)
        except MissingFileError as error:
            missing.append(error)
    try:
        if data:
            built["data"] = recipe.build("data")
    except MissingFileError as error:
        missing.append(error)
    if missing:
        lines = [f"{error.message}\n  " + error.hint.replace("\n", "\n  ") for error in missing]
        raise MissingFileError("\n".join(lines))
    for section in MODULES:
        if section in built:
            built[section].eval()
    return built


def build(recipe: Recipe, section: str) -> Any:
    """One component. ``train.init`` decides with which weights the trained one starts."""
    context: dict[str, Any] = {}
    use = getattr(recipe, section)
    if section == "backbone":
        sizes = recipe.sizes()
        context = {"latent": sizes.latent, "text": sizes.text}
    trained = section == trains(recipe)
    config = use.config
    if trained and recipe.train.init != "weights" and "weights" in type(config).model_fields:
        config = config.model_copy(update={"weights": "random"})
    # the latent cache does not depend on train.seed, so neither may random weights that are not trained
    with seeded("init", recipe.train.seed if trained else 0, section):
        component = recipe.host.build(use.kind, use.name, config, **context)
    if trained and recipe.train.init not in ("weights", "none"):
        path = checkpoint_file(Path(recipe.train.init))
        restore(component, path)
        component.weights = WeightsInfo("FILE", recipe.train.init, sha256_of(path))
    return component


def checkpoint_file(path: Path) -> Path:
    """The averaged weights in a checkpoint folder, a stage folder, or the file itself."""
    candidates = [path, path / "ema.safetensors", path / "model.safetensors", *sorted(path.glob("final/*.safetensors"))]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise MissingFileError(f"train.init: no weights at {path}", hint="give a checkpoint folder or a .safetensors file")


def restore(component: Any, path: Path) -> None:
    """Put trained weights (and the metadata stored with them) into a component; misfits are one CheckpointError."""
    state = load_file(str(path))
    own = component.state_dict()
    shapes = {key: (_shape(state, key), _shape(own, key)) for key in sorted(state.keys() | own.keys())}
    wrong = [f"{key}: file {there}, here {here}" for key, (there, here) in shapes.items() if there != here]
    if wrong:
        raise CheckpointError(f"{path} does not fit this component; {len(wrong)} differences, first: " + "; ".join(wrong[:4]))
    component.load_state_dict(state)
    with safe_open(str(path), framework="pt") as handle:
        metadata = dict(handle.metadata() or {})
    if hasattr(component, "load_metadata"):
        component.load_metadata(metadata)


def _shape(state: Mapping[str, torch.Tensor], key: str) -> str:
    return str(tuple(state[key].shape)) if key in state else "absent"


def weights_labels(components: Mapping[str, Any]) -> dict[str, str]:
    """Section -> label and source of its weights, for provenance."""
    found: dict[str, str] = {}
    for section in MODULES:
        if section in components:
            weights: WeightsInfo = components[section].weights
            found[section] = f"{weights.label}" + (f" ({weights.source})" if weights.source else "")
    return found


def device() -> torch.device:
    """The accelerator if there is one, else the CPU; under torchrun, this process's."""
    if world_size() > 1:
        found: torch.device = joined().device
        return found
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def require(components: Mapping[str, Any], section: str) -> Any:
    """A component that a stage cannot do without."""
    if section not in components:
        raise StageError(f"this stage needs the recipe section {section!r}", hint=f"add {section}: to the recipe")
    return components[section]
