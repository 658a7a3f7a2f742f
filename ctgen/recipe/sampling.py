"""What in the section sample does not go with the recipe's other sections. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from ctgen.config import ComponentConfig
from ctgen.recipe.settings import SampleSettings, TrainSettings

if TYPE_CHECKING:
    from ctgen.recipe.model import Recipe, Use


def sampling_problems(uses: Mapping[str, Use], sample: SampleSettings, train: TrainSettings) -> Iterable[tuple[str, str, str]]:
    """(field of sample, what is wrong, hint)."""
    schedule, objective, backbone = (uses.get(section) for section in ("schedule", "objective", "backbone"))
    if schedule is not None and (problem := solver_problem(schedule.config, sample.solver)):
        yield "solver", f"schedule {schedule.name!r}: {problem}", "choose that solver or another schedule"
    if sample.unconditional and objective is not None and backbone is not None and _untrained(objective.config):
        weights = getattr(backbone.config, "weights", "random")
        if train.init == "none" or (train.init == "weights" and weights in (None, "random")):
            yield (
                "guidance",
                f"guidance {sample.guidance:g} compares with a prediction without the report, which objective.text_dropout = 0 "
                "never trains, and this recipe trains from scratch",
                "set objective.text_dropout=0.1 (or so), or sample.negative_report, or sample.guidance=1",
            )
    if sample.linear_guidance != 1.0 and backbone is not None and latent_std(backbone.config) is None:
        yield (
            "linear_guidance",
            f"linear_guidance {sample.linear_guidance:g} needs the latent's standard deviation, and backbone {backbone.name!r} "
            "is not given one",
            "write backbone.latent_std, if it has that, or sample.linear_guidance=1",
        )


def latent_std(backbone: object) -> tuple[float, ...] | None:
    """Of the data, one number or one per channel, as a backbone's config has it; None if it has none, or just its default."""
    found = getattr(backbone, "latent_std", None)
    written = "latent_std" in getattr(backbone, "model_fields_set", {"latent_std"})
    return tuple(found) if found is not None and written else None


def solver_problem(schedule: ComponentConfig | None, solver: str) -> str:
    """Why ``solver`` does not go with a schedule of this config; "" if it does.

    A schedule that steps by itself (see ctgen.interfaces.SteppingSchedule) names what it stands for in its config's ClassVar
    ``solvers``.
    """
    allowed = getattr(schedule, "solvers", None)
    if allowed is None or solver in allowed:
        return ""
    return f"it steps by itself and cannot be combined with solver {solver!r}, only with {', '.join(sorted(allowed))}"


def guidance_warning(recipe: Recipe) -> str:
    """What to tell who samples with guidance from a backbone that this recipe trains without dropping texts; "" if nothing."""
    objective = recipe.objective
    if objective is None or not recipe.sample.unconditional or not _untrained(objective.config):
        return ""
    return (
        f"sample.guidance {recipe.sample.guidance:g} needs a prediction without the report, and objective.text_dropout is 0: "
        "unless the weights that training started from know it, guidance leads nowhere sensible"
    )


def _untrained(objective: ComponentConfig) -> bool:
    """An objective that says nothing about dropping texts may train the unconditional branch in a way of its own."""
    return getattr(objective, "text_dropout", None) == 0
