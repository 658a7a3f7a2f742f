"""``ctgen data simulate --layout ct-rate``: simulated cases as files in exactly CT-RATE's layout, with or without its traps."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ctgen import __version__
from ctgen.atomic import fingerprint, read_json, stable_hash, write_json, write_text
from ctgen.data.atlas.config import AtlasThoraxConfig
from ctgen.data.atlas.dataset import SIMULATOR, AtlasThorax
from ctgen.data.atlas.simulate import ATTRIBUTION, PROVENANCE, check_folder
from ctgen.data.ct_rate.layout import COLUMNS, FOLDERS, NO_CHEST, SPLITS, TABLES
from ctgen.data.ct_rate.plan import Kind, Plan, PlannedVolume, padded, plan
from ctgen.data.ct_rate.rows import label_row, metadata_row, report_row
from ctgen.data.ct_rate.spoil import spoil_bytes, spoil_hu
from ctgen.interfaces import Case, Report
from ctgen.volume.io import write_volume
from ctgen.volume.volume import Volume

if TYPE_CHECKING:
    from ctgen.console import Console

PLANTED = "planted.json"
PADDING_HU = -8192
NO_GEOMETRY = np.array([[0, 0, -1.0, 0], [0, -1.0, 0, 0], [1.0, 0, 0, 0], [0, 0, 0, 1.0]])
"""1 x 1 x 1 mm at the origin, with NIfTI's own axes: what a file without a geometry says (LPS)."""
LAYOUT = 1
"""Raise with every change that changes a file."""


def simulate_ct_rate(
    out: Path,
    cases: int,
    seed: int,
    *,
    kind: Kind = "fixed",
    damage: bool = False,
    config: AtlasThoraxConfig | None = None,
    console: Console | None = None,
) -> Path:
    """Write ``cases`` simulated scans as a copy of CT-RATE into ``out``; returns ``out``.

    ``out/dataset`` is the copy; ``out/cases`` holds what is known of every scan; ``planted.json`` every trap and where it is.
    The same call goes on where it was interrupted. Raises DataError, and writes nothing, if ``out`` holds anything else.
    """
    config = AtlasThoraxConfig.model_validate({**(config or AtlasThoraxConfig()).model_dump(), "cases": cases, "seed": seed})
    dataset, made = AtlasThorax(config), plan(cases, seed, kind, damage=damage)
    recipe = {key: value for key, value in config.identity().items() if key not in ("cases", "valid_fraction")}
    recipe |= {"intensity": kind, "layout": LAYOUT} | ({"damage": cases} if damage else {})
    state = {"dataset": "ct-rate, simulated", "simulator": SIMULATOR, "config": recipe, "key": fingerprint([SIMULATOR, recipe])}
    check_folder(out, state)
    out.mkdir(parents=True, exist_ok=True)
    if not (out / PROVENANCE).exists():
        write_json(out / PROVENANCE, {**state, "ctgen": __version__, "attribution": ATTRIBUTION})
    if console is None:
        from ctgen.console import Console

        console = Console(quiet=True)
    scans: dict[int, list[PlannedVolume]] = {}
    for one in made.volumes:
        scans.setdefault(one.case, []).append(one)
    with console.task("simulate", total=cases, unit="scans") as task:
        for case, volumes in sorted(scans.items()):
            if not (out / "cases" / f"{case:05d}.json").exists():
                _write_scan(out, made, dataset[case], case, volumes, seed)
            task.advance(note=volumes[0].scan)
    for path, text in made.extra.items():
        write_text(out / "dataset" / path, text)
    _write_tables(out, made, seed)
    planted = [asdict(trap) for trap in made.planted]
    write_json(out / PLANTED, {"seed": seed, "scans": cases, "volumes": len(made.volumes), "planted": planted})
    return out


def reconstruct(volume: Volume, reconstruction: int) -> Volume:
    """1: as it is; 2: soft, with pairs of slices averaged."""
    if reconstruction == 1:
        return volume
    even = len(volume.hu) // 2 * 2
    pairs = volume.hu[:even].reshape(-1, 2, *volume.hu.shape[1:]).astype(np.float32).mean(axis=1)
    soft = (pairs + np.roll(pairs, 1, axis=2) + np.roll(pairs, -1, axis=2)) / 3
    soft[:, :, [0, -1]] = pairs[:, :, [0, -1]]
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, 0] / 2
    affine[:3, 0] *= 2
    return Volume(np.rint(soft).astype(np.int16), affine)


