"""Stage evaluate: the recipe's metrics over held-out cases, their reconstructions and what was generated for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ctgen.atomic import read_json, write_json
from ctgen.data.prepared import PreparedCases
from ctgen.errors import DataError
from ctgen.evaluate.bank import FeatureStore
from ctgen.evaluate.driver import evaluate
from ctgen.interfaces import EvaluationItem
from ctgen.sample.generator import reconstruct
from ctgen.stages.components import device, require
from ctgen.stages.context import Context
from ctgen.stages.plan import trains
from ctgen.stages.train import trained_component
from ctgen.volume import Volume
from ctgen.volume.io import read_volume, write_volume
from ctgen.volume.orient import to_canonical

COMPARABLE = "the recipe's own metrics; comparable only with runs of the same list (equal hash) over the same cases"


def samples(folder: Path) -> list[dict[str, Any]]:
    """The JSON of every volume that a sample stage wrote, by id."""
    return [read_json(path) for path in sorted(folder.glob("*.json")) if path.name not in ("stage.json", "summary.json")]


def canonical_volume(path: Path) -> Volume:
    return to_canonical(read_volume(path))[0]


def run(context: Context, folder: Path) -> dict[str, Any]:
    """Reconstructions are kept as NIfTI (resumable per case); the metrics are computed in one pass over all items."""
    recipe = context.recipe
    prepared = PreparedCases(context.folders["prepare"])
    if trains(recipe) == "autoencoder":
        trained_component(context, context.folders["train"])
    autoencoder = require(context.components, "autoencoder").to(device()).eval()
    made = {entry["id"]: entry for entry in samples(context.folders["sample"])} if "sample" in context.folders else {}
    held_out = prepared.ids("valid") or (prepared.ids("train") if made else [])
    if not held_out:
        raise DataError("there is no held-out case to evaluate on", hint="use a larger data.valid_fraction")
    if not prepared.ids("valid"):
        context.console.warn("no valid case: reconstructions are scored on TRAINING cases")
    ids = sorted({*held_out[: recipe.evaluate.count], *made})
    extractors = {key: recipe.host.build(use.kind, use.name, use.config) for key, use in recipe.extractors.items()}
    store = FeatureStore(extractors, folder / "features") if extractors else None

    def items() -> Iterator[EvaluationItem]:
        for case_id in context.console.track(ids, "evaluate", unit="cases"):
            real = prepared.volume(case_id)
            path = folder / "reconstructed" / f"{case_id}.nii.gz"
            if not path.is_file():
                write_volume(reconstruct(autoencoder, real, device()), path)
            entry = made.get(case_id)
            generated = canonical_volume(context.folders["sample"] / entry["file"]) if entry else None
            reconstructed = canonical_volume(path)
            yield EvaluationItem(
                case_id,
                real=real,
                reconstructed=reconstructed,
                generated=generated,
                boundaries=tuple(entry["boundaries"]) if entry else (),
                seconds=entry["seconds"] if entry else None,
                labels=prepared.record(case_id)["labels"],
                report=prepared.report(case_id),
                features=None
                if store is None
                else store.bank({"real": real, "generated": generated, "reconstructed": reconstructed}),
                evaluations=entry.get("evaluations") if entry else None,
                peak_bytes=entry.get("peak_bytes") if entry else None,
            )
            context.stopper.check()

    def training() -> Iterator[EvaluationItem]:
        chosen = prepared.ids("train")[: recipe.evaluate.reference]
        for case_id in context.console.track(chosen, "features of training cases", unit="cases"):
            real = prepared.volume(case_id)
            yield EvaluationItem(case_id, real=real, features=None if store is None else store.bank({"real": real}))
            context.stopper.check()

    metrics: dict[str, Any] = {}
    for use in recipe.metrics:
        # the same metric may be listed again with other settings
        again = sum(name.split(" #")[0] == use.name for name in metrics)
        metrics[f"{use.name} #{again + 1}" if again else use.name] = recipe.host.build("metric", use.name, use.config)
    described = store.describe() if store else None
    protocol = {"name": f"recipe:{recipe.name}", "comparable": COMPARABLE}
    result = evaluate(items(), metrics, protocol=protocol, reference=training if store else None, extractors=described)
    write_json(folder / "metrics.json", result.to_json())
    return {"cases": len(ids), "generated": len(made)}
