"""``ctgen evaluate``: volumes that somebody made against real scans of the same names; no recipe, no model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctgen.atomic import fingerprint, sha256_of
from ctgen.bench.adopt import adopt_folder
from ctgen.bench.cases import Cases
from ctgen.bench.definitions import Suite, SuiteSettings
from ctgen.bench.models import ModelSpec
from ctgen.bench.pinned import require_same
from ctgen.bench.reading import load_protocol
from ctgen.bench.run import BenchResult, document_of, write_results
from ctgen.bench.score import open_protocol, score
from ctgen.data.folder import FolderDataset
from ctgen.data.folder_config import FolderConfig
from ctgen.errors import CtgenError, DataError, MissingFileError
from ctgen.interfaces import Report, Skipped
from ctgen.recipe.model import Use
from ctgen.stages.context import Stopper
from ctgen.volume import Volume
from ctgen.volume.orient import to_canonical

if TYPE_CHECKING:
    from ctgen.console import Console
    from ctgen.host import Host


class ReferenceFolder:
    """Real scans as they lie on disk, canonical; read as PreparedCases is."""

    def __init__(self, folder: Path, dataset: FolderDataset) -> None:
        self.folder, self._dataset = folder, dataset
        self._index = {case_id: index for index, case_id in enumerate(dataset.ids)}

    def volume(self, case_id: str) -> Volume:
        return to_canonical(self._dataset[self._index[case_id]].volume)[0]

    def report(self, case_id: str) -> Report | None:
        facts = self._dataset.origin(self._index[case_id]).facts
        return Report(**facts["report"]) if facts["report"] else None

    def record(self, case_id: str) -> dict[str, Any]:
        origin = self._dataset.origin(self._index[case_id])
        return {"id": case_id, "labels": origin.facts["labels"], "report": origin.facts["report"]}

    def files(self, case_id: str) -> Sequence[Path]:
        return self._dataset.origin(self._index[case_id]).files


def evaluate_folder(
    generated: Path,
    reference: Path,
    out: Path,
    *,
    reports: Path | None,
    protocols: Sequence[str],
    weights: Sequence[str],
    host: Host,
    console: Console,
) -> BenchResult:
    """Score the volumes of ``generated`` by ``protocols`` against the scans of ``reference`` with the same file stems.

    What is missing, unreadable or of another geometry is named and the rest is scored. DataError if nothing can be.
    """
    for folder, what in ((generated, "generated"), (reference, "reference")):
        if not folder.is_dir():
            raise MissingFileError(f"no folder of {what} volumes at {folder}")
    chosen = [load_protocol(name, host, weights) for name in dict.fromkeys(protocols)]
    stopper = Stopper()
    with stopper.listening():
        cases, unreadable = _cases(reference, reports, console, tuple(protocols))
        opened = [open_protocol(protocol, cases, out / "features", host) for protocol in chosen]
        scored = [one for one, _ in opened]
        require_same(out, cases, scored)
        spec = ModelSpec(generated.resolve().name or "generated", "folder", str(generated))
        product = adopt_folder(spec, cases, out, console=console, stopper=stopper)
        if product.error:
            raise DataError(product.error)
        product.left_out += unreadable
        for entry in product.left_out:
            console.warn(f"left out: {entry.id}: {entry.reason}")
        for one, store in opened:
            if store is None:
                console.warn(f"{one.protocol.name} is not run: {one.missing[0]}")
            else:
                score(one, store, [product], cases, out / "exported", train=None, host=host, console=console, stopper=stopper)
    document = document_of(cases, [product], scored)
    return write_results(document, out, [product], cases, report=True, title=f"ctgen evaluate: {spec.name}")


def _cases(reference: Path, reports: Path | None, console: Console, protocols: tuple[str, ...]) -> tuple[Cases, list[Skipped]]:
    """The readable reference scans, and the others."""
    config = FolderConfig(root=reference, reports=reports, valid_fraction=0.0)
    dataset = FolderDataset(config)
    folder = ReferenceFolder(reference, dataset)
    left_out = [Skipped(entry.id, f"the reference scan: {entry.reason}") for entry in dataset.skipped]
    hashes: dict[str, str] = {}
    for case_id in console.track(dataset.ids, "reference", unit="scans"):
        try:
            # a file can end early without its header saying so
            folder.volume(case_id)
        except CtgenError as error:
            left_out.append(Skipped(case_id, f"the reference scan: {error.message}"))
            continue
        hashes[case_id] = fingerprint([sha256_of(path) for path in folder.files(case_id)])
    if not hashes:
        raise DataError(f"no scan of {reference} is readable")
    ids = tuple(sorted(hashes))
    settings = SuiteSettings.model_validate({"summary": f"Against the scans of {reference}", "protocols": protocols})
    suite = Suite("folder", str(reference), settings, Use("dataset", "folder", "builtin", config))
    described = {case_id: folder.record(case_id) for case_id in ids}
    identity = {
        "name": "folder",
        "n": len(ids),
        "case_list": fingerprint(list(ids)),
        "cases": fingerprint([[case_id, hashes[case_id], described[case_id]] for case_id in ids]),
    }
    return Cases(suite, folder, ids, identity), left_out
