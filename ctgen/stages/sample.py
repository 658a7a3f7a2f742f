"""Stage sample: volumes for held-out reports, each with a JSON that says how it was made."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from ctgen.atomic import read_json, sha256_of, write_json
from ctgen.data.prepared import PreparedCases
from ctgen.errors import DataError
from ctgen.interfaces import CaseRequest, Report
from ctgen.provenance import provenance
from ctgen.sample.generator import ComposedGenerator, Generated
from ctgen.stages.components import device, require
from ctgen.stages.context import Context
from ctgen.stages.train import trained_component


def composed(context: Context) -> ComposedGenerator:
    """The generator of a trained run: every part in evaluation mode on the device, the backbone with its trained weights."""
    trained_component(context, context.folders["train"])
    for section in ("autoencoder", "text_encoder", "backbone"):
        require(context.components, section).to(device()).eval()
    return ComposedGenerator(context.components, context.recipe.prepare, context.recipe.sample, where=device())


def sidecar(context: Context, request: CaseRequest, seed: int, generated: Generated, path: Path) -> dict[str, Any]:
    """What is written beside a volume."""
    return {
        "id": request.id,
        "file": path.name,
        "sha256": sha256_of(path),
        "synthetic": True,
        "report": asdict(request.report),
        "seed": seed,
        "shape": list(generated.volume.shape),
        "spacing_mm": [round(spacing, 9) for spacing in generated.volume.spacing_mm],
        "boundaries": list(generated.boundaries),
        "mode": "block-wise" if request.teacher is not None else "gt-head" if request.head is not None else "full-body",
        "head_slices": generated.head_slices,
        "evaluations": generated.evaluations,
        "seconds": round(generated.seconds, 2),
        "note": generated.note,
        "provenance": provenance(context.recipe, context.components),
    }


def run(context: Context, folder: Path) -> dict[str, Any]:
    """Resumable per case: a volume whose JSON is there is kept."""
    recipe = context.recipe
    settings = recipe.sample
    prepared = PreparedCases(context.folders["prepare"])
    ids = prepared.ids(settings.split)[: settings.count]
    if not ids:
        raise DataError(
            f"there is no {settings.split} case to sample for", hint="set sample.split=train or a larger data.valid_fraction"
        )
    if len(ids) < settings.count:
        context.console.say(f"  {len(ids)} {settings.split} cases, fewer than sample.count = {settings.count}")
    exporter = recipe.build("export")
    generator = composed(context)
    depths = {case_id: _slices(settings.length, prepared.record(case_id)["shape"][0]) for case_id in ids}
    with context.console.task(
        "sample", sum(depths[case_id] or prepared.record(case_id)["shape"][0] for case_id in ids), unit="slices"
    ) as task:
        before = 0
        for case_id in ids:
            if not (folder / f"{case_id}.json").is_file():
                report = prepared.report(case_id) or Report(findings="")
                real = None if settings.mode == "full-body" else prepared.volume(case_id)
                head, teacher = (real, None) if settings.mode == "gt-head" else (None, real)
                request = CaseRequest(case_id, report, slices=depths[case_id], head=head, teacher=teacher)
                generated = generator.run(request, settings.seed, _progress(context, task, before, case_id))
                path = exporter.write(generated.volume, folder / f"{case_id}{exporter.suffix}")
                write_json(folder / f"{case_id}.json", sidecar(context, request, settings.seed, generated, path))
            before += read_json(folder / f"{case_id}.json")["shape"][0]
            task.set(before, case_id)
            context.stopper.check()
    made = [read_json(folder / f"{case_id}.json") for case_id in ids]
    return {
        "volumes": len(made),
        "seconds_per_volume": round(sum(entry["seconds"] for entry in made) / len(made), 2),
        "evaluations_per_volume": round(sum(entry["evaluations"] for entry in made) / len(made), 1),
        "notes": sorted({entry["note"] for entry in made if entry["note"]}),
    }


def _progress(context: Context, task: Any, before: int, case_id: str) -> Any:
    def progress(done: int, expected: int) -> None:
        task.set(before + done, case_id)
        context.stopper.check()

    return progress


def _slices(length: str | int, real: int) -> int | None:
    if length == "case":
        return real
    return None if length == "model" else int(length)
