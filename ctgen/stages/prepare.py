"""Stage prepare: every case to the canonical grid, HU checked, geometry kept; what is left out is named with its reason."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from joblib.externals.loky.process_executor import TerminatedWorkerError

from ctgen.atomic import remove_leftovers, write_json
from ctgen.data.chest import COARSE_MM, Anatomy, anatomy
from ctgen.data.intensity import histogram_of, measure_histogram
from ctgen.data.masks import pack, regrid
from ctgen.data.origin import POLICY, stamp, summary, unchanged, with_hashes
from ctgen.data.prepared import PreparedCases, outcome_of, take_over, write_case, write_skipped
from ctgen.errors import CtgenError, DataError, StageError
from ctgen.interfaces import Case, Skipped
from ctgen.recipe.settings import PrepareSettings
from ctgen.stages.context import Context
from ctgen.stages.earlier import Changes, earlier_folders, mark
from ctgen.stages.plan import reads, sharing_key
from ctgen.volume import Volume
from ctgen.volume.orient import to_canonical
from ctgen.volume.resample import crop_or_pad, fit, resample

Outcome = dict[str, Any]
"""A record (see ctgen.data.prepared), or, with a "reason", why the case was left out."""

SAID = 40
"""Cases that were left out and are told one by one; a data set of many reconstructions leaves out thousands."""
SAMPLE = 4_000_000
"""Voxels looked at to see whether a scan's numbers are HU."""
LONGEST_MM = 2500.0
"""No scan covers more of a person; a header that says so is wrong."""


def to_grid(volume: Volume, settings: PrepareSettings) -> Volume:
    """Canonical orientation, HU of ``fill_hu`` and above, the recipe's spacing; H and W fitted, D cropped but never padded."""
    canonical, _ = to_canonical(volume, copy=False)
    placed, found = _placed(canonical, settings)
    return _fitted(placed, found, settings, settings.size[0])


def prepare_case(case: Case, settings: PrepareSettings, folder: Path, origin: dict[str, Any] | None = None) -> Outcome:
    """Prepare and store one case, or say why it is left out."""
    canonical, orientation = to_canonical(case.volume, copy=False)
    known = {} if origin is None else {"origin": origin}
    if reason := _coverage(canonical, settings) or measure_histogram(histogram_of(canonical.hu, at_most=SAMPLE)).wrong:
        return _leave_out(folder, case.id, reason, known)
    placed, found = _placed(canonical, settings)
    if found.lung_fraction < settings.min_lung_fraction:
        reason = (
            f"no chest: {found.lung_fraction:.1%} of it is lung, "
            f"less than prepare.min_lung_fraction = {settings.min_lung_fraction:.1%}"
        )
        return _leave_out(folder, case.id, reason, known)
    slices = settings.size[0] if settings.depth == "pad" else min(placed.shape[0], settings.size[0])
    slices = max(slices - slices % settings.depth_multiple, settings.depth_multiple)
    grid = _fitted(placed, found, settings, slices)
    if grid.shape[0] < slices:
        grid = crop_or_pad(grid, (slices, 1, 1), fill_hu=settings.fill_hu, axes="D")
    bits = None
    if case.masks is not None:
        there = Volume(pack(case.masks, case.volume.shape, case.id), case.volume.affine)
        bits = regrid(there, grid, settings.spacing_mm, found.centre_mm)
    facts = {
        "source_shape": list(case.volume.shape),
        "source_spacing_mm": list(case.volume.spacing_mm),
        "source_orientation": str(orientation),
        "lung_fraction": round(float(found.lung_fraction), 4),
        **known,
    }
    return write_case(folder, case, grid, facts, bits)


def _coverage(canonical: Volume, settings: PrepareSettings) -> str:
    """What is wrong with the length of a scan, or ""."""
    slices, spacing = canonical.shape[0], canonical.spacing_mm[0]
    what = f"{slices * spacing:.0f} mm of the body ({slices} slices of {spacing:g} mm)"
    if slices * spacing < settings.min_depth_mm:
        return f"covers {what}, less than prepare.min_depth_mm = {settings.min_depth_mm:g}"
    if slices * spacing > LONGEST_MM:
        return f"implausible spacing: it would cover {what}"
    return ""


