"""``ctgen validate``: many recipes, all mistakes of each."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from ctgen.errors import ConfigError, RecipeError
from ctgen.host import Host
from ctgen.recipe import load_recipe


def validate_all(words: Sequence[str]) -> bool:
    """Check every recipe in ``words`` with the key=value words applied to each; True if all are right."""
    recipes = [word for word in words if "=" not in word or Path(word).exists()]
    overrides = [word for word in words if word not in recipes]
    if not recipes:
        raise ConfigError(
            f"no recipe to check, only overrides: {' '.join(overrides)}", hint="ctgen validate RECIPE [key=value ...]"
        )
    host = Host.discover()
    wrong = 0
    for recipe in recipes:
        try:
            loaded = load_recipe(recipe, overrides, host=host)
        except RecipeError as error:
            wrong += 1
            count = len(error.problems)
            print(f"{error}\n{recipe}: {count} problem{'s' if count > 1 else ''}", file=sys.stderr)
            continue
        print(f"{recipe}: ok ({', '.join(dict.fromkeys(use.name for _, use in loaded.uses()))})")
    return wrong == 0
