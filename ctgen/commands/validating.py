"""``ctgen validate``: many recipes, all mistakes of each; with ``--estimate`` also what they cost."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ctgen.errors import ConfigError, RecipeError
from ctgen.host import Host
from ctgen.recipe import Recipe, load_recipe
from ctgen.recipe.sampling import guidance_warning


def validate_all(
    words: Sequence[str], *, estimate: bool = False, memory_gb: float | None = None, as_json: bool = False
) -> bool:
    """Check every recipe in ``words`` with the key=value words applied to each; True if all are right.

    ``estimate`` adds costs, for a device of ``memory_gb`` GB if that is given; only then is torch imported.
    """
    recipes = [word for word in words if "=" not in word or Path(word).exists()]
    overrides = [word for word in words if word not in recipes]
    if not recipes:
        raise ConfigError(
            f"no recipe to check, only overrides: {' '.join(overrides)}", hint="ctgen validate RECIPE [key=value ...]"
        )
    if not estimate and (memory_gb is not None or as_json):
        raise ConfigError("--memory and --json belong to --estimate", hint="ctgen validate RECIPE --estimate")
    host = Host.discover()
    wrong = 0
    costs: dict[str, Any] = {}
    for recipe in recipes:
        try:
            loaded = load_recipe(recipe, overrides, host=host)
        except RecipeError as error:
            wrong += 1
            count = len(error.problems)
            print(f"{error}\n{recipe}: {count} problem{'s' if count > 1 else ''}", file=sys.stderr)
            continue
        if not as_json:
            print(f"{recipe}: ok ({', '.join(dict.fromkeys(use.name for _, use in loaded.uses()))})", flush=True)
        if warning := guidance_warning(loaded):
            print(f"{recipe}: warning: {warning}", file=sys.stderr)
        if estimate:
            costs[recipe] = _costs(loaded, memory_gb, show=not as_json)
    if as_json:
        print(json.dumps(costs, indent=1))
    return wrong == 0


def _costs(recipe: Recipe, memory_gb: float | None, *, show: bool) -> dict[str, Any]:
    from ctgen.estimate.costs import estimate
    from ctgen.estimate.table import table

    found = estimate(recipe, memory_bytes=None if memory_gb is None else round(memory_gb * 1e9))
    if show:
        print(table(found, recipe))
    return found.as_dict()
