"""A bench from beginning to end: cases, volumes, numbers, comparisons, the files that are written."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ctgen.atomic import write_json, write_text
from ctgen.bench.adopt import adopt_folder
from ctgen.bench.cases import Cases, PreparedDataset, prepare_cases, prepare_training
from ctgen.bench.compare import compare
from ctgen.bench.definitions import Suite
from ctgen.bench.models import ModelSpec, model_specs
from ctgen.bench.pinned import require_same
from ctgen.bench.produce import produce
from ctgen.bench.product import Product
from ctgen.bench.reading import load_protocol, load_suite
from ctgen.bench.score import HALVES, Scored, open_protocol, score
from ctgen.bench.tables import csv_text, markdown
from ctgen.bench.volumes import listed
from ctgen.interfaces import NeedsData
from ctgen.provenance import LIBRARIES
from ctgen.stages.context import Stopper

if TYPE_CHECKING:
    from ctgen.console import Console
    from ctgen.host import Host

FORMAT = 1
RESULTS = "results.json"


@dataclass(frozen=True)
class BenchOptions:
    """``processes`` None: one per core up to 4, or one beside an accelerator. ``protocols`` None: the suite's."""

    cases: int | None = None
    processes: int | None = None
    protocols: Sequence[str] | None = None
    weights: Sequence[str] = ()
    data: Sequence[str] = ()
    report: bool = True


@dataclass(frozen=True)
class BenchResult:
    """``document``: what results.json holds; ``failed``: models and protocols that ended with an error."""

    document: dict[str, Any]
    failed: tuple[str, ...]
    report: Path | None = None


def bench(models: Sequence[str], suite: str, out: Path, options: BenchOptions, *, host: Host, console: Console) -> BenchResult:
    """Run or go on with a bench in ``out``. ConfigError if it holds results of another suite or protocol of the same name.

    A model that fails does not end it: it has a row with its error. Interrupted on SIGINT; the same call goes on.
    """
    found = load_suite(suite, host, options.data)
    named = options.protocols if options.protocols is not None else found.settings.protocols
    protocols = [load_protocol(name, host, options.weights) for name in dict.fromkeys(named)]
    specs = model_specs(models, host, variant=found.settings.variant, fields=found.generators)
    stopper = Stopper()
    with stopper.listening():
        cases = prepare_cases(found, out / "data", host=host, console=console, stopper=stopper, count=options.cases)
        opened = [open_protocol(protocol, cases, out / "features", host) for protocol in protocols]
        scored = [one for one, _ in opened]
        require_same(out, cases, scored)
        train = _training(found, specs, scored, out, host, console, stopper)
        products = _produce(specs, cases, out, train, options, host, console, stopper)
        for one, store in opened:
            if store is None:
                console.warn(f"{one.protocol.name} is not run: {one.missing[0]}")
                continue
            score(one, store, products, cases, out / "exported", train=train, host=host, console=console, stopper=stopper)
    document = document_of(cases, products, scored)
    return write_results(document, out, products, cases, report=options.report)


def write_results(
    document: dict[str, Any], out: Path, products: Sequence[Product], cases: Any, *, report: bool, title: str = ""
) -> BenchResult:
    """results.json, results.md, results.csv and report.html, which is called ``title`` if that is given."""
    write_json(out / RESULTS, document)
    write_text(out / "results.md", markdown(document))
    write_text(out / "results.csv", csv_text(document))
    page = None
    if report:
        from ctgen.bench.page import write_page

        page = write_page(out / "report.html", document, products, cases, title=title)
    failed = [name for name, model in document["models"].items() if model["error"]]
    failed += [f"{name} of {model}" for name, one in document["protocols"].items() for model in one["errors"]]
    return BenchResult(document, tuple(failed), page)


def processes_for(asked: int | None) -> int:
    if asked is not None:
        return asked
    return 1 if torch.cuda.is_available() else max(1, min(4, os.cpu_count() or 1))


