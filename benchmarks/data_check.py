"""A simulated copy of CT-RATE with every trap planted, its audit, and the cache that is prepared and encoded from it.

    python benchmarks/data_check.py [--cases 215] [--intensity fixed raw] [--size 48 56 56] [--workers 2] [-o FOLDER]

Writes data_check.md and data_check.json: planted against found for each kind of trap, what undamaged files raised, and what
became of the traps in the cache, case by case against the cache of the same copy without traps. 215 cases: about 400 volumes.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import json
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ctgen.atomic import write_json, write_text
from ctgen.commands.listing import table
from ctgen.console import Console
from ctgen.data.atlas.config import AtlasThoraxConfig
from ctgen.data.ct_rate.audit import Audit, audit
from ctgen.data.ct_rate.findings import KINDS
from ctgen.data.ct_rate.simulate import simulate_ct_rate
from ctgen.data.prepared import PreparedCases
from ctgen.recipe import load_recipe
from ctgen.stages import run

RECIPE = """
name: data-check
data: {{use: ct-rate, root: {root}, reconstruction: all, on_both_sides: drop-from-train, exclude: {exclude}}}
prepare: {{size: [48, 64, 64], spacing_mm: [6, 6, 6], workers: {workers}}}
autoencoder: {{use: tiny-ae, cell: 8, channels: 8}}
text_encoder: {{use: hash-text, width: 32, max_tokens: 96}}
backbone: {{use: tiny-conv, width: 8, layers: 1}}
schedule: linear-flow
rollout: whole-volume
objective: latent-flow
"""
LEAVE_OUT = ("unreadable", "hu-twice", "implausible-hu", "conflicting-rows", "no-chest", "no-report", "no-report-row")


def cache(root: Path, folder: Path, exclude: list[Path], workers: int, console: Console) -> tuple[PreparedCases, Path, float]:
    """Prepare and encode the copy; the prepared cases, the folder of latents, and seconds."""
    folder.mkdir(parents=True)
    recipe = folder / "recipe.yaml"
    write_text(recipe, RECIPE.format(root=root, exclude=json.dumps([str(path) for path in exclude]), workers=workers))
    started = time.perf_counter()
    run(load_recipe(recipe), run_dir=folder / "run", until="encode", console=console)
    (prepared,), (encoded,) = (folder / "run").glob("prepare-*"), (folder / "run").glob("encode-*")
    return PreparedCases(prepared), encoded, time.perf_counter() - started


def latents(folder: Path) -> dict[str, list[np.ndarray]]:
    """Case -> its arrays, of every HDF5 file of a cache in which cases are groups or data sets by their ids."""
    found: dict[str, list[np.ndarray]] = {}

    def visit(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset):
            case = next((part for part in name.split("/") if part.startswith(("train_", "valid_"))), None)
            if case is not None:
                found.setdefault(case, []).append(node[()])

    for path in sorted(folder.rglob("*.h5")):
        with h5py.File(path) as file:
            file.visititems(visit)
    return found


def compare(clean: tuple[PreparedCases, Path, float], spoilt: tuple[PreparedCases, Path, float]) -> dict[str, int]:
    """Cases of the spoilt copy whose volume, report, labels or latents are not those of the clean copy."""
    one, other = latents(clean[1]), latents(spoilt[1])
    counts: Counter[str] = Counter(cases=0)
    for case in spoilt[0].ids():
        if case not in set(clean[0].ids()):
            counts["under another name"] += 1
            continue
        counts["cases"] += 1
        counts["volumes that differ"] += not np.array_equal(spoilt[0].array(case), clean[0].array(case))
        same = all(spoilt[0].record(case)[name] == clean[0].record(case)[name] for name in ("report", "labels"))
        counts["reports or labels that differ"] += not same
        pairs = zip(one.get(case, []), other.get(case, []), strict=True)
        counts["latents compared"] += case in other
        counts["latents that differ"] += any(not np.array_equal(a, b) for a, b in pairs)
    return dict(counts)


def outcome(result: Audit, planted: list[dict[str, str]], prepared: PreparedCases) -> list[tuple[str, ...]]:
    """A row for each kind of trap."""
    found = {(one.kind, one.subject) for one in result.findings}
    kept = set(prepared.ids())
    rows = []
    for kind in dict.fromkeys(sorted((trap["kind"] for trap in planted), key=list(KINDS).index)):
        of_kind = {trap["subject"] for trap in planted if trap["kind"] == kind}
        hits = {subject for subject in of_kind if (kind, subject) in found}
        extra = {subject for what, subject in found if what == kind} - of_kind
        names = {subject.rpartition("/")[2].removesuffix(".nii.gz") for subject in of_kind}
        fate = f"{len(names - kept)} of {len(names)}" if kind in LEAVE_OUT else ""
        rows.append((KINDS[kind].severity, KINDS[kind].title, str(len(of_kind)), str(len(hits)), str(len(extra)), fate))
    return rows


def measure(kind: str, given: argparse.Namespace, folder: Path, console: Console) -> dict[str, Any]:
    depth, height, width = given.size
    spacing = (288 / depth, 384 / height, 384 / width)
    config = AtlasThoraxConfig(size=(depth, height, width), spacing_mm=spacing)
    roots = {}
    for damage in (True, False):
        roots[damage] = folder / f"{kind}{'-spoilt' if damage else ''}"
        simulate_ct_rate(
            roots[damage],
            given.cases,
            given.seed,
            kind=kind,
            damage=damage,
            config=config,
            console=console,  # type: ignore[arg-type]
        )
    planted = json.loads((roots[True] / "planted.json").read_text())
    seconds = {}
    for name, sample in (("headers", 0), ("all", None)):
        started = time.perf_counter()
        result = audit(roots[True], sample=sample, workers=given.workers, console=console)
        seconds[name] = time.perf_counter() - started
    clean_audit = audit(roots[False], workers=given.workers, console=console)
    exclude = folder / f"{kind}-exclude.txt"
    write_text(exclude, result.exclude_text())
    clean = cache(roots[False], folder / f"{kind}-clean", [], given.workers, console)
    spoilt = cache(roots[True], folder / f"{kind}-run", [], given.workers, console)
    audited = cache(roots[True], folder / f"{kind}-audited", [exclude], given.workers, console)
    leaks = [
        trap["subject"].rpartition("/")[2].removesuffix(".nii.gz") for trap in planted["planted"] if "other" in trap["kind"]
    ]
    decisions = Counter(case["intensity"]["decision"] for case in spoilt[0].manifest["cases"])
    return {
        "intensity": kind,
        "scans": planted["scans"],
        "volumes": planted["volumes"],
        "seconds": seconds,
        "rows": outcome(result, planted["planted"], spoilt[0]),
        "serious": {"spoilt": result.serious, "clean": clean_audit.serious},
        "not planted": sorted(
            f"{one.kind} {one.subject}"
            for one in result.findings
            if (one.kind, one.subject) not in {(trap["kind"], trap["subject"]) for trap in planted["planted"]}
        ),
        "cases": {"clean": len(clean[0].ids()), "spoilt": len(spoilt[0].ids()), "audited": len(audited[0].ids())},
        "decisions": dict(decisions),
        "against clean": {"spoilt": compare(clean, spoilt), "audited": compare(clean, audited)},
        "leaks": {
            name: sum(leak in set(cases[0].ids()) for leak in leaks)
            for name, cases in (("spoilt", spoilt), ("audited", audited))
        },
        "cache seconds": round(spoilt[2], 1),
    }


def markdown(results: list[dict[str, Any]], given: argparse.Namespace) -> str:
    lines = ["# Traps planted in simulated copies of CT-RATE, and what became of them", ""]
    lines += [f"`python benchmarks/data_check.py --cases {given.cases} --size {' '.join(map(str, given.size))}`", ""]
    for one in results:
        lines += [f"## {one['intensity']}: {one['scans']} scans, {one['volumes']} volumes", ""]
        header = ("", "trap", "planted", "found", "found elsewhere", "left out of the cache")
        lines += ["```", table(header, one["rows"]), "```", ""]
        headers, everything = one["seconds"]["headers"], one["seconds"]["all"]
        lines += [
            f"Audit of names, tables and headers {headers:.0f} s, every voxel {everything:.0f} s ({given.workers} processes). "
            f"Serious findings: {one['serious']['spoilt']} in the spoilt copy, {one['serious']['clean']} in the clean one. "
            f"Not planted but found: {', '.join(one['not planted']) or 'nothing'}.",
            "",
            f"Prepared and encoded in {one['cache seconds']} s: {one['cases']['spoilt']} cases of the spoilt copy, "
            f"{one['cases']['audited']} with the audit's exclude.txt, {one['cases']['clean']} of the clean copy. "
            f"Read as: {one['decisions']}. Copies that leak from train into valid: {one['leaks']['spoilt']} without and "
            f"{one['leaks']['audited']} with exclude.txt.",
            "",
            *(f"Against the clean cache, {name}: {counts}." for name, counts in one["against clean"].items()),
            "",
        ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=215, help="scans; each has one or two volumes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--intensity", nargs="+", choices=("fixed", "raw"), default=["fixed", "raw"])
    parser.add_argument("--size", type=int, nargs=3, default=(48, 56, 56), metavar=("D", "H", "W"))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("-o", "--out", type=Path, default=Path(__file__).parent / "results")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Console() as console:
        results = [measure(kind, given, Path(folder), console) for kind in given.intensity]
    write_json(given.out / "data_check.json", results)
    print(write_text(given.out / "data_check.md", markdown(results, given)).read_text())


if __name__ == "__main__":
    main()