def _placed(canonical: Volume, settings: PrepareSettings) -> tuple[Volume, Anatomy]:
    """The whole scan on the recipe's spacing, and what is in it."""
    if settings.spacing_mm == "keep":
        return canonical, anatomy(canonical)
    placed = resample(canonical, settings.spacing_mm, floor_hu=settings.fill_hu)
    # the resampled scan is smaller and shows the same at 4 mm, if it is fine enough
    return placed, anatomy(placed if max(settings.spacing_mm) <= COARSE_MM else canonical)


def _fitted(placed: Volume, found: Anatomy, settings: PrepareSettings, slices: int) -> Volume:
    """At most ``slices`` slices, H and W of the recipe around the body; -1024, -2048, -3024 and -8192 are all air."""
    size = (slices, *settings.size[1:])
    fitted = fit(placed, size, fill_hu=settings.fill_hu, centre_mm=found.centre_mm)
    if fitted.hu.min() < settings.fill_hu:
        hu = np.maximum(fitted.hu, fitted.hu.dtype.type(settings.fill_hu))
        return Volume(hu, fitted.affine, fitted.meta)
    return fitted


def run(context: Context, folder: Path) -> dict[str, Any]:
    """Resumable per case; the manifest is written last. Cases of earlier runs over other lists of scans are taken over."""
    dataset = context.components["data"]
    key = sharing_key(context.recipe, "prepare", context.components)
    earlier = earlier_folders(context.run_dir, "prepare", key, folder)
    mark(folder, key)
    pending = [index for index, case_id in enumerate(dataset.ids) if not _done(folder, case_id)]
    done = len(dataset.ids) - len(pending)
    work = _Work(context.recipe.prepare, folder, tuple(earlier))
    with (
        context.console.task("prepare", len(dataset.ids), unit="cases", done=done) as task,
        closing(_outcomes(context, pending, work)) as results,
    ):
        for case_id, unexpected in results:
            if unexpected:
                context.console.warn(f"{case_id} is left out: {unexpected}")
            task.advance()
            context.stopper.check()
    return _finish(context, folder, earlier)


def _done(folder: Path, case_id: str) -> bool:
    found = outcome_of(folder, case_id)
    return found is not None and not found.get("retry")


def _finish(context: Context, folder: Path, earlier: Sequence[Path]) -> dict[str, Any]:
    """The manifest, and what is said about it."""
    recipe, dataset = context.recipe, context.components["data"]
    cases: list[dict[str, Any]] = []
    skipped: list[dict[str, Any]] = [{"id": entry.id, "reason": entry.reason} for entry in dataset.skipped]
    without: list[str] = []
    for case_id in dataset.ids:
        outcome = outcome_of(folder, case_id)
        assert outcome is not None
        source = {"source": summary(outcome["origin"])} if "origin" in outcome else {}
        if "reason" in outcome:
            skipped.append({"id": case_id, "reason": outcome["reason"], **source})
            continue
        kept = {name: outcome[name] for name in ("id", "split", "shape", "spacing_mm", "voxels_sha256")}
        # masks may change where voxels do not
        kept |= {"masks_sha256": outcome["masks_sha256"]} if "masks" in outcome else {}
        # the data set says how it read the file's numbers, where there was something to decide
        read_as = {name: outcome["meta"][name] for name in ("file", "intensity") if name in outcome["meta"]}
        cases.append({**kept, **read_as, **source})
        if outcome["report"] is None:
            without.append(case_id)
    skipped.sort(key=lambda entry: entry["id"])
    if not cases:
        reasons = "\n".join(f"{entry['id']}: {entry['reason']}" for entry in skipped[:12])
        raise DataError(f"no case of {len(dataset.ids) + len(dataset.skipped)} is usable", hint=reasons)
    manifest = {
        "dataset": recipe.data.identity(),
        "settings": recipe.prepare.identity(),
        "same_file": POLICY,
        "cases": cases,
        "without_report": without,
        "skipped": skipped,
    }
    write_json(folder / "manifest.json", manifest)
    remove_leftovers(folder)
    for entry in skipped[:SAID]:
        context.console.say(f"  left out: {entry['id']}: {entry['reason']}")
    if len(skipped) > SAID:
        context.console.say(f"  left out: {len(skipped) - SAID} more; all in {folder / 'manifest.json'}")
    if without:
        context.console.say(f"  no report, so prompted with the empty one: {_listed(without)}")
    summed: dict[str, Any] = {"cases": len(cases), "left_out": len(skipped), "without_report": len(without)}
    if earlier:
        changes = Changes(earlier)
        for entry in (*cases, *skipped):
            changes.note(entry["id"], entry)
        write_json(folder / "changes.json", changes.found())
        summed["unchanged"] = changes.same
        context.console.say(f"  {changes}")
    return summed


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


