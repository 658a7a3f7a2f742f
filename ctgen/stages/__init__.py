"""Stages: prepare -> encode -> train -> sample -> evaluate -> report. Finished ones are skipped, broken-off ones go on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctgen.atomic import write_json, write_text
from ctgen.errors import StageError, did_you_mean
from ctgen.stages.components import build_components
from ctgen.stages.context import Context
from ctgen.stages.lock import only_one
from ctgen.stages.opening import open_run
from ctgen.stages.plan import DONE, STAGES, fingerprints, finished, folder_of, stages_of
from ctgen.stages.prepare import require_splits
from ctgen.stages.processes import IN_SEVERAL, rank, require_one_process

if TYPE_CHECKING:
    from ctgen.console import Console
    from ctgen.recipe import Recipe

__all__ = ["STAGES", "RunResult", "open_run", "run"]


@dataclass(frozen=True)
class RunResult:
    """``folders``: stage -> folder of its results; ``skipped``: stages done before; ``report``: the HTML, if written."""

    run_dir: Path
    folders: dict[str, Path] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()
    report: Path | None = None


def run(
    recipe: Recipe,
    *,
    run_dir: Path | str | None = None,
    start: str | None = None,
    until: str | None = None,
    console: Console | None = None,
) -> RunResult:
    """Run a recipe's stages in ``run_dir`` (default: runs/<recipe name>).

    Stages before ``start`` must be finished, stages after ``until`` are not run. Raises StageError, MissingFileError and what
    the stages raise; Interrupted on SIGINT or SIGTERM, after which the same call goes on.
    """
    from ctgen.console import Console

    console = console or Console(quiet=True)
    if rank() > 0:
        console = Console(quiet=True)
    where = Path(run_dir) if run_dir is not None else Path("runs") / recipe.name
    wanted = _wanted(recipe, start, until)
    components = build_components(recipe)
    context = Context(recipe, where, console, components, fingerprints=fingerprints(recipe, components))
    _require_earlier(context, wanted, start)
    skipped: list[str] = []
    stages = stages_of(recipe)
    with only_one(where) if rank() == 0 else nullcontext(), context.stopper.listening():
        if rank() == 0:
            write_text(where / "recipe.yaml", recipe.to_yaml())
        for stage in stages[: stages.index(wanted[-1]) + 1]:
            folder = folder_of(where, stage, dict(context.fingerprints))
            context.folders[stage] = folder
            if finished(folder, context.fingerprints[stage]):
                console.say(f"{stage}: already done, skipped ({folder})")
                skipped.append(stage)
            else:
                _run_stage(context, stage, folder)
            if stage == "prepare":
                require_splits(context, wanted)
    report = context.folders.get("report", Path()) / "report.html"
    return RunResult(where, context.folders, tuple(skipped), report if report.is_file() else None)


def _require_earlier(context: Context, wanted: Sequence[str], start: str | None) -> None:
    """StageError, before anything is written, if a stage before ``start`` is not finished."""
    stages = stages_of(context.recipe)
    earlier = [
        (name, folder_of(context.run_dir, name, dict(context.fingerprints))) for name in stages[: stages.index(wanted[0])]
    ]
    missing = [name for name, folder in earlier if not finished(folder, context.fingerprints[name])]
    if missing:
        raise StageError(
            f"--from {start}: not finished with this recipe in {context.run_dir}: {', '.join(missing)}",
            hint=f"run without --from, or with --from {missing[0]}",
        )


def _run_stage(context: Context, stage: str, folder: Path) -> None:
    if stage not in IN_SEVERAL:
        require_one_process(stage, context.recipe.source)
    if rank() > 0:
        import_module(f"ctgen.stages.{stage}").run(context, folder)
        return
    context.console.say(f"{stage}: {folder}")
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "recipe.yaml", context.recipe.to_yaml())
    hook = context.recipe.host.hook
    hook.ctgen_stage_started(stage=stage, folder=folder)
    started = time.perf_counter()
    summary: dict[str, Any] = import_module(f"ctgen.stages.{stage}").run(context, folder)
    record = {
        "stage": stage,
        "fingerprint": context.fingerprints[stage],
        "seconds": round(time.perf_counter() - started, 1),
        "summary": summary,
    }
    write_json(folder / DONE, record)
    hook.ctgen_stage_finished(stage=stage, folder=folder, summary=summary)


def _wanted(recipe: Recipe, start: str | None, until: str | None) -> Sequence[str]:
    stages = stages_of(recipe)
    for name in (start, until):
        if name is not None and name not in stages:
            lines = [did_you_mean(name, stages), f"stages of this recipe: {', '.join(stages)}"]
            raise StageError(f"no stage named {name!r}", hint="\n".join(line for line in lines if line))
    first = stages.index(start) if start else 0
    last = stages.index(until) if until else len(stages) - 1
    if first > last:
        raise StageError(f"--from {start} comes after --until {until}")
    return stages[first : last + 1]
