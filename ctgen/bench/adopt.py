"""A model that is a folder of volumes: somebody made them, here they are matched, checked and put on the real scans' grid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ctgen.atomic import fingerprint, read_json, sha256_of, write_json
from ctgen.bench.cases import Cases
from ctgen.bench.models import ModelSpec
from ctgen.bench.product import Product, folder_of, store
from ctgen.bench.volumes import match, read_matching
from ctgen.console import Console
from ctgen.errors import CtgenError
from ctgen.interfaces import Skipped
from ctgen.stages.context import Stopper
from ctgen.volume.header import volume_stem


def adopt_folder(spec: ModelSpec, cases: Cases, out: Path, *, console: Console, stopper: Stopper) -> Product:
    """Volumes that are there already, put on the real scans' grid. Those that cannot be scored are named in ``left_out``."""
    product = Product(spec)
    try:
        found = match(Path(spec.source), cases.ids)
    except CtgenError as error:
        product.error = str(error)
        return product
    hashes = {case_id: sha256_of(path) for case_id, path in found.files.items()}
    identity = {"files": hashes}
    product.fingerprint = fingerprint({"model": identity, "kind": spec.kind, "suite": cases.identity})
    product.facts = {"weights": {}, "files": len(hashes)}
    product.left_out, product.unknown = list(found.left_out), found.unknown
    folder = product.folder = folder_of(out, spec.name, product.fingerprint)
    write_json(folder / "model.json", {"name": spec.name, "kind": spec.kind, "source": spec.source, "identity": identity})
    for case_id in console.track(list(found.files), spec.name, unit="volumes"):
        stopper.check()
        path, target = found.files[case_id], product.json(case_id)
        if target.is_file():
            continue
        real = cases.prepared.volume(case_id)
        try:
            volume = read_matching(path, real)
        except CtgenError as error:
            product.left_out.append(Skipped(case_id, error.message.removeprefix(f"{path}: ")))
            continue
        beside = _beside(path)
        store(
            product.volume(case_id),
            target,
            case_id,
            volume,
            real,
            {**beside, "file": path.name, "source_sha256": hashes[case_id]},
        )
    product.left_out.sort(key=lambda entry: entry.id)
    if not any(product.json(case_id).is_file() for case_id in cases.ids):
        reasons = "\n".join(f"{entry.id}: {entry.reason}" for entry in product.left_out[:8])
        product.error = f"no volume of {spec.source} can be scored\n{reasons}"
    return product


def _beside(path: Path) -> dict[str, Any]:
    """What ctgen wrote beside a volume that it made: block boundaries and cost."""
    beside = path.with_name(f"{volume_stem(path)}.json")
    try:
        found = read_json(beside) if beside.is_file() else {}
    except ValueError:
        return {}
    if not isinstance(found, dict) or found.get("synthetic") is not True:
        return {}
    return {name: found[name] for name in ("boundaries", "seconds", "evaluations") if name in found}
