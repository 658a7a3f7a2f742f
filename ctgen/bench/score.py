"""Numbers: every model and every floor through the metrics of one protocol, over the same cases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctgen.atomic import fingerprint, read_json
from ctgen.bench.cases import Cases, PreparedDataset
from ctgen.bench.definitions import Protocol
from ctgen.bench.handing import Handing, canonical
from ctgen.bench.models import ModelSpec
from ctgen.bench.product import Product
from ctgen.bench.threads import one_thread
from ctgen.errors import CtgenError
from ctgen.evaluate.bank import FeatureStore
from ctgen.evaluate.driver import EvaluationResult, evaluate
from ctgen.interfaces import EvaluationItem, Metric
from ctgen.stages.context import Stopper

if TYPE_CHECKING:
    from ctgen.console import Console
    from ctgen.host import Host

HALVES = ModelSpec("real-real", "halves", "real")


@dataclass
class Scored:
    """A protocol's results. ``missing``: why it was not run; ``metrics``: model -> metric name -> the metric with its cases."""

    protocol: Protocol
    definition: dict[str, Any] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    results: dict[str, EvaluationResult] = field(default_factory=dict)
    metrics: dict[str, dict[str, Metric]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.definition)


def open_protocol(protocol: Protocol, cases: Cases, features: Path, host: Host) -> tuple[Scored, FeatureStore | None]:
    """The extractors of a protocol, opened, and what defines its numbers; without a store if it cannot be run here."""
    scored = Scored(protocol, {"protocol": protocol.identity(), "suite": cases.identity}, protocol.missing)
    if scored.missing:
        return scored, None
    extractors = {}
    try:
        for key, use in protocol.extractors.items():
            extractors[key] = host.build("feature_extractor", use.name, use.config)
    except CtgenError as error:
        scored.missing = (str(error),)
        return scored, None
    store = FeatureStore(extractors, features)
    described = store.describe()
    for key, need in protocol.settings.weights.items():
        # of other files than weights an extractor says the hash in its own way
        found = described.get(key, {}).get("weights", {})
        actual = found.get("sha256", "") if isinstance(found, Mapping) else ""
        if need.sha256 and actual and actual != need.sha256:
            scored.missing = (
                f"{need.file} (extractor {key!r}) has SHA-256 {actual}, the protocol means {need.sha256}; {need.where}",
            )
            return scored, None
    scored.definition["extractors"] = described
    return scored, store


def score(
    scored: Scored,
    store: FeatureStore,
    products: Sequence[Product],
    cases: Cases,
    exports: Path,
    *,
    train: PreparedDataset | None,
    host: Host,
    console: Console,
    stopper: Stopper,
) -> None:
    """Fill ``scored`` for all products and for real against real. An error concerns its model only.

    A protocol that hands volumes over in another format has them written below ``exports``, and reads them from there.
    """
    handing = Handing(scored.protocol, exports, host)
    handing.write_prompts(cases)
    for product in products:
        if product.error:
            continue
        ids = [case_id for case_id in cases.ids if product.json(case_id).is_file()]
        with console.task(f"{scored.protocol.name}: {product.spec.name}", len(ids), unit="cases") as task:

            def items(product: Product = product, ids: Sequence[str] = ids, task: Any = task) -> Iterator[EvaluationItem]:
                for case_id in ids:
                    stopper.check()
                    yield _item(product, products, cases, case_id, store, handing)
                    task.advance(note=case_id)

            _evaluate(scored, product.spec.name, items, store, train, host)
    if len(cases.ids) >= 2:
        _evaluate(scored, HALVES.name, lambda: _halves(cases, store), store, train, host)


def _evaluate(scored: Scored, name: str, items: Any, store: FeatureStore, train: PreparedDataset | None, host: Host) -> None:
    settings = scored.protocol.settings
    metrics = {key: host.build("metric", use.name, use.config) for key, use in scored.protocol.metrics.items()}
    try:
        with one_thread():
            result = evaluate(
                items(),
                metrics,
                protocol={"name": scored.protocol.name, "version": settings.version},
                resamples=settings.resamples,
                seed=settings.seed,
                reference=None if train is None else lambda: _references(train, store),
                extractors=store.describe(),
            )
    except CtgenError as error:
        scored.errors[name] = str(error)
        return
    scored.results[name], scored.metrics[name] = result, metrics


def _references(train: PreparedDataset, store: FeatureStore) -> Iterator[EvaluationItem]:
    for index, case_id in enumerate(train.ids):
        case = train[index]
        yield EvaluationItem(
            case_id, real=case.volume, labels=case.labels, report=case.report, features=store.bank({"real": case.volume})
        )


def _item(
    product: Product, products: Sequence[Product], cases: Cases, case_id: str, store: FeatureStore, handing: Handing
) -> EvaluationItem:
    facts = read_json(product.json(case_id))
    real, generated = cases.prepared.volume(case_id), handing.volume(product, case_id)
    floor = next((one for one in products if one.spec.name == product.autoencoder and not one.error), None)
    reconstructed = None
    if product.spec.kind == "reconstruction":
        reconstructed = generated
    elif floor is not None and floor.json(case_id).is_file():
        reconstructed = canonical(floor.volume(case_id))
    return EvaluationItem(
        case_id,
        real=real,
        reconstructed=reconstructed,
        generated=generated,
        boundaries=tuple(facts["boundaries"]),
        seconds=facts.get("seconds"),
        labels=cases.prepared.record(case_id)["labels"],
        report=cases.prepared.report(case_id),
        features=store.bank({"real": real, "generated": generated, "reconstructed": reconstructed}),
        evaluations=facts.get("evaluations"),
        peak_bytes=facts.get("peak_bytes"),
        seed=cases.suite.settings.seed,
    )


def _halves(cases: Cases, store: FeatureStore) -> Iterator[EvaluationItem]:
    """Real scans in the place of generated ones: every second case against the case before it."""
    for real_id, made_id in zip(cases.ids[::2], cases.ids[1::2], strict=False):
        real, made = cases.prepared.volume(real_id), cases.prepared.volume(made_id)
        yield EvaluationItem(
            made_id,
            real=real,
            generated=made,
            labels=cases.prepared.record(made_id)["labels"],
            report=cases.prepared.report(made_id),
            features=store.bank({"real": real, "generated": made}),
        )
