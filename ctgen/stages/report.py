"""Stage report: pictures, plots and one self-contained HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ctgen.atomic import read_json
from ctgen.data.prepared import PreparedCases
from ctgen.interfaces import Report
from ctgen.provenance import provenance
from ctgen.report import plots
from ctgen.report.content import Figure, ReportContent
from ctgen.report.html import write_report
from ctgen.report.montage import in_words, montage
from ctgen.stages.context import Context
from ctgen.stages.evaluate import canonical_volume, samples
from ctgen.stages.plan import DONE
from ctgen.stages.train import adopt_trained
from ctgen.volume import Volume

PICTURED = 6
"""Cases shown; the metrics cover all."""


def run(context: Context, folder: Path) -> dict[str, Any]:
    """Reads what the stages before left behind; computes nothing but pictures."""
    recipe = context.recipe
    adopt_trained(context, context.folders["train"])
    prepared = PreparedCases(context.folders["prepare"])
    records = [read_json(path / DONE) for stage, path in context.folders.items() if stage != "report"]
    figures = [
        *_pictures(context, prepared, folder),
        Figure(
            plots.loss_curve(context.folders["train"] / "metrics.jsonl", folder / "loss.png"),
            "Training loss",
            section="training",
        ),
    ]
    metrics = read_json(context.folders["evaluate"] / "metrics.json") if "evaluate" in context.folders else None
    content = ReportContent(
        title=f"ctgen: {recipe.name}",
        provenance=provenance(recipe, context.components),
        stages=records,
        metrics=metrics,
        figures=figures,
        skipped=prepared.skipped,
        recipe_yaml=recipe.to_yaml(),
        warnings=_warnings(context, prepared),
    )
    path = write_report(folder / "report.html", content)
    return {"file": path.name, "figures": len(figures)}


def _pictures(context: Context, prepared: PreparedCases, folder: Path) -> list[Figure]:
    """Per case real | reconstructed | generated, then histograms and slice differences over the first case."""
    settings = context.recipe.report
    made = {entry["id"]: entry for entry in samples(context.folders["sample"])} if "sample" in context.folders else {}
    reconstructions = context.folders["evaluate"] / "reconstructed" if "evaluate" in context.folders else folder
    ids = sorted(made) or [path.name.removesuffix(".nii.gz") for path in sorted(reconstructions.glob("*.nii.gz"))]
    figures: list[Figure] = []
    for number, case_id in enumerate(ids[:PICTURED]):
        columns: list[tuple[str, Volume]] = [("real", prepared.volume(case_id))]
        seams: dict[str, tuple[int, ...]] = {}
        if (reconstructions / f"{case_id}.nii.gz").is_file():
            columns.append(("reconstructed", canonical_volume(reconstructions / f"{case_id}.nii.gz")))
        if case_id in made:
            columns.append(("generated", canonical_volume(context.folders["sample"] / made[case_id]["file"])))
            seams["generated"] = tuple(made[case_id]["boundaries"])
        path = montage(
            columns, folder / f"{case_id}.png", window=settings.window, slices=settings.slices, title=case_id, boundaries=seams
        )
        names = [name for name, _ in columns]
        alt = in_words(case_id, names, settings.slices)
        figures.append(Figure(path, f"{case_id}: {' | '.join(names)}", _text(prepared.report(case_id)), alt=alt))
        if number == 0:
            histogram = plots.hu_histograms(columns, folder / "histograms.png")
            figures.append(Figure(histogram, f"HU histograms, case {case_id}", section="plots"))
            if case_id in made:
                steps = plots.slice_differences(
                    [(name, volume, seams.get(name, ())) for name, volume in columns], folder / "slice-differences.png"
                )
                figures.append(
                    Figure(steps, f"|dz| along the body, case {case_id}; lines mark block boundaries", section="plots")
                )
        context.stopper.check()
    return figures


def _text(report: Report | None) -> str:
    if report is None:
        return "(no report)"
    return f"Findings: {report.findings}" + (f"\nImpressions: {report.impressions}" if report.impressions else "")


def _warnings(context: Context, prepared: PreparedCases) -> list[str]:
    found = []
    for section, component in context.components.items():
        weights = getattr(component, "weights", None)
        if weights is not None and weights.label == "RANDOM":
            found.append(f"{section}: RANDOM weights. What depends on it says nothing about a trained model.")
    train = read_json(context.folders["train"] / DONE)["summary"]
    if train["started_from"].startswith("MINI"):
        found.append(f"{train['trains']}: this run continued the shipped MINI weights for {train['steps']} steps.")
    if "evaluate" in context.folders:
        scored = read_json(context.folders["evaluate"] / "metrics.json")["per_case"]
        seen = [case_id for case_id in scored if prepared.record(case_id)["split"] == "train"]
        if seen:
            found.append(f"{len(seen)} of {len(scored)} scored cases are TRAINING cases: {', '.join(seen[:8])}")
    without = prepared.manifest["without_report"]
    if without:
        found.append(f"{len(without)} cases have no report and are prompted with the empty one: {', '.join(without[:8])}")
    return found