def _write_scan(out: Path, made: Plan, case: Case, index: int, volumes: Sequence[PlannedVolume], seed: int) -> None:
    """The volumes first: a scan whose JSON is there is complete."""
    facts: dict[str, Any] = {}
    for one in volumes:
        hu = reconstruct(case.volume, one.reconstruction)
        if padded(seed, index):
            hu = Volume(np.where(_circle(hu.shape), hu.hu, PADDING_HU).astype(np.int16), hu.affine)
        facts[str(one.reconstruction)] = {
            "shape": list(hu.shape),
            "spacing_mm": list(hu.spacing_mm),
            "origin_mm": hu.affine[:3, 3].tolist(),
            "reconstruction": one.reconstruction,
        }
        if one.harm != "absent":
            _write_volume(out / "dataset" / one.path(made.kind), hu, one, made.kind, _intercept(seed, index))
    known = {"id": case.id, "scan": volumes[0].scan, "report": vars(case.report or Report("")), "labels": case.labels}
    write_json(out / "cases" / f"{index:05d}.json", {**known, "meta": case.meta, "volumes": facts})


def _write_volume(path: Path, volume: Volume, one: PlannedVolume, kind: Kind, intercept: int) -> None:
    hu = spoil_hu(volume.hu, volume.spacing_mm, one.harm, stable_hash("ct-rate spoil", one.name))
    as_hu = one.harm in ("hu-in-raw", "hu-twice") or (kind == "fixed" and one.harm != "raw-in-fixed")
    stored = hu if as_hu else hu - np.int16(intercept)
    # Raw files of CT-RATE have lost their geometry: it is in the table.
    affine = volume.affine if kind == "fixed" else NO_GEOMETRY
    write_volume(Volume(stored, affine), path)
    spoil_bytes(path, one.harm)


def _intercept(seed: int, case: int) -> int:
    return PADDING_HU if padded(seed, case) else -1024


def _circle(shape: Sequence[int]) -> NDArray[np.bool_]:
    _, height, width = shape
    y, x = np.mgrid[:height, :width]
    inside: NDArray[np.bool_] = ((2 * y - height + 1) / height) ** 2 + ((2 * x - width + 1) / width) ** 2 <= 1.0
    return inside


def _write_tables(out: Path, made: Plan, seed: int) -> None:
    cases = {case: read_json(out / "cases" / f"{case:05d}.json") for case in {one.case for one in made.volumes}}
    reports = {case: record["report"] for case, record in cases.items()}
    for split in SPLITS:
        rows: dict[str, list[list[str]]] = {"reports": [], "labels": [], "metadata": []}
        for one in (one for one in made.volumes if one.side == split):
            _add_rows(rows, one, cases[one.case], reports, seed)
        if not any(rows.values()):
            continue
        for kind, wanted in COLUMNS.items():
            columns = list(wanted)
            if kind == "labels" and split in made.swapped:
                columns[1], columns[2] = columns[2], columns[1]
                rows[kind] = [[row[0], row[2], row[1], *row[3:]] for row in rows[kind]]
            _write_csv(out / "dataset" / TABLES[kind][split], columns, rows[kind])
        write_text(out / "dataset" / NO_CHEST[split], "")
    for folder in FOLDERS:
        if folder.endswith("_fixed") == (made.kind == "fixed") and any(one.side == FOLDERS[folder][0] for one in made.volumes):
            (out / "dataset" / folder).mkdir(parents=True, exist_ok=True)


def _add_rows(
    rows: Mapping[str, list[list[str]]], one: PlannedVolume, case: Mapping[str, Any], reports: Mapping[int, Any], seed: int
) -> None:
    report = {} if one.rows == "no-report" else case["report"]
    if one.rows != "no-report-row":
        rows["reports"].append(report_row(one.name, report))
    if one.rows == "duplicate-row":
        rows["reports"].append(report_row(one.name, report))
    if one.rows == "conflicting-rows":
        other = next(text for number, text in sorted(reports.items()) if text != report and number != one.case)
        rows["reports"].append(report_row(one.name, other))
    rows["labels"].append(label_row(one.name, case["labels"]))
    volume = dict(case["volumes"][str(one.reconstruction)])
    if one.rows == "metadata-mismatch":
        volume["shape"] = [volume["shape"][0] + 1, *volume["shape"][1:]]
    rows["metadata"].append(metadata_row(one.name, seed, case["meta"], volume, _intercept(seed, one.case)))


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    write_text(path, text.getvalue())
