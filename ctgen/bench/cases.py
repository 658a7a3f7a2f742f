"""The real cases of a suite: prepared once per folder, shared by all models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ctgen.atomic import fingerprint, write_json
from ctgen.bench.definitions import Suite
from ctgen.data.prepared import PreparedCases
from ctgen.errors import DataError
from ctgen.interfaces import Case, CaseRequest, Origin, Report, Skipped
from ctgen.recipe.model import Recipe, Use
from ctgen.recipe.settings import EncodeSettings, EvaluateSettings, ReportSettings, SampleSettings, TrainSettings
from ctgen.stages import prepare
from ctgen.stages.context import Context, Stopper
from ctgen.stages.lock import only_one
from ctgen.stages.plan import DONE, fingerprints, finished, folder_of

if TYPE_CHECKING:
    from ctgen.console import Console
    from ctgen.host import Host
    from ctgen.volume import Volume


class RealCases(Protocol):
    """What is asked of real scans: PreparedCases has it, and a plain folder of them."""

    folder: Path

    def volume(self, case_id: str) -> Volume: ...

    def report(self, case_id: str) -> Report | None: ...

    def record(self, case_id: str) -> dict[str, Any]:
        """With "labels"; of prepared cases also "shape", "spacing_mm", ..."""


@dataclass(frozen=True)
class Cases:
    """The suite's cases on its grid. ``identity``: what decides every volume that is made for them (JSON-ready)."""

    suite: Suite
    prepared: RealCases
    ids: tuple[str, ...]
    identity: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.identity)

    def report(self, case_id: str) -> Report:
        return self.prepared.report(case_id) or Report(findings="")

    def given(self, case_id: str) -> Report:
        """What models read of the report: all of it, or the impressions if the suite says so and there are any."""
        report = self.report(case_id)
        return report.short if self.suite.settings.reports == "impressions" else report

    def request(self, case_id: str) -> CaseRequest:
        """What every model is asked for: ``given``, and the real scan's slices and spacing."""
        record = self.prepared.record(case_id)
        wanted = self.suite.settings.slices
        slices = int(record["shape"][0]) if wanted == "case" else None if wanted == "model" else int(wanted)
        d, h, w = record["spacing_mm"]
        return CaseRequest(case_id, self.given(case_id), slices, (d, h, w))


class PreparedDataset:
    """A Dataset (see ctgen.interfaces) of prepared cases, for generators that look at real ones."""

    skipped: Sequence[Skipped] = ()

    def __init__(self, prepared: PreparedCases, ids: Sequence[str]) -> None:
        self.prepared = prepared
        self.ids: Sequence[str] = tuple(ids)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Case:
        record = self.prepared.record(self.ids[index])
        volume, report = self.prepared.volume(self.ids[index]), self.prepared.report(self.ids[index])
        return Case(self.ids[index], volume, report, record["labels"], record["split"], record["meta"])


class _First:
    """The first cases of a data set: the others are not prepared."""

    def __init__(self, dataset: Any, count: int) -> None:
        self._dataset = dataset
        self.ids: Sequence[str] = tuple(dataset.ids)[:count]
        self.skipped: Sequence[Skipped] = dataset.skipped
        if hasattr(dataset, "origin"):
            self.origin = lambda index: _origin(dataset, index)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Any:
        return self._dataset[index]


def _origin(dataset: Any, index: int) -> Origin:
    found: Origin = dataset.origin(index)
    return found


def prepare_cases(
    suite: Suite, folder: Path, *, host: Host, console: Console, stopper: Stopper, count: int | None = None
) -> Cases:
    """Prepare the suite's cases below ``folder`` (content-addressed), the first ``count`` of them if that is given.

    Raises MissingFileError or ConfigError if the data set is not here, DataError if it is not the one that the suite pins.
    """
    dataset = host.build("dataset", suite.data.name, suite.data.config)
    full = fingerprint(list(dataset.ids))
    pinned = suite.settings.case_list
    if pinned and pinned != full:
        raise DataError(
            f"suite {suite.name!r} pins another list of cases: its hash is {pinned}, this data set's {full}",
            hint="the data set is incomplete or of another version; a suite file of your own may pin it, or none",
        )
    most = min((number for number in (count, suite.settings.cases) if number is not None), default=None)
    # which split a case is of may only be known once it is read
    limited = most if suite.settings.split is None else None
    source = dataset if limited is None else _First(dataset, limited)
    prepared = _prepared(suite, suite.data, source, folder, host, console, stopper)
    ids = tuple(prepared.ids(suite.settings.split)[:most])
    if not ids:
        raise DataError(f"suite {suite.name!r} has no case", hint=f"see {prepared.folder / 'manifest.json'}")
    voxels = {case_id: prepared.record(case_id)["voxels_sha256"][:16] for case_id in ids}
    identity = {
        **suite.identity(),
        "n": len(ids),
        "case_list": full,
        # what is compared with: voxels and reports of exactly these cases
        "cases": fingerprint([[case_id, voxels[case_id], prepared.record(case_id)["report"]] for case_id in ids]),
    }
    return Cases(suite, prepared, ids, identity)


def prepare_training(suite: Suite, folder: Path, *, host: Host, console: Console, stopper: Stopper) -> PreparedDataset | None:
    """The cases that models may have learnt from, on the suite's grid; None if the suite names none."""
    if suite.train is None:
        return None
    dataset = host.build("dataset", suite.train.name, suite.train.config)
    prepared = _prepared(suite, suite.train, dataset, folder, host, console, stopper)
    return PreparedDataset(prepared, prepared.ids())


def _prepared(
    suite: Suite, use: Use, dataset: Any, folder: Path, host: Host, console: Console, stopper: Stopper
) -> PreparedCases:
    recipe = _recipe(suite, use, host)
    chain = fingerprints(recipe, {"data": dataset})
    chain["prepare"] = fingerprint([chain["prepare"], len(dataset.ids)])
    target = folder_of(folder, "prepare", chain)
    context = Context(recipe, folder, console, {"data": dataset}, fingerprints=chain, stopper=stopper)
    with only_one(folder):
        if not finished(target, chain["prepare"]):
            target.mkdir(parents=True, exist_ok=True)
            summary = prepare.run(context, target)
            write_json(target / DONE, {"stage": "prepare", "fingerprint": chain["prepare"], "seconds": 0.0, "summary": summary})
    return PreparedCases(target)


def _recipe(suite: Suite, data: Use, host: Host) -> Recipe:
    """As much of a recipe as the stage prepare looks at."""
    objective = host.component("objective", "latent-flow")
    exporter = host.component("exporter", "nifti")
    return Recipe(
        name=suite.name,
        data=data,
        autoencoder=None,
        text_encoder=None,
        backbone=None,
        classifier=None,
        schedule=None,
        rollout=None,
        objective=Use("objective", "latent-flow", objective.plugin, objective.config()),
        export=Use("exporter", "nifti", exporter.plugin, exporter.config()),
        metrics=(),
        extractors={},
        prepare=suite.settings.prepare,
        encode=EncodeSettings.model_validate({}),
        train=TrainSettings.model_validate({}),
        sample=SampleSettings.model_validate({}),
        evaluate=EvaluateSettings.model_validate({}),
        report=ReportSettings.model_validate({}),
        source=suite.source,
        origin={},
        host=host,
    )
