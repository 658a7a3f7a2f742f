"""What variants.yaml may say, and the recipes that come of it. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from typing_extensions import Self

from ctgen.errors import CtgenError, Mark, Problem, RecipeError
from ctgen.host import Host
from ctgen.recipe import Recipe, load_recipe
from ctgen.recipe.complaints import problems_of
from ctgen.recipe.source import MapNode, Refused, parse, read_text
from ctgen.recipe.values import to_python

Name = Annotated[str, Field(pattern="^[a-z0-9][a-z0-9.-]*$")]
Overrides = tuple[str, ...]
BASE = "base"
FREE = ("sample.", "rollout.", "schedule.")
"""What may be changed about a model that is trained already."""
LOSS = ("data", "prepare", "autoencoder", "schedule", "rollout", "objective")
"""Sections that decide what the validation loss is a loss of."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Base(_Part):
    """``sampling``: nothing is trained, the weights are those that the recipe's components come with."""

    recipe: str
    """preset:NAME, or a path that starts at the folder of variants.yaml."""
    kind: Literal["sampling", "training"]
    measured: Literal["bench", "losses"] = "bench"
    """``losses``: no volume is made; what a trained network gets wrong on held-out blocks (losses.py) takes seconds."""
    set: Overrides = ()
    """KEY=VALUE as for `ctgen run`, in every variant and in the base itself."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.measured == "losses" and self.kind != "training":
            raise ValueError("losses are of what was trained: a base of kind sampling is measured by the bench")
        return self


class Group(_Part):
    question: str
    """One sentence."""
    base: Name
    note: str = ""
    """What one must know to read the numbers."""
    variants: Mapping[Name, Overrides] = Field(min_length=1)


class Study(_Part):
    suite: str
    """A suite of `ctgen bench`: its name, or a path that starts at the folder of variants.yaml."""
    bases: Mapping[Name, Base]
    groups: Mapping[Name, Group]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for name, group in self.groups.items():
            if group.base not in self.bases:
                raise ValueError(f"group {name}: no base {group.base!r}; there are: {', '.join(self.bases)}")
            if BASE in group.variants:
                raise ValueError(f"group {name}: a variant cannot be called {BASE!r}, that is the group's base")
            for variant, overrides in group.variants.items():
                fixed = [one for one in overrides if not one.startswith(FREE)]
                if fixed and self.bases[group.base].kind == "sampling":
                    raise ValueError(
                        f"group {name}: variant {variant}: {fixed[0]} is fixed by training; "
                        f"base {group.base!r} is not trained anew, so only {', '.join(FREE)} may change"
                    )
        return self


@dataclass(frozen=True)
class Variant:
    """A variant, or (``name`` BASE) a group's base. ``recipe`` is None if it is not valid; ``error`` says why."""

    group: str
    name: str
    kind: Literal["sampling", "training"]
    overrides: Overrides
    recipe: Recipe | None
    error: str = ""
    measured: Literal["bench", "losses"] = "bench"

    @property
    def path(self) -> Path:
        return Path(self.group) / self.name

    @cached_property
    def text(self) -> str:
        """The resolved recipe as YAML, or why there is none."""
        return self.recipe.to_yaml() if self.recipe is not None else self.error


def read_study(path: Path) -> Study:
    """RecipeError with file:line:column of every mistake."""
    problems: list[Problem] = []
    try:
        node = parse(read_text(path), str(path), problems)
    except Refused as refused:
        raise RecipeError([refused.problem]) from None
    if not isinstance(node, MapNode):
        raise RecipeError([Problem(Mark(str(path), 1, 1), "", "expected suite, bases and groups")])
    study = None
    try:
        study = Study.model_validate(to_python(node, Study))
    except ValidationError as error:
        problems += problems_of(error, "study", node, Study)
    if study is None or problems:
        raise RecipeError(problems)
    return study


def variants_of(study: Study, group: str, folder: Path, *, steps: int | None, host: Host) -> list[Variant]:
    """The group's base and then its variants. ``folder``: of variants.yaml; ``steps``: of training, if not the base's."""
    found = study.groups[group]
    base = study.bases[found.base]
    source = base.recipe if base.recipe.startswith("preset:") else str(folder / base.recipe)
    common = [*base.set, f"name={found.base}"]
    if base.kind == "training" and steps is not None:
        common.append(f"train.steps={steps}")
    variants: list[Variant] = []
    for name, overrides in {BASE: (), **found.variants}.items():
        recipe, error = None, ""
        try:
            recipe = load_recipe(source, [*common, *overrides], host=host)
        except CtgenError as problem:
            error = str(problem)
        if recipe is not None and (useless := _useless(recipe, variants[0].recipe if variants else None)):
            recipe, error = None, useless
        variants.append(Variant(group, name, base.kind, overrides, recipe, error, base.measured))
    return variants


def _useless(recipe: Recipe, base: Recipe | None) -> str:
    """Why a bench of this recipe would say nothing; "" if it does say something."""
    if recipe.sample.mode != "full-body":
        return f"sample.mode {recipe.sample.mode} needs real slices, and `ctgen bench` gives a model only the report"
    return "changes nothing: this is the base" if base is not None and recipe == base else ""


def other_loss(recipe: Recipe, base: Recipe) -> list[str]:
    """Sections that make the two recipes' validation losses different things; [] if they may be compared."""
    pairs = ((name, getattr(recipe, name), getattr(base, name)) for name in LOSS)
    found = [name for name, one, other in pairs if (one and one.identity()) != (other and other.identity())]
    # these choose the validation blocks and their noise
    return found + [f"train.{name}" for name in ("seed", "batch") if getattr(recipe.train, name) != getattr(base.train, name)]


def chosen(study: Study, names: Sequence[str]) -> list[str]:
    """The groups that are asked for, in the order of the file; all without ``names``."""
    if unknown := [name for name in names if name not in study.groups]:
        raise CtgenError(f"no group {', '.join(map(repr, unknown))}", hint=f"groups: {', '.join(study.groups)}")
    return [name for name in study.groups if not names or name in names]
