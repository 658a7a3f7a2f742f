"""Stores what a finished train stage made as small weights with a model card.

    python -m ctgen_ctflow.ship_weights RUN/train-xxxxxxxx TARGET.safetensors --hardware "2 CPU cores" [--dtype bfloat16]

Parameters go to half precision; integers, booleans and buffers stay as they are. The file keeps the metadata that training
stored with the weights (a VAE's latent scale and shift) and says where it comes from; TARGET.md is its card. Both are written
only if the component of the stage's own recipe loads the result.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from ctgen.atomic import read_json, sha256_of, write_atomically, write_text
from ctgen.errors import CheckpointError, ConfigError, CtgenError, StageError
from ctgen.provenance import recipe_hash
from ctgen.recipe import Recipe, load_recipe
from ctgen.safetensors_file import save_file
from ctgen.train.log import read_metrics
from ctgen_ctflow import stdit_weights
from ctgen_ctflow.model_card import ATTRIBUTIONS, model_card
from ctgen_ctflow.stdit import Stdit

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclasses.dataclass(frozen=True)
class Shipped:
    """What was written; ``error`` is the largest absolute rounding error, of a value in the tensor ``where``."""

    weights: Path
    card: Path
    bytes: int
    error: float
    relative_error: float
    where: str

    def __str__(self) -> str:
        return (
            f"{self.weights}: {self.bytes:,} bytes; largest rounding error {self.error:.3g} (in {self.where}), "
            f"of all values together {self.relative_error:.2e} of their norm\n{self.card}: model card"
        )


def ship(
    stage: Path,
    target: Path,
    *,
    hardware: str,
    dtype: str = "float16",
    recipe_path: Path | None = None,
    attribution: str = "",
    notes: Sequence[str] = (),
) -> Shipped:
    """Write ``target`` (.safetensors) and its card from the train stage in folder ``stage``.

    ``recipe_path`` is the recipe that the card names; ConfigError if it would not train what ``stage`` trained. StageError for
    an unfinished stage, CheckpointError where weights are damaged, overflow in ``dtype``, or do not fit their component.
    """
    if target.suffix != ".safetensors":
        raise ConfigError(f"{target}: the name of a weights file ends in .safetensors")
    record, summary = _finished(stage)
    section: str = summary["trains"]
    source = stage / "final" / f"{section}.safetensors"
    if sha256_of(source) != summary["weights_sha256"]:
        raise CheckpointError(f"{source} has changed since it was trained: its SHA-256 is not that of summary.json")
    recipe = load_recipe(stage / "recipe.yaml")
    name = recipe.name
    if recipe_path is not None:
        named = load_recipe(recipe_path)
        _same_training(recipe, named, section, recipe_path)
        name = named.name
    if not attribution:
        attribution = _attribution(recipe)
    component = _component(recipe, section, "random")
    if isinstance(component, Stdit):
        component.load_metadata(_metadata(source))
    state, error, where, relative = _halved(load_file(str(source)), component, DTYPES[dtype])
    facts = {
        "component": json.dumps(getattr(recipe, section).identity(), sort_keys=True),
        "recipe": name,
        "recipe_hash": recipe_hash(recipe),
        "stage_fingerprint": str(record["fingerprint"]),
        "steps": str(summary["steps"]),
        "seed": str(recipe.train.seed),
        "source_sha256": str(summary["weights_sha256"]),
        "ctgen": importlib.metadata.version("ctgen-framework"),
    }
    kept = _metadata(source) | (stdit_weights.metadata_of(component) if isinstance(component, Stdit) else {})

    def write(temporary: Path) -> None:
        save_file(state, str(temporary), metadata={"format": "pt", **kept, **facts})
        _component(recipe, section, str(temporary.absolute()))

    write_atomically(target, write)
    card = model_card(
        target,
        recipe=recipe,
        section=section,
        summary=summary,
        rows=read_metrics(stage),
        facts=facts,
        dtype=dtype,
        parameters=sum(parameter.numel() for parameter in component.parameters()),
        rounding=f"{error:.3g} at most, {relative:.2e} of the norm of all values",
        hardware=hardware,
        recipe_path=recipe_path,
        attribution=attribution,
        notes=notes,
    )
    write_text(target.with_suffix(".md"), card)
    return Shipped(target, target.with_suffix(".md"), target.stat().st_size, error, relative, where)


def _finished(stage: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """stage.json and summary.json of a finished train stage."""
    for name in ("stage.json", "summary.json", "recipe.yaml"):
        if not (stage / name).is_file():
            raise StageError(
                f"{stage} is not a finished train stage: it has no {name}", hint="run its recipe to the end with ctgen run"
            )
    record, summary = read_json(stage / "stage.json"), read_json(stage / "summary.json")
    if record["stage"] != "train":
        raise StageError(f"{stage} is a finished {record['stage']} stage, not a train stage")
    return record, summary


def _component(recipe: Recipe, section: str, weights: str) -> nn.Module:
    use, sizes = getattr(recipe, section), recipe.sizes()
    context = {"latent": sizes.latent, "text": sizes.text} if section == "backbone" else {}
    config = use.config.model_copy(update={"weights": weights})
    with torch.random.fork_rng(devices=[]):
        component: nn.Module = recipe.host.build(use.kind, use.name, config, **context)
    return component


def _halved(state: dict[str, Tensor], component: nn.Module, dtype: torch.dtype) -> tuple[dict[str, Tensor], float, str, float]:
    """The state with parameters in ``dtype``, the largest absolute error and its tensor, the error of all relative in norm."""
    parameters = {name for name, _ in component.named_parameters(remove_duplicate=False)}
    halved: dict[str, Tensor] = {}
    worst, where, squares, total = 0.0, "none", 0.0, 0.0
    for name, value in state.items():
        if name not in parameters or not value.is_floating_point():
            halved[name] = value
            continue
        half = value.to(dtype).contiguous()
        if not half.isfinite().all():
            raise CheckpointError(
                f"{name} holds {value.abs().max().item():.4g}, which {dtype} does not", hint="try: --dtype bfloat16"
            )
        difference = half.double() - value.double()
        error = difference.abs().max().item() if difference.numel() else 0.0
        if error > worst:
            worst, where = error, name
        squares, total = squares + difference.square().sum().item(), total + value.double().square().sum().item()
        halved[name] = half
    return halved, worst, where, math.sqrt(squares / total) if total else 0.0


def _metadata(path: Path) -> dict[str, str]:
    with safe_open(str(path), framework="pt") as handle:
        return dict(handle.metadata() or {})


def _same_training(done: Recipe, named: Recipe, section: str, path: Path) -> None:
    differences: list[str] = []
    for part in ("data", "prepare", section, "objective", "schedule", "rollout", "train"):
        mine, other = (getattr(recipe, part) for recipe in (done, named))
        ours, theirs = ({} if one is None else _identity(one) for one in (mine, other))
        differences += [
            f"{part}.{key}: trained with {ours.get(key)!r}, recipe says {theirs.get(key)!r}"
            for key in sorted(ours.keys() | theirs.keys())
            if ours.get(key) != theirs.get(key)
        ]
    if differences:
        raise ConfigError(f"{path} is not what was trained:\n  " + "\n  ".join(differences))


def _identity(part: Any) -> dict[str, Any]:
    """As if from random weights: where a training started from is the card's to say, and may change what "auto" stands for."""
    config = getattr(part, "config", None)
    if config is not None and hasattr(config, "weights"):
        part = dataclasses.replace(part, config=config.model_copy(update={"weights": "random"}))
    identity: dict[str, Any] = part.identity()
    return identity


