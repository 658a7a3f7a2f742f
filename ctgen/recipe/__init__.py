"""Recipes: YAML that names components and sets their fields, read with file:line:col and checked as a whole. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ctgen.errors import Problem, RecipeError
from ctgen.host import Host
from ctgen.recipe.model import Recipe, Use

if TYPE_CHECKING:
    from ctgen.recipe.resolve import Resolved

__all__ = ["Recipe", "Use", "load_recipe"]


def load_recipe(recipe: str | Path, overrides: Sequence[str] = (), *, host: Host | None = None) -> Recipe:
    """Read a recipe file or ``preset:NAME``, apply ``overrides`` ("train.steps=10"), check everything.

    Raises RecipeError with every problem there is. Relative paths in ``extends`` start at the recipe's own folder; those in
    component fields start at the current folder, as on any command line.
    """
    from ctgen.recipe.resolve import resolve
    from ctgen.recipe.validate import validate

    host = host or Host.discover()
    resolved = resolve(recipe, overrides, host)
    # An unreadable recipe has one problem; looking for more in what is left of it would only find echoes.
    checked = validate(resolved, host) if resolved.root.entries or resolved.complete else None
    if checked is None:
        raise RecipeError(_in_file_order(resolved))
    return checked


def _in_file_order(resolved: Resolved) -> list[Problem]:
    """The recipe's own problems first, then those of what it extends, then those of the command line."""
    order = {source: index for index, source in enumerate(resolved.sources)}

    def place(found: Problem) -> tuple[int, int, int]:
        return order.get(found.mark.source, len(order)), found.mark.line, found.mark.column

    return sorted(resolved.problems, key=place)
