"""Throughput of the prepare stage against SimpleITK's bare ReadImage of the same .nii.gz files with as many processes.

    python benchmarks/prepare_throughput.py [--scans 8] [--shape 300,512,512] [--workers 1 2] [--repeats 5] [-o FOLDER]

Prepare reads each file, checks its checksum, hashes it, turns it to canonical orientation, finds body and lungs, resamples to
96 x 128 x 128 voxels of 3 mm with a low-pass, writes and hashes the result. Both sides are warmed up (processes started, files
in memory) and take turns; target: at least 0.7 of ReadImage's throughput.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from joblib import Parallel, delayed
from large_scans import write_scan

from ctgen.atomic import write_text
from ctgen.recipe import load_recipe
from ctgen.stages import run

RECIPE = """
name: throughput
data: {{use: folder, root: {root}, default_report: "Normal chest.", valid_fraction: 0}}
prepare: {{size: [96, 128, 128], spacing_mm: [3, 3, 3], workers: {workers}}}
objective: a-vae
autoencoder: {{use: flux-vae, architecture: mini, weights: mini}}
"""
TARGET = 0.7


def bare_read(path: str) -> int:
    import SimpleITK as sitk

    return sitk.ReadImage(path).GetNumberOfPixels()


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def compare(root: Path, workers: int, repeats: int) -> dict[str, object]:
    files = sorted(str(path) for path in (root / "scans").iterdir())
    path = root / f"recipe-{workers}.yaml"
    path.write_text(RECIPE.format(root=root / "scans", workers=workers))
    recipe = load_recipe(path)

    def prepare() -> None:
        run(recipe, run_dir=root / "run", until="prepare")

    def read() -> None:
        if workers == 1:
            for file in files:
                bare_read(file)
        else:
            Parallel(workers)(delayed(bare_read)(file) for file in files)

    times: dict[str, list[float]] = {"prepare": [], "read": []}
    for repeat in range(repeats + 1):
        for name, work in (("read", read), ("prepare", prepare)):
            found = seconds(work)
            if repeat:  # the first of each starts processes and fills the page cache
                times[name].append(len(files) / found)
        shutil.rmtree(root / "run")
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {"workers": workers, **times, "ratio": medians["prepare"] / medians["read"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=int, default=8)
    parser.add_argument("--shape", default="300,512,512")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("-o", "--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    d, h, w = (int(part) for part in arguments.shape.split(","))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for number in range(arguments.scans):
            write_scan(root / "scans" / f"scan{number}.nii.gz", (d, h, w), seed=number, turned=True)
        size = sum(path.stat().st_size for path in (root / "scans").iterdir()) / arguments.scans / 1e6
        rows = [compare(root, workers, arguments.repeats) for workers in arguments.workers]

    def spread(values: object) -> str:
        numbers = [float(value) for value in values]  # type: ignore[attr-defined]
        return f"{statistics.median(numbers):.2f} ({min(numbers):.2f} .. {max(numbers):.2f})"

    command = f"--scans {arguments.scans} --shape {arguments.shape} --repeats {arguments.repeats}"
    lines = [
        "# Prepare against SimpleITK's bare ReadImage",
        "",
        f"{arguments.scans} scans of {d} x {h} x {w} int16 voxels (D, H, W) as .nii.gz ({size:.0f} MB each), to 96 x 128 x 128 "
        f"of 3 mm; scans per second, median of {arguments.repeats} (range). Target: {TARGET}. "
        f"Python {platform.python_version()}, {os.cpu_count()} CPU cores, BLAS threads "
        f"{os.environ.get('OMP_NUM_THREADS', 'default')}; `python benchmarks/prepare_throughput.py {command}`.",
        "",
        "| processes | ReadImage | ctgen prepare | ratio |",
        "|---|---|---|---|",
        *(f"| {row['workers']} | {spread(row['read'])} | {spread(row['prepare'])} | **{row['ratio']:.2f}** |" for row in rows),
    ]
    write_text(arguments.out / "prepare_throughput.md", "\n".join(lines) + "\n")
    write_text(arguments.out / "prepare_throughput.json", json.dumps(rows, indent=1) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
