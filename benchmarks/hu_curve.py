"""Fit ``sample.hu_curve`` to the volumes of a bench, and see on chests that it was not fitted to what it changes.

    ctgen bench --models plain=benchmarks/ablations/plus-without-curve.yaml --suite benchmarks/ablations/choose.yaml -o bench
    python benchmarks/hu_curve.py bench plain --fit-all

The first half of the cases gives the curve (optimal transport of all their voxels), the other half the table: errors before
and after, pooled and volume by volume as hu-histogram and hu-realism have them. Fit to chests of a suite that no result is
reported on. Once the table says that it helps, ``--fit-all`` takes every case for the curve.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from model_pictures import columns, prepared
from scipy.stats import wasserstein_distance

from ctgen.atomic import read_json
from ctgen.bench.product import SUFFIX
from ctgen.evaluate.hu_realism import TISSUES_HU, tissue_numbers
from ctgen.sample.hu_curve import HU, Curve, calibrated, fitted
from ctgen.volume.io import read_volume

KNOTS = (-1000, -950, -900, -850, -800, -700, -500, -300, -200, -150, -120, -90, -60, -30, 0, 30, 60, 100, 150, 250, 400, 700)
"""HU as decoded, at which the curve may bend: closest where tissues are."""
Volumes = Iterator[np.ndarray]


def folder_and_ids(bench: Path, model: str) -> tuple[Path, list[str]]:
    """Where the model's volumes are, and the cases that it has, sorted."""
    if not (bench / "results.json").is_file():
        raise SystemExit(f"{bench} has no results.json; finish the bench first: ctgen bench ... -o {bench}")
    found = columns(bench, [model])
    if not found:
        raise SystemExit(f"{bench} has no volumes of {model!r}")
    folder = found[model]
    if read_json(folder.parent / "model.json")["identity"].get("sample", {}).get("hu_curve"):
        raise SystemExit(f"{model} was sampled with a curve; fit to a recipe that has sample.hu_curve: []")
    ids = sorted(path.name.removesuffix(SUFFIX) for path in folder.glob(f"*{SUFFIX}"))
    if len(ids) < 2:
        raise SystemExit(f"{folder} has {len(ids)} volumes; a curve and its check need two at least")
    return folder, ids


def generated(folder: Path, ids: Sequence[str], curve: Curve = ()) -> Volumes:
    """HU of each case, calibrated; one in memory at a time."""
    return (np.rint(calibrated(np.asarray(read_volume(folder / f"{one}{SUFFIX}").hu), curve)) for one in ids)


def scans(bench: Path, ids: Sequence[str]) -> Volumes:
    """HU of the real scans, one in memory at a time."""
    return (np.asarray(prepared(bench, one).volume(one).hu) for one in ids)


def errors(made: Volumes, real: Volumes) -> dict[str, float]:
    """Wasserstein distance of all voxels in HU; errors of tissues' shares, pooled and by case, in % of the volume."""
    edges = np.append(HU, HU[-1] + 1) - 0.5
    bars = np.zeros((2, HU.size))
    shares: list[list[np.ndarray]] = []
    for pair in zip(made, real, strict=True):
        bars += [np.histogram(one, edges)[0] for one in pair]
        shares.append([tissue_numbers(one)[:, 0] * 100 for one in pair])
    found = {"histogram, HU": float(wasserstein_distance(HU, HU, *bars))}
    apart = np.array([ours - theirs for ours, theirs in shares])
    for name, one in zip(TISSUES_HU, apart.T, strict=True):
        found[f"{name}, pooled, %"] = float(abs(one.mean()))
        found[f"{name}, by case, %"] = float(np.abs(one).mean())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", type=Path, help="output folder of ctgen bench")
    parser.add_argument("model", help="whose volumes; sampled without a curve")
    parser.add_argument("--fit-all", action="store_true", help="the curve from all cases, instead of the first half")
    arguments = parser.parse_args()
    bench = arguments.bench
    folder, ids = folder_and_ids(bench, arguments.model)
    half = len(ids) // 2
    curve = fitted(generated(folder, ids[:half]), scans(bench, ids[:half]), KNOTS)
    before, after = (errors(generated(folder, ids[half:], one), scans(bench, ids[half:])) for one in ((), curve))
    print(f"curve of {half} cases, errors on the {len(ids) - half} others: before, after")
    for name, value in before.items():
        print(f"  {name:22} {value:7.2f} {after[name]:7.2f}")
    if arguments.fit_all:
        curve = fitted(generated(folder, ids), scans(bench, ids), KNOTS)
    points = ", ".join(f"[{decoded:g}, {wanted:g}]" for decoded, wanted in curve)
    print(f"fitted to {len(ids) if arguments.fit_all else half} cases:\nsample:\n  hu_curve: [{points}]")


if __name__ == "__main__":
    main()