def _attribution(recipe: Recipe) -> str:
    name = recipe.data.name.rpartition(":")[2]
    if name not in ATTRIBUTIONS:
        raise ConfigError(f"nothing is known of the licence of data {name!r}", hint="state it with --attribution TEXT")
    return ATTRIBUTIONS[name]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", type=Path, help="folder of a finished train stage")
    parser.add_argument("target", type=Path, help="file to write, .safetensors; its card gets the same name with .md")
    parser.add_argument("--dtype", choices=sorted(DTYPES), default="float16")
    parser.add_argument("--hardware", required=True, help="what it was trained on, for the card")
    parser.add_argument("--recipe", type=Path, help="the recipe that the card names; must be what was trained")
    parser.add_argument("--attribution", default="", help="licence and source of the data, where ctgen does not know it")
    parser.add_argument("--note", action="append", default=[], help="a line for the card, such as a measured result")
    options = parser.parse_args(arguments)
    try:
        shipped = ship(
            options.stage,
            options.target,
            hardware=options.hardware,
            dtype=options.dtype,
            recipe_path=options.recipe,
            attribution=options.attribution,
            notes=options.note,
        )
    except CtgenError as error:
        sys.exit(f"error: {error}")
    print(shipped)


if __name__ == "__main__":
    main()
