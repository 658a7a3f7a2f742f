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
from ctgen.recipe.sampling import guidance_warning
from ctgen.recipe.settings import SampleSettings
from ctgen.sample.generator import ComposedGenerator, Generated
from ctgen.stages.components import device, require
from ctgen.stages.context import Context
from ctgen.stages.plan import GENERATING
from ctgen.stages.processes import rank, wait_for_everyone, wait_for_files, world_size
from ctgen.stages.train import trained_component
from ctgen.volume import Volume


def composed(context: Context) -> ComposedGenerator:
    """The generator of a trained run: every part in evaluation mode on the device, the backbone with its trained weights."""
    trained_component(context, context.folders["train"])
    if warning := guidance_warning(context.recipe):
        context.console.warn(warning)
    for section in GENERATING:
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


def described(volume: Volume, context: Context, request: CaseRequest, seed: int) -> Volume:
    """The volume with what formats that can (DICOM) say about its origin: id, report, seed, recipe and weights."""
    made = provenance(context.recipe, context.components)
    # no paths: the same run elsewhere is the same origin
    weights = {name: {"label": found["label"], "sha256": found["sha256"]} for name, found in made["weights"].items()}
    made_by = {"recipe": made["recipe"], "recipe_hash": made["recipe_hash"], "weights": weights}
    facts = {"id": request.id, "report": asdict(request.report), "seed": seed, "made_by": made_by}
    return Volume(volume.hu, volume.affine, {**volume.meta, **facts})


def run(context: Context, folder: Path) -> dict[str, Any]:
    """Resumable per case: a volume whose JSON is there is kept. Under torchrun each process makes its share of the cases."""
    # the folder, and before it the trained weights, are there when the first process is here
    wait_for_everyone()
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
    own = ids[rank() :: world_size()]
    real = {case_id: int(prepared.record(case_id)["shape"][0]) for case_id in own}
    depths = {case_id: _slices(settings.length, real[case_id]) for case_id in own}
    jsons = {case_id: folder / f"{case_id}.json" for case_id in ids}
    with context.console.task("sample", sum(depths[case_id] or real[case_id] for case_id in own), unit="slices") as task:
        done = {case_id: int(read_json(jsons[case_id])["shape"][0]) for case_id in own if jsons[case_id].is_file()}
        missing = [case_id for case_id in own if case_id not in done]
        task.set(sum(done.values()))

        def progress(case_id: str, slices: int, expected: int) -> None:
            done[case_id] = slices
            task.set(sum(done.values()), case_id)
            context.stopper.check()

        keeps = recipe.prepare.spacing_mm == "keep"
        requests = (_request(settings, prepared, case_id, depths[case_id], keeps_spacing=keeps) for case_id in missing)
        for request, generated in generator.run_together(requests, settings.seed, progress=progress):
            path = exporter.write(
                described(generated.volume, context, request, settings.seed), folder / f"{request.id}{exporter.suffix}"
            )
            write_json(jsons[request.id], sidecar(context, request, settings.seed, generated, path))
            done[request.id] = generated.volume.shape[0]
            task.set(sum(done.values()), request.id)
            context.stopper.check()
        if rank() == 0:
            wait_for_files(jsons.values(), context.stopper.check)
    made = [read_json(jsons[case_id]) for case_id in (ids if rank() == 0 else own)]
    return {
        "volumes": len(made),
        "seconds_per_volume": round(sum(entry["seconds"] for entry in made) / max(1, len(made)), 2),
        "evaluations_per_volume": round(sum(entry["evaluations"] for entry in made) / max(1, len(made)), 1),
        "notes": sorted({entry["note"] for entry in made if entry["note"]}),
    }


def _request(
    settings: SampleSettings, prepared: PreparedCases, case_id: str, slices: int | None, *, keeps_spacing: bool
) -> CaseRequest:
    real = None if settings.mode == "full-body" else prepared.volume(case_id)
    return CaseRequest(
        case_id,
        prepared.report(case_id) or Report(findings=""),
        slices=slices,
        spacing_mm=tuple(prepared.record(case_id)["spacing_mm"]) if keeps_spacing else None,
        head=real if settings.mode == "gt-head" else None,
        teacher=real if settings.mode == "block-wise" else None,
    )


def _slices(length: str | int, real: int) -> int | None:
    if length == "case":
        return real
    return None if length == "model" else int(length)
