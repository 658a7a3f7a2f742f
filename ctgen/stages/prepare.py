"""Stage prepare: every case to the canonical grid, HU checked, geometry kept; what is left out is named with its reason."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed

from ctgen.atomic import write_json
from ctgen.data.chest import lung_fraction
from ctgen.data.prepared import PreparedCases, read_outcome, write_case, write_skipped
from ctgen.errors import CtgenError, DataError
from ctgen.interfaces import Case, Skipped
from ctgen.recipe.settings import PrepareSettings
from ctgen.stages.context import Context
from ctgen.stages.plan import reads
from ctgen.volume import Volume
from ctgen.volume.orient import to_canonical
from ctgen.volume.resample import fit


def to_grid(volume: Volume, settings: PrepareSettings) -> Volume:
    """Canonical orientation, HU of ``fill_hu`` and above, the recipe's spacing; H and W fitted, D cropped but never padded."""
    canonical, _ = to_canonical(volume)
    # -1024, -2048, -3024 and -8192 all mean "outside the field of view": air
    clipped = Volume(np.maximum(canonical.hu, settings.fill_hu), canonical.affine, canonical.meta)
    return fit(clipped, settings.spacing_mm, settings.size, fill_hu=settings.fill_hu, pad_depth=False)


def prepare_case(case: Case, settings: PrepareSettings, folder: Path) -> dict[str, Any] | Skipped:
    """Prepare and store one case, or say why it is left out."""
    canonical, orientation = to_canonical(case.volume)
    covered = canonical.shape[0] * canonical.spacing_mm[0]
    if covered < settings.min_depth_mm:
        reason = (
            f"covers {covered:.0f} mm of the body ({canonical.shape[0]} slices of {canonical.spacing_mm[0]:g} mm), "
            f"less than prepare.min_depth_mm = {settings.min_depth_mm:g}"
        )
        return _leave_out(folder, case.id, reason)
    lung = lung_fraction(canonical)
    if lung < settings.min_lung_fraction:
        return _leave_out(
            folder,
            case.id,
            f"no chest: {lung:.1%} of it is lung, less than prepare.min_lung_fraction = {settings.min_lung_fraction:.1%}",
        )
    grid = to_grid(case.volume, settings)
    facts = {
        "source_shape": list(case.volume.shape),
        "source_spacing_mm": list(case.volume.spacing_mm),
        "source_orientation": str(orientation),
        "lung_fraction": round(float(lung), 4),
    }
    write_case(folder, case, grid, facts)
    outcome = read_outcome(folder, case.id)
    assert outcome is not None
    return outcome


def run(context: Context, folder: Path) -> dict[str, Any]:
    """Resumable per case; the manifest is written last."""
    recipe, dataset = context.recipe, context.components["data"]
    outcomes: dict[str, dict[str, Any] | Skipped] = {}
    pending: list[int] = []
    for index, case_id in enumerate(dataset.ids):
        known = read_outcome(folder, case_id)
        if known is None:
            pending.append(index)
        else:
            outcomes[case_id] = known
    with (
        context.console.task("prepare", len(dataset.ids), unit="cases") as task,
        closing(_outcomes(context, pending, folder)) as results,
    ):
        task.set(len(outcomes))
        for case_id, outcome in results:
            outcomes[case_id] = outcome
            task.advance()
            context.stopper.check()
    kept = [outcomes[case_id] for case_id in dataset.ids if not isinstance(outcomes[case_id], Skipped)]
    skipped = [*dataset.skipped, *(outcome for outcome in outcomes.values() if isinstance(outcome, Skipped))]
    skipped.sort(key=lambda entry: entry.id)
    manifest = {
        "dataset": recipe.data.identity(),
        "settings": recipe.prepare.identity(),
        "cases": [{key: record[key] for key in ("id", "split", "shape", "spacing_mm")} for record in kept],  # type: ignore[index]
        "without_report": [record["id"] for record in kept if record["report"] is None],  # type: ignore[index]
        "skipped": [{"id": entry.id, "reason": entry.reason} for entry in skipped],
    }
    if not kept:
        reasons = "\n".join(f"{entry.id}: {entry.reason}" for entry in skipped[:12])
        raise DataError(f"no case of {len(dataset.ids) + len(dataset.skipped)} is usable", hint=reasons)
    write_json(folder / "manifest.json", manifest)
    for entry in skipped:
        context.console.say(f"  left out: {entry.id}: {entry.reason}")
    without = [record["id"] for record in kept if record["report"] is None]  # type: ignore[index]
    if without:
        context.console.say(f"  no report, so prompted with the empty one: {_listed(without)}")
    return {"cases": len(kept), "left_out": len(skipped), "without_report": len(without)}


