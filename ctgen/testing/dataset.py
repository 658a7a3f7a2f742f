"""What every data set must do."""

from __future__ import annotations

import json
import pickle
import re
from typing import Any

import numpy as np

from ctgen.data.labels import LABELS
from ctgen.interfaces import Case, Origin, Report, Skipped
from ctgen.testing.expect import equal, expect, global_rng_untouched
from ctgen.volume import Volume
from ctgen.volume.orient import from_canonical, to_canonical

_FILE_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


def check_dataset(dataset: Any, *, limit: int = 2) -> None:
    """Unique file-safe ids, deterministic cases that do not depend on the order of reading, HU with geometry, known labels.

    ``limit``: how many cases to read (twice each).
    """
    ids = list(dataset.ids)
    equal("len(dataset) and len(dataset.ids)", len(dataset), len(ids))
    expect(bool(ids), "0 cases, wanted at least 1")
    twice = sorted({one for one in ids if ids.count(one) > 1}) if len(ids) < 5000 else []
    expect(len(set(ids)) == len(ids), f"{len(ids)} ids, {len(set(ids))} of them different; twice: {twice[:5]}")
    unsafe = [one for one in ids if not _FILE_SAFE.fullmatch(one)]
    expect(not unsafe, f"{len(unsafe)} of {len(ids)} ids are no file names: {unsafe[:5]}; wanted letters, digits, . _ -")
    for skipped in dataset.skipped:
        expect(
            isinstance(skipped, Skipped) and bool(skipped.reason), f"skipped: found {skipped!r}, wanted Skipped with a reason"
        )
    lost = {skipped.id for skipped in dataset.skipped} & set(ids)
    expect(not lost, f"both offered and skipped: {sorted(lost)[:5]}")

    chosen = sorted({0, len(ids) - 1, *range(min(limit, len(ids)))})[:limit]
    with global_rng_untouched("reading cases"):
        cases = {index: dataset[index] for index in chosen}
    copy = pickle.loads(pickle.dumps(dataset))
    for index in reversed(chosen):
        _check_case(cases[index], ids[index])
        again = copy[index]
        equal(f"case {index} read twice: id", again.id, cases[index].id)
        apart = (
            int((again.volume.hu != cases[index].volume.hu).sum()) if again.volume.shape == cases[index].volume.shape else -1
        )
        equal(f"case {index} read in another order from a pickled copy: differing voxels", apart, 0)
        for name in ("report", "labels", "split"):
            equal(f"case {index} read twice: {name}", getattr(again, name), getattr(cases[index], name))
        _same_masks(f"case {index} read twice: masks", again.masks, cases[index].masks)
    if hasattr(dataset, "origin"):
        _check_origins(dataset, copy, cases)
    try:
        dataset[len(ids)]
    except IndexError:
        return
    raise AssertionError(f"dataset[{len(ids)}] of {len(ids)} cases: no IndexError")


def _check_origins(dataset: Any, copy: Any, cases: dict[int, Case]) -> None:
    """JSON-ready facts and files that are there; the same each time, and not the same for two cases."""
    seen: dict[str, int] = {}
    for index, case in cases.items():
        origin = dataset.origin(index)
        expect(isinstance(origin, Origin), f"origin({index}): found {type(origin).__name__}, wanted an Origin")
        missing = [str(path) for path in origin.files if not path.is_file()]
        expect(not missing, f"origin({index}): no file at {missing[:3]}")
        facts = json.dumps(dict(origin.facts), sort_keys=True)
        equal(f"origin({index}) from a pickled copy: facts", json.dumps(dict(copy.origin(index).facts), sort_keys=True), facts)
        known = seen.setdefault(f"{origin.files}{facts}", index)
        expect(known == index, f"origin({known}) and origin({index}) are the same, but {case.id!r} is another case")


def _check_case(case: Any, wanted: str) -> None:
    expect(isinstance(case, Case), f"found {type(case).__name__}, wanted a Case")
    equal("Case.id and dataset.ids", case.id, wanted)
    expect(case.split in ("train", "valid"), f"case {case.id}: split {case.split!r}, wanted 'train' or 'valid'")
    expect(case.report is None or isinstance(case.report, Report), f"case {case.id}: report is {type(case.report).__name__}")
    if case.labels is not None:
        unknown = sorted(set(case.labels) - set(LABELS))
        expect(not unknown, f"case {case.id}: labels {unknown} are not among the {len(LABELS)} of CT-RATE")
        values = sorted(set(case.labels.values()) - {0, 1})
        expect(not values, f"case {case.id}: label values {values}, wanted 0 or 1")
    json.dumps(dict(case.meta))
    check_volume(case.volume, f"case {case.id}")
    for label, mask in (case.masks or {}).items():
        expect(label in LABELS, f"case {case.id}: a mask of {label!r}, which is not among the {len(LABELS)} labels of CT-RATE")
        expect(mask.dtype == np.bool_, f"case {case.id}: the mask of {label} is {mask.dtype}, wanted bool")
        equal(f"case {case.id}: shape of the mask of {label} and of the volume", mask.shape, case.volume.shape)


def _same_masks(what: str, again: Any, first: Any) -> None:
    equal(f"{what}: labels", None if again is None else list(again), None if first is None else list(first))
    for label in first or ():
        equal(f"{what}: differing voxels of {label}", int((again[label] != first[label]).sum()), 0)


def check_volume(volume: Any, what: str) -> None:
    """HU of a stored kind, finite, not rescaled, with an affine that can be inverted and brought to canonical and back."""
    expect(isinstance(volume, Volume), f"{what}: found {type(volume).__name__}, wanted a ctgen Volume")
    expect(volume.hu.dtype in (np.int16, np.float32), f"{what}: voxels are {volume.hu.dtype}, wanted int16 or float32")
    bad = int((~np.isfinite(volume.hu)).sum())
    expect(bad == 0, f"{what}: {bad} of {volume.hu.size} voxels are not finite, wanted 0")
    low, high = float(volume.hu.min()), float(volume.hu.max())
    expect(high - low > 10.0, f"{what}: voxels are {low:g} .. {high:g}, wanted HU; were they rescaled?")
    expect(volume.affine.dtype == np.float64, f"{what}: affine is {volume.affine.dtype}, wanted float64")
    determinant = float(np.linalg.det(volume.affine[:3, :3]))
    expect(
        np.isfinite(determinant) and abs(determinant) > 1e-9,
        f"{what}: affine's determinant is {determinant:g}, wanted a cell's volume",
    )
    canonical, orientation = to_canonical(volume)
    back = from_canonical(canonical, orientation)
    equal(f"{what}: shape after canonical and back", back.shape, volume.shape)
    equal(f"{what}: voxels that differ after canonical and back", int((back.hu != volume.hu).sum()), 0)
    apart = float(np.abs(back.affine - volume.affine).max())
    expect(apart < 1e-6, f"{what}: affine after canonical and back differs by {apart:g} mm, wanted under 1e-6")
