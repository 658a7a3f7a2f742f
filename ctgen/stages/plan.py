"""Which stages a recipe needs, in which folders, and whether they are already done.

Each stage's folder carries its fingerprint in the name: a changed recipe gets new folders beside the old ones, an unchanged
one finds its results again, and nothing is ever overwritten.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ctgen.atomic import fingerprint, read_json
from ctgen.recipe.model import Use
from ctgen.recipe.settings import Settings

if TYPE_CHECKING:
    from ctgen.recipe import Recipe

STAGES = ("prepare", "encode", "train", "sample", "evaluate", "report")
DONE = "stage.json"
"""Written last in a stage's folder: its presence means that the stage is complete."""

CACHE_FORMAT = 2
"""Of the latent cache's files; raised when they are laid out in another way."""

GENERATING = ("autoencoder", "text_encoder", "backbone")
"""Sections whose components are the networks that make a volume."""

MODULES = (*GENERATING, "classifier")
"""Sections whose components are networks and may be trained."""

_NEEDED: dict[str, tuple[str, ...]] = {
    "latents": STAGES,
    "volumes": ("prepare", "train", "evaluate", "report"),
    "reports": ("prepare", "train", "report"),
}


def trains(recipe: Recipe) -> str:
    """The section whose component the recipe's objective trains."""
    found: str = recipe.objective.config.trains  # type: ignore[attr-defined]  # every objective's config has it; validated
    return found


def reads(recipe: Recipe) -> str:
    """The store that the recipe's objective reads: latents, volumes or reports."""
    found: str = recipe.objective.config.reads  # type: ignore[attr-defined]
    return found


def stages_of(recipe: Recipe) -> tuple[str, ...]:
    """The stages that the recipe's objective calls for, in order."""
    needed = _NEEDED[reads(recipe)]
    # what is evaluated are volumes that an autoencoder decodes
    return needed if recipe.autoencoder is not None else tuple(stage for stage in needed if stage != "evaluate")


def fingerprints(recipe: Recipe, components: dict[str, Any]) -> dict[str, str]:
    """Stage -> hash of everything that determines its output: configs, weight hashes, the stages before, versions."""
    weights = _weights(components)
    dataset = components["data"]
    bytes_read = dataset.fingerprint() if hasattr(dataset, "fingerprint") else list(dataset.ids)
    version = importlib.metadata.version("ctgen-framework")
    one = _identities(recipe)

    def identity(*sections: str) -> dict[str, Any]:
        return {section: one(getattr(recipe, section)) for section in sections if getattr(recipe, section) is not None}

    trained = trains(recipe)
    own: dict[str, Any] = {
        "prepare": {**identity("data", "prepare"), "bytes": bytes_read},
        "encode": {
            **identity("autoencoder", "text_encoder", "encode"),
            "weights": {section: weights.get(section) for section in ("autoencoder", "text_encoder")},
            "format": CACHE_FORMAT,
        },
        "train": {**identity(trained, "objective", "schedule", "rollout", "train"), "weights": weights.get(trained)},
        "sample": identity("sample", "export"),
        "evaluate": {
            **identity("evaluate"),
            "metrics": [one(metric) for metric in recipe.metrics],
            # a recipe without them keeps its fingerprint
            **({"extractors": {key: one(use) for key, use in recipe.extractors.items()}} if recipe.extractors else {}),
        },
        "report": identity("report"),
    }
    chain: dict[str, str] = {}
    before = ""
    for stage in stages_of(recipe):
        before = chain[stage] = fingerprint({"stage": stage, "before": before, "ctgen": version, **own[stage]})
    return chain


def sharing_key(recipe: Recipe, stage: Literal["prepare", "encode", "latents"], components: Mapping[str, Any]) -> str:
    """Hash of what determines a stage's result for one case, whichever other cases there are; "latents": encode's, but texts.

    What the data set's config does to a case is not in it: that is in the case's Origin, and for encode in its voxels.
    """
    one, weights = _identities(recipe), _weights(components)
    version = importlib.metadata.version("ctgen-framework")
    if stage == "prepare":
        data = one(recipe.data)
        parts: dict[str, Any] = {"data": [data["use"], data.get("version")], "prepare": one(recipe.prepare)}
    else:
        sections = ("autoencoder", "text_encoder") if stage == "encode" else ("autoencoder",)
        parts = {name: [one(recipe.use(name)), weights.get(name)] for name in sections}
        parts["format"] = CACHE_FORMAT
        if stage == "encode" and recipe.encode.impressions:
            parts["impressions"] = True
    return fingerprint({"stage": stage, "ctgen": version, **parts})


def _weights(components: Mapping[str, Any]) -> dict[str, str]:
    return {section: components[section].weights.sha256 for section in MODULES if section in components}


def _identities(recipe: Recipe) -> Callable[[Use | Settings], dict[str, Any]]:
    """What determines results, of a component or of settings; with the version of a plugin that has one of its own."""
    version = importlib.metadata.version("ctgen-framework")
    released = {record.name: record.version for record in recipe.host.plugins}

    def one(part: Use | Settings) -> dict[str, Any]:
        # a plugin of ctgen's own version adds nothing: ctgen's is in every fingerprint
        own_version = released.get(part.plugin, version) if isinstance(part, Use) else version
        return part.identity() if own_version == version else {**part.identity(), "version": own_version}

    return one


def same_model(one: Recipe, other: Recipe) -> bool:
    """Whether both train the same network in the same way on the same grid, whatever scans they read and how they sample."""

    def identity(recipe: Recipe) -> list[Any]:
        parts = [getattr(recipe, name) for name in (*MODULES, "schedule", "rollout", "objective", "prepare", "train")]
        return [part and part.identity() for part in parts]

    return identity(one) == identity(other)


def folder_of(run_dir: Path, stage: str, fingerprints: dict[str, str]) -> Path:
    return run_dir / f"{stage}-{fingerprints[stage][:8]}"


def finished(folder: Path, expected: str) -> bool:
    """True if the stage in ``folder`` is complete with exactly this fingerprint."""
    return (folder / DONE).is_file() and read_json(folder / DONE).get("fingerprint") == expected
