"""What a trained variant gets wrong on held-out blocks: for every variant of a group the same blocks, noise levels and noise.

They are drawn as the group's base draws them, whatever the variant was trained with, so that trainings with another schedule,
objective or seed can be compared. Nothing is sampled: a short training makes no volume worth looking at, and paired by block
even small differences of losses show.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ctgen.atomic import sha256_of
from ctgen.bench.compare import permutation_p
from ctgen.data.latents import LatentStore
from ctgen.data.prepared import PreparedCases
from ctgen.data.source import Source
from ctgen.errors import CtgenError
from ctgen.interfaces import TrainingSource
from ctgen.recipe import Recipe
from ctgen.stages.components import build_components, device, restore
from ctgen.stages.train import weights_file
from ctgen.train.batches import generator_for, to_device
from ctgen.train.configs import LatentFlowConfig
from ctgen.train.latent_flow import LatentFlow

BLOCKS = 96
RESAMPLES = 1000
LOSSES: Mapping[str, tuple[str, bool]] = {
    "loss": ("held-out loss", False),
    "findings": ("held-out loss where findings are", False),
    "exchanged": ("more loss with another's report", True),
    "exchanged_findings": ("more loss with another's report, where findings are", True),
}
"""Key -> (what the tables call it, higher is better). The last two say how far the network heeds the report."""


def measured(variant: Recipe, base: Recipe, folders: Mapping[str, Path]) -> dict[str, Any]:
    """What a variant's record gets: blocks, scores, weights. ``folders``: of the variant's stages."""
    components = build_components(variant, data=False)
    trained = weights_file(folders["train"], "backbone")
    restore(components["backbone"], trained)
    blocks = block_losses(variant, base, components, _held_out(folders))
    others = {name: components[name].weights for name in ("autoencoder", "text_encoder") if name in components}
    return {
        "blocks": blocks,
        "scores": scores_of(blocks),
        "weights": {
            "backbone": f"TRAINED {sha256_of(trained)[:12]}",
            **{name: f"{weights.label} {weights.sha256[:12]}".strip() for name, weights in others.items()},
        },
    }


@torch.no_grad()
def block_losses(
    variant: Recipe, base: Recipe, components: Mapping[str, Any], source: TrainingSource
) -> dict[str, list[float]]:
    """Keys of LOSSES -> one value per block, NaN where a block has no finding.

    The text is never left out here, and the context is as noisy as the variant wants it in sampling.
    """
    components["backbone"].to(device()).eval()
    if not isinstance(base.objective.config, LatentFlowConfig):
        raise CtgenError(f"losses are measured by the objective latent-flow, not {base.objective.name}")
    asked = {"text_dropout": 0.0, "context_dropout": 0.0, "context_noise": variant.sample.context_noise}
    config = base.objective.config.model_copy(update={**asked, "context_noise_levels": "fixed", "finding_head": 0.0})
    objective = LatentFlow(config, components=components, schedule=base.build("schedule"), rollout=base.build("rollout"))
    drawn = [objective.batch(source, 1, generator_for("ablation", "block", number)) for number in range(BLOCKS)]
    found: dict[str, list[float]] = {key: [] for key in LOSSES}
    for number, block in enumerate(drawn):
        # reports that are exchanged go round, so that the set of reports stays the same
        exchanged = {**block, "text": drawn[(number + 1) % BLOCKS]["text"]}
        own, other = (_terms(objective, batch, number) for batch in (block, exchanged))
        for name, key in ("loss_even", "loss"), ("loss_findings", "findings"):
            found[key].append(own[name])
            found["exchanged" if key == "loss" else "exchanged_findings"].append(other[name] - own[name])
    return found


def _held_out(folders: Mapping[str, Path]) -> TrainingSource:
    return Source(PreparedCases(folders["prepare"]), LatentStore(folders["encode"] / "latents.h5"), "valid")


def _terms(objective: LatentFlow, batch: Mapping[str, Any], number: int) -> dict[str, float]:
    terms = objective.loss(to_device(batch, device()), 0, generator_for("ablation", "noise", number))
    even = terms.get("loss_even", terms["loss"])
    return {"loss_even": float(even), "loss_findings": float(terms.get("loss_findings", torch.nan))}


def scores_of(blocks: Mapping[str, Sequence[float]]) -> dict[str, dict[str, Any]]:
    """Means over the blocks that have a value, with bootstrap intervals over them."""
    found = {}
    for key, (name, higher) in LOSSES.items():
        values = _known(np.asarray(blocks[key]))
        if len(values):
            low, high = np.percentile(_means(values), [2.5, 97.5])
            found[name] = {
                "value": float(values.mean()), "low": float(low), "high": float(high), "n": len(values),
                "higher_is_better": higher,
            }  # fmt: skip
    return found


def differences_of(
    blocks: Mapping[str, Sequence[float]], base: Mapping[str, Sequence[float]], names: tuple[str, str]
) -> dict[str, dict[str, Any]]:
    """Variant - base, paired by block. ``names``: what the variant and the base are called."""
    found = {}
    for key, (name, higher) in LOSSES.items():
        apart = _known(np.asarray(blocks[key]) - np.asarray(base[key]))
        if not len(apart):
            continue
        value = float(apart.mean())
        low, high = np.percentile(_means(apart), [2.5, 97.5])
        better = "" if value == 0 else names[0] if (value > 0) == higher else names[1]
        found[name] = {
            "value": value, "low": float(low), "high": float(high), "p": permutation_p(apart, 0), "test": "paired permutation",
            "n": len(apart),
            "better": better,
        }  # fmt: skip
    return found


def _known(values: NDArray[np.float64]) -> NDArray[np.float64]:
    kept: NDArray[np.float64] = values[np.isfinite(values)]
    return kept


def _means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    places = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
    means: NDArray[np.float64] = values[places].mean(1)
    return means
