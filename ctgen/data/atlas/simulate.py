"""Simulated cases as files: a folder that the ``folder`` data set reads."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ctgen import __version__
from ctgen.atomic import fingerprint, read_json, write_json, write_text
from ctgen.data.atlas.config import AtlasThoraxConfig
from ctgen.data.atlas.dataset import SIMULATOR, AtlasThorax, case_from
from ctgen.data.atlas.scan import Simulated, simulate
from ctgen.data.folder_config import MASKS_MARK
from ctgen.data.labels import LABELS
from ctgen.data.mask_files import ORGANS, write_mask
from ctgen.errors import DataError
from ctgen.interfaces import Case, Report
from ctgen.volume.io import write_volume

if TYPE_CHECKING:
    from ctgen.console import Console

ATTRIBUTION = (
    "Derived from LIDC-IDRI-0001 (CC BY 3.0): Armato III SG et al., Data From LIDC-IDRI, The Cancer Imaging Archive 2015, "
    "doi:10.7937/K9/TCIA.2015.LO9QL9SX. Deformed, changed and given findings by ctgen's simulator."
)
PROVENANCE = "provenance.json"
MASKS = "masks"


def simulate_to_folder(
    out: Path, cases: int, seed: int, config: AtlasThoraxConfig | None = None, *, console: Console | None = None
) -> Path:
    """Write ``<id>.nii.gz`` and ``<id>.json`` per case, ``reports.csv`` and ``provenance.json`` into ``out``; returns ``out``.

    With ``config.masks`` also ``masks/<id>/<finding>.nii.gz`` of each finding, ``masks/<id>/organs.nii.gz``, and
    ``masks/organs.json``, the organs' names by value (a string).

    ``cases`` and ``seed`` go before those of ``config``. The same call goes on where it was interrupted; with more cases it
    adds them, with masks those. Raises DataError, and writes nothing, if ``out`` holds anything else.
    """
    config = AtlasThoraxConfig.model_validate({**(config or AtlasThoraxConfig()).model_dump(), "cases": cases, "seed": seed})
    dataset = AtlasThorax(config)
    recipe = {key: value for key, value in config.identity().items() if key not in ("cases", "masks")}
    # Only what decides the cases: a newer ctgen with the same simulator may go on.
    state = {"dataset": "atlas-thorax", "simulator": SIMULATOR, "config": recipe, "key": fingerprint([SIMULATOR, recipe])}
    check_folder(out, state)
    out.mkdir(parents=True, exist_ok=True)
    if not (out / PROVENANCE).exists():
        write_json(out / PROVENANCE, {**state, "ctgen": __version__, "attribution": ATTRIBUTION})
    if console is None:
        from ctgen.console import Console

        console = Console(quiet=True)
    with console.task("simulate", total=cases, unit="cases") as task:
        for index, case_id in enumerate(dataset.ids):
            whole = (out / f"{case_id}.json").exists()
            if not whole or (config.masks and not _organs_file(out, case_id).exists()):
                _write_case(out, index, config, masks_alone=whole)
            task.advance(note=case_id)
    _write_reports(out)
    return out


def check_folder(out: Path, state: Mapping[str, object]) -> None:
    """DataError unless ``out`` is new, empty, or was written with the same ``state["key"]``."""
    if not out.exists():
        return
    if not out.is_dir():
        raise DataError(f"{out} is not a folder", hint="name a new folder")
    present = [path for path in out.iterdir() if not path.name.startswith(".writing-")]
    if not present:
        return
    if not (out / PROVENANCE).is_file():
        raise DataError(
            f"{out} holds files that the simulator did not write, such as {present[0].name}", hint="name a new folder"
        )
    if read_json(out / PROVENANCE).get("key") != state["key"]:
        raise DataError(f"{out} holds cases of another seed, config or simulator version", hint="name a new folder")


def _write_case(out: Path, index: int, config: AtlasThoraxConfig, *, masks_alone: bool) -> None:
    """The record last: a case whose JSON is there is complete, perhaps but for masks."""
    simulated = simulate(config.seed, index, config, with_masks=config.masks)
    case = case_from(simulated, config.seed, index, config)
    if not masks_alone:
        write_volume(case.volume, out / f"{case.id}.nii.gz")
    if config.masks:
        _write_masks(out, case, simulated)
    if not masks_alone:
        _write_record(out, case)


def _write_masks(out: Path, case: Case, simulated: Simulated) -> None:
    """The organs last: masks whose organs are there are complete."""
    assert simulated.labels is not None
    if not (out / MASKS / MASKS_MARK).exists():
        write_json(out / MASKS / MASKS_MARK, {str(value): name for value, name in simulated.names.items()})
    organs = _organs_file(out, case.id)
    for label, mask in (case.masks or {}).items():
        write_mask(organs.with_name(f"{label.lower().replace(' ', '_')}.nii.gz"), mask, case.volume)
    write_mask(organs, simulated.labels, case.volume)


def _organs_file(out: Path, case_id: str) -> Path:
    return out / MASKS / case_id / f"{ORGANS}.nii.gz"


def _write_record(out: Path, case: Case) -> None:
    report = case.report or Report("")
    write_json(
        out / f"{case.id}.json",
        {"id": case.id, "split": case.split, "report": vars(report), "labels": case.labels, "meta": case.meta},
    )


def _write_reports(out: Path) -> None:
    """``reports.csv`` of all complete cases in the folder, in order of their ids."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "findings", "impressions", "clinical_information", "technique", *LABELS])
    for path in sorted(out.glob("atlas-*.json")):
        case = read_json(path)
        report = case["report"]
        parts = [report[name] for name in ("findings", "impressions", "clinical_information", "technique")]
        writer.writerow([case["id"], *parts, *(case["labels"][label] for label in LABELS)])
    write_text(out / "reports.csv", text.getvalue())