def _leave_out(folder: Path, case_id: str, reason: str, facts: dict[str, Any]) -> Outcome:
    write_skipped(folder, Skipped(case_id, reason), facts)
    return {"id": case_id, "reason": reason, **facts}


@dataclass(frozen=True)
class _Work:
    """What a worker process needs beside the data set. ``earlier``: folders to take cases over from, the newest first."""

    settings: PrepareSettings
    folder: Path
    earlier: tuple[Path, ...]


def _one(dataset: Any, index: int, work: _Work) -> tuple[str, str]:
    """Id of the case that was done, and what was not expected. One bad file, whatever is bad about it, does not end the job.

    What ctgen can explain is left out for good; after anything else (the disk, the memory, a defect) the next run tries again.
    """
    case_id = dataset.ids[index]
    origin: dict[str, Any] | None = None
    facts: dict[str, Any] = {}
    try:
        if hasattr(dataset, "origin"):
            origin = stamp(dataset.origin(index))
            if _taken_over(case_id, origin, work):
                return case_id, ""
            facts = {"origin": (origin := with_hashes(origin))}
        case = dataset[index]
        prepare_case(case, work.settings, work.folder, origin)
    except CtgenError as error:
        _leave_out(work.folder, case_id, str(error), facts)
    except Exception as error:
        reason = f"not expected: {type(error).__name__}: {error}"
        _leave_out(work.folder, case_id, reason, {"retry": True})
        return case_id, reason
    return case_id, ""


def _taken_over(case_id: str, origin: dict[str, Any], work: _Work) -> bool:
    for earlier in work.earlier:
        found = outcome_of(earlier, case_id)
        if found is None or found.get("retry") or "origin" not in found:
            continue
        if (known := unchanged(found["origin"], origin)) is not None:
            take_over(earlier, work.folder, case_id, {**found, "origin": known})
            return True
    return False


def _outcomes(context: Context, pending: list[int], work: _Work) -> Generator[tuple[str, str], None, None]:
    recipe = context.recipe
    workers = min(recipe.prepare.workers, len(pending))
    if workers <= 1:
        for index in pending:
            yield _one(context.components["data"], index, work)
        return
    # loky: fresh processes (a forked copy of torch's thread pools can hang), without re-running the caller's script
    fields = json.dumps(recipe.data.config.model_dump(mode="json"))
    pool = Parallel(workers, return_as="generator_unordered")
    try:
        yield from pool(delayed(_in_worker)(recipe.data.name, fields, index, work) for index in pending)
    except TerminatedWorkerError as error:
        raise StageError(
            "a process that prepares scans was killed from outside, most likely because the memory was full",
            hint=f"the same command goes on; use fewer processes: prepare.workers={max(1, workers // 2)}",
        ) from error


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


def _in_worker(name: str, fields: str, index: int, work: _Work) -> tuple[str, str]:
    return _one(_worker_dataset(name, fields), index, work)
