"""Stage train: hand the objective its source, let ctgen.train fit it, export the averaged weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from ctgen.atomic import read_json, sha256_of, stable_hash, write_atomically, write_json
from ctgen.data.latents import LatentStore
from ctgen.data.prepared import PreparedCases
from ctgen.data.source import Source
from ctgen.errors import DataError
from ctgen.interfaces import WeightsInfo
from ctgen.safetensors_file import save_file
from ctgen.stages.components import build, device, require, restore, seeded, weights_labels
from ctgen.stages.context import Context
from ctgen.stages.latent_spread import spread_warning
from ctgen.stages.plan import MODULES, reads, trains
from ctgen.stages.processes import rank, wait_for_everyone
from ctgen.train.checkpoint import file_metadata, newest_checkpoint
from ctgen.train.loop import fit


def weights_file(folder: Path, section: str) -> Path:
    """Where a finished train stage keeps the averaged weights of the component it trained."""
    return folder / "final" / f"{section}.safetensors"


def run(context: Context, folder: Path) -> dict[str, Any]:
    """Resumable to the bit from the last checkpoint; writes final/<section>.safetensors last."""
    recipe = context.recipe
    trained = trains(recipe)
    # a fresh build, whatever earlier stages did to the shared one
    component = build(recipe, trained).to(device())
    components = {**{name: context.components[name] for name in MODULES if name in context.components}, trained: component}
    for name, other in components.items():
        if name != trained:
            other.to(device()).eval().requires_grad_(False)
    started_from = weights_labels({trained: component})[trained]
    # an objective may have layers of its own: heads, an adversary
    with seeded("init", recipe.train.seed, "objective"):
        objective = recipe.host.build(
            "objective",
            recipe.objective.name,
            recipe.objective.config,
            components=components,
            schedule=context.components.get("schedule"),
            rollout=context.components.get("rollout"),
        )
    source = _source(context, "train")
    assert source is not None
    size = sum(parameter.numel() for parameter in component.parameters())
    context.console.say(
        f"  training {trained} {getattr(recipe, trained).name!r} ({size:,} parameters) "
        f"from {started_from} weights on {len(source.ids)} cases"
    )
    warning = ""
    if trained == "backbone" and source.latents is not None and rank() == 0:
        warning = spread_warning(recipe, component, components["autoencoder"], source, device())
    if warning:
        context.console.warn(warning)
    spec = {
        "trains": trained,
        "component": getattr(recipe, trained).identity(),
        "objective": recipe.objective.identity(),
        "settings": recipe.train.identity(),
        "fingerprint": context.fingerprints["train"],
    }
    earlier = newest_checkpoint(folder / "checkpoints")
    with context.console.task("train", recipe.train.steps, unit="steps", done=earlier.step if earlier else 0) as task:

        def progress(step: int, steps: int, values: Mapping[str, float]) -> None:
            task.set(step, f"loss {values['loss']:.4f}" if "loss" in values else "")

        result = fit(
            objective,
            source,
            recipe.train,
            folder,
            spec=spec,
            valid_source=_source(context, "valid"),
            on_log=lambda step, values: recipe.host.hook.ctgen_train_step(step=step, values=values),
            progress=progress,
            should_stop=lambda: context.stopper.requested,
        )
    context.stopper.check()
    if rank() > 0:
        wait_for_everyone()
        found: dict[str, Any] = read_json(folder / "summary.json")
        return found
    metadata = _export(objective, component, result.checkpoint, weights_file(folder, trained), source, recipe.train.seed)
    summary = {
        "trains": trained,
        "steps": result.steps,
        "loss": result.final_loss,
        "seconds": round(result.seconds, 1),
        "started_from": started_from,
        "weights_sha256": sha256_of(weights_file(folder, trained)),
        "beside": {name: other.weights.sha256 for name, other in components.items() if name != trained},
        **metadata,
    }
    write_json(folder / "summary.json", summary)
    wait_for_everyone()
    return summary


def trained_component(context: Context, folder: Path) -> Any:
    """The component that the train stage in ``folder`` trained, with its averaged weights, in evaluation mode."""
    component = require(context.components, trains(context.recipe))
    restore(component, weights_file(folder, trains(context.recipe)))
    adopt_trained(context, folder)
    return component.to(device()).eval()


def adopt_trained(context: Context, folder: Path) -> None:
    """Let the trained component's provenance say so: TRAINED, from what, with the hash of the result."""
    trained = trains(context.recipe)
    summary = read_json(folder / "summary.json")
    require(context.components, trained).weights = WeightsInfo(
        "TRAINED", f"{summary['steps']} steps from {summary['started_from']}", summary["weights_sha256"]
    )


def _source(context: Context, split: Any) -> Source | None:
    recipe = context.recipe
    latents = LatentStore(context.folders["encode"] / "latents.h5") if reads(recipe) == "latents" else None
    try:
        return Source(PreparedCases(context.folders["prepare"]), latents, split)
    except DataError:
        # no held-out cases means no validation loss; no training cases means no training
        if split == "valid":
            return None
        raise


def _export(objective: Any, component: Any, checkpoint: Path, target: Path, source: Source, seed: int) -> dict[str, str]:
    """Averaged weights plus what the objective wants to keep with them (a VAE: latent scale and shift)."""
    state = load_file(str(checkpoint / "ema.safetensors"))
    component.load_state_dict(state)
    component.eval()
    generator = torch.Generator().manual_seed(stable_hash(seed, "finish"))
    metadata = dict(objective.finish(source, generator)) if hasattr(objective, "finish") else {}
    described = {**file_metadata(component), **metadata}
    write_atomically(target, lambda path: save_file(state, str(path), metadata=described or None))
    return metadata