def require_splits(context: Context, wanted: Sequence[str]) -> None:
    """DataError if a stage of ``wanted`` will have no case to work on: now, not after hours of training."""
    recipe, prepared = context.recipe, PreparedCases(context.folders["prepare"])
    hint = f"{len(prepared.manifest['cases'])} cases are prepared; see {prepared.folder / 'manifest.json'}"
    if "train" in wanted and not prepared.ids("train"):
        raise DataError(
            "no train case is left after preparation, there is nothing to train on",
            hint=f"{hint}\nadd scans, or set a smaller data.valid_fraction",
        )
    if "sample" in wanted and not prepared.ids(recipe.sample.split):
        raise DataError(
            f"no {recipe.sample.split} case is left after preparation, there is nothing to sample for",
            hint=f"{hint}\nset sample.split=train or another data.valid_fraction, or stop earlier: --until train",
        )
    if "evaluate" in wanted and "sample" not in wanted and reads(recipe) == "volumes" and not prepared.ids("valid"):
        raise DataError(
            "no valid case is left after preparation, there is nothing to evaluate on",
            hint=f"{hint}\nset a larger data.valid_fraction, or stop earlier: --until train",
        )


def _listed(ids: Sequence[str]) -> str:
    return ", ".join(ids[:8]) + (f" and {len(ids) - 8} more" if len(ids) > 8 else "")


def _leave_out(folder: Path, case_id: str, reason: str) -> Skipped:
    skipped = Skipped(case_id, reason)
    write_skipped(folder, skipped)
    return skipped


def _one(dataset: Any, index: int, settings: PrepareSettings, folder: Path) -> tuple[str, dict[str, Any] | Skipped]:
    """One unreadable file must not end the job: what ctgen can explain is quarantined; a defect is raised."""
    case_id = dataset.ids[index]
    try:
        return case_id, prepare_case(dataset[index], settings, folder)
    except CtgenError as error:
        return case_id, _leave_out(folder, case_id, str(error))


def _outcomes(
    context: Context, pending: list[int], folder: Path
) -> Generator[tuple[str, dict[str, Any] | Skipped], None, None]:
    recipe = context.recipe
    workers = min(recipe.prepare.workers, len(pending))
    if workers <= 1:
        for index in pending:
            yield _one(context.components["data"], index, recipe.prepare, folder)
        return
    # loky: fresh processes (a forked copy of torch's thread pools can hang), without re-running the caller's script
    fields = json.dumps(recipe.data.config.model_dump(mode="json"))
    pool = Parallel(workers, return_as="generator")
    yield from pool(delayed(_in_worker)(recipe.data.name, fields, index, recipe.prepare, folder) for index in pending)


@lru_cache(maxsize=1)
def _worker_dataset(name: str, fields: str) -> Any:
    """Built once per worker process, which does one thread's work beside the others."""
    import signal

    import torch

    from ctgen.host import Host

    # the parent decides when to stop; Ctrl-C reaches the whole process group
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    return Host.discover().create("dataset", name, **json.loads(fields))


def _in_worker(
    name: str, fields: str, index: int, settings: PrepareSettings, folder: Path
) -> tuple[str, dict[str, Any] | Skipped]:
    return _one(_worker_dataset(name, fields), index, settings, folder)