def _training(
    suite: Suite,
    specs: Sequence[ModelSpec],
    scored: Sequence[Scored],
    out: Path,
    host: Host,
    console: Console,
    stopper: Stopper,
) -> PreparedDataset | None:
    """Training cases are prepared only for those that look at them."""
    looks = any(
        hasattr(host.component("metric", use.name).load(), "fit") for one in scored for use in one.protocol.metrics.values()
    )
    generators = [spec for spec in specs if spec.kind == "generator"]
    looks = looks or any(issubclass(host.component("generator", spec.source).load(), NeedsData) for spec in generators)
    return prepare_training(suite, out / "data" / "train", host=host, console=console, stopper=stopper) if looks else None


def _produce(
    specs: Sequence[ModelSpec],
    cases: Cases,
    out: Path,
    train: PreparedDataset | None,
    options: BenchOptions,
    host: Host,
    console: Console,
    stopper: Stopper,
) -> list[Product]:
    """Every model's volumes, and before them those of the floors: one reconstruction per autoencoder."""
    processes = processes_for(options.processes)
    shown = None if train is None else train.prepared.folder

    def made(spec: ModelSpec, of: ModelSpec | None = None) -> Product:
        return produce(spec, of, cases, out, host=host, console=console, stopper=stopper, processes=processes, train=shown)

    floors: dict[str, Product] = {}
    products = []
    for spec in specs:
        if spec.kind == "folder":
            products.append(adopt_folder(spec, cases, out, console=console, stopper=stopper))
            continue
        product = made(spec)
        products.append(product)
        key = str(product.facts.get("autoencoder", ""))
        if not product.error and key:
            if key not in floors:
                floors[key] = made(ModelSpec(f"vae-{spec.name}", "reconstruction", f"autoencoder of {spec.name}"), spec)
            product.autoencoder = floors[key].spec.name
        if product.error:
            console.warn(f"{spec.name} failed: {product.error}")
    return [*floors.values(), *products]


def document_of(cases: Cases, products: Sequence[Product], scored: Sequence[Scored]) -> dict[str, Any]:
    """JSON-ready: everything that the tables, the page and results.json show."""
    models: dict[str, Any] = {}
    halves = Product(HALVES, facts={"weights": {}})
    for product in (halves, *products):
        spec = product.spec
        n = sum(product.json(case_id).is_file() for case_id in cases.ids) if product.folder else len(cases.ids) // 2
        models[spec.name] = {
            "kind": spec.kind,
            "source": "real scans against others (split halves)" if spec.kind == "halves" else spec.source,
            "floor": spec.floor,
            "fingerprint": product.fingerprint,
            "facts": product.facts,
            "n": n if not product.error or product.folder else 0,
            "error": product.error,
            "left_out": dict(listed(product.left_out)),
            "unknown": product.unknown,
        }
    suite = cases.suite
    return {
        "format": FORMAT,
        "suite": {
            "name": suite.name,
            "summary": suite.settings.summary,
            "fingerprint": cases.fingerprint,
            "identity": cases.identity,
            "ids": list(cases.ids),
            "n": len(cases.ids),
        },
        "provenance": provenance_here(),
        "models": models,
        "order": list(models),
        "protocols": {one.protocol.name: _protocol(one, products) for one in scored},
    }


def _protocol(scored: Scored, products: Sequence[Product]) -> dict[str, Any]:
    settings = scored.protocol.settings
    names = [product.spec.name for product in products if not product.spec.floor and product.spec.name in scored.results]
    compared = [
        asdict(entry)
        for first, second in combinations(names, 2)
        for entry in compare(first, second, scored.results, scored.metrics, resamples=settings.resamples, seed=settings.seed)
    ]
    results = {name: result.to_json() for name, result in scored.results.items()}
    return {
        "definition": scored.definition,
        "fingerprint": scored.fingerprint,
        "reproduces": settings.reproduces,
        "quirks": list(settings.quirks),
        "missing": list(scored.missing),
        "errors": dict(scored.errors),
        "results": results,
        "comparisons": compared,
    }


def provenance_here() -> dict[str, Any]:
    """Device and versions of what computed the numbers."""
    found = {"python": platform.python_version()}
    for name in ("ctgen-framework", *LIBRARIES):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"cpu ({platform.machine()}, 1 thread per process)"
    return {"device": device, "versions": found}
