"""Whether a backbone is told the latents' standard deviation as it is: of a wrong one its best linear guess is no good one."""

from __future__ import annotations

from typing import Any

import torch

from ctgen.data.latent_stats import case_stats, together
from ctgen.data.source import Source
from ctgen.interfaces import Posterior
from ctgen.recipe import Recipe
from ctgen.stages.encode import finalised

CASES = 16
"""Of the training cases, evenly spread: enough to tell a wrong number from another set of patients."""
FAR = 1.5
"""A factor of the standard deviation that is no longer a matter of patients."""


def spread_warning(recipe: Recipe, backbone: Any, autoencoder: Any, source: Source, where: torch.device) -> str:
    """What to tell who trains ``backbone`` with a ``latent_std`` that is not that of the finalised latents; "" if nothing.

    Only where it is used: by the skip of the backbone (``skip: wiener``) or by ``sample.linear_guidance``.
    """
    config = getattr(backbone, "config", None)
    told = getattr(config, "latent_std", None)
    if told is None or (getattr(config, "skip", "none") != "wiener" and recipe.sample.linear_guidance == 1.0):
        return ""
    count = min(CASES, len(source.ids))
    chosen = [index * len(source.ids) // count for index in range(count)]
    latents = (finalised(autoencoder, source.posterior(index), where).cpu() for index in chosen)
    found: list[float] = together([case_stats(Posterior(latent)) for latent in latents])["by_channel"]["std"]
    told = tuple(told) * (len(found) // len(told))
    if all(own / FAR <= said <= own * FAR for said, own in zip(told, found, strict=True)):
        return ""
    values = ", ".join(f"{own:.2g}" for own in found)
    return (
        "backbone.latent_std is not the standard deviation of these latents, and the best linear guess is made of it\n"
        f"  for random weights write backbone.latent_std: [{values}]; weights that learnt with another keep theirs"
    )
