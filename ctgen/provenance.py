"""Where a result comes from: written beside every volume and at the head of every report."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ctgen.atomic import fingerprint

if TYPE_CHECKING:
    from ctgen.recipe import Recipe

LIBRARIES = ("torch", "diffusers", "transformers", "accelerate", "numpy", "SimpleITK")


def versions(recipe: Recipe) -> dict[str, str]:
    """Versions of ctgen, of the plugins that the recipe uses, and of the libraries that decide the numbers."""
    names = {"ctgen-framework", *LIBRARIES}
    plugins = {use.plugin for _, use in recipe.uses()}
    names |= {record.distribution for record in recipe.host.plugins if record.name in plugins}
    found: dict[str, str] = {"python": platform.python_version()}
    for name in sorted(names):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def recipe_hash(recipe: Recipe) -> str:
    """16 hex digits over the resolved recipe."""
    return fingerprint(recipe.to_yaml())


def provenance(recipe: Recipe, components: Mapping[str, Any]) -> dict[str, Any]:
    """Recipe, versions, seeds, weights (label in capitals, hash) and device."""
    import torch

    weights = {}
    for section in ("autoencoder", "text_encoder", "backbone", "classifier"):
        if section in components:
            found = components[section].weights
            weights[section] = {"label": found.label, "source": found.source, "sha256": found.sha256}
    return {
        "recipe": recipe.name,
        "recipe_hash": recipe_hash(recipe),
        "versions": versions(recipe),
        "seeds": {"train": recipe.train.seed, "sample": recipe.sample.seed},
        "weights": weights,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else f"cpu ({torch.get_num_threads()} threads)",
    }
