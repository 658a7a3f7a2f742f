"""Time and memory of the Frechet distance beside one symmetric eigendecomposition of the same width.

python benchmarks/frechet_speed.py [--width 2048] [--rows 2500 10000 40000] [--repeats 3] [-o benchmarks/results]

Each number of rows has a process of its own, so that its peak of memory is nobody else's. One thread.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy
from scipy import linalg

from ctgen.atomic import write_text
from ctgen.evaluate.frechet import frechet_of_moments
from ctgen.evaluate.moments import Moments

CHUNK = 500
TARGET = 3.0
"""Times one eigendecomposition (values and vectors)."""


def features(rows: int, width: int, seed: int) -> Iterator[np.ndarray[Any, np.dtype[np.float32]]]:
    """Rows in chunks, as they come from volumes; drawn, so that they are never all in memory."""
    random = np.random.default_rng(seed)
    scale = np.geomspace(1.0, 0.05, width).astype(np.float32)
    for start in range(0, rows, CHUNK):
        yield random.standard_normal((min(CHUNK, rows - start), width), dtype=np.float32) * scale + np.float32(0.1 * seed)


def peak_mb() -> float:
    """Most memory that this process held so far."""
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def measure(rows: int, width: int, repeats: int) -> dict[str, Any]:
    """Two sets of ``rows``, their distance, and the eigendecomposition of one covariance; medians of processor time."""
    before = peak_mb()
    sets, spent = [], 0.0
    for seed in (0, 1):
        moments = Moments(width)
        for chunk in features(rows, width, seed):
            start = time.process_time()
            moments.add(chunk)
            spent += time.process_time() - start
        sets.append(moments)
    value, distances = 0.0, []
    for _ in range(repeats):
        start = time.process_time()
        value = frechet_of_moments(*sets)
        distances.append(time.process_time() - start)
    # the eigendecomposition is not part of the distance, nor of its memory
    grown, eigen = peak_mb() - before, []
    matrix = sets[0].covariance()
    for _ in range(repeats):
        start = time.process_time()
        linalg.eigh(matrix, check_finite=False)
        eigen.append(time.process_time() - start)
    return {
        "rows": rows,
        "value": value,
        "moments_s": spent,
        "distance_s": statistics.median(distances),
        "eigendecomposition_s": statistics.median(eigen),
        "grown_mb": grown,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--rows", type=int, nargs="+", default=[2500, 10_000, 40_000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("-o", "--out", type=Path, help="folder for frechet_speed.md and .json")
    arguments = parser.parse_args()
    width = arguments.width
    # read by the libraries of the processes that are started below
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        runs = [pool.apply(measure, (rows, width, arguments.repeats)) for rows in arguments.rows]
    words = f"--width {width} --rows {' '.join(map(str, arguments.rows))} --repeats {arguments.repeats}"
    versions = f"Python {platform.python_version()}, NumPy {np.__version__}, SciPy {scipy.__version__}, {platform.machine()}"
    lines = [
        "# The Frechet distance beside one symmetric eigendecomposition",
        "",
        f"Features {width} wide, float64, one thread; seconds of processor time, medians of {arguments.repeats} (moments: "
        f"once). {versions}; "
        f"`python benchmarks/frechet_speed.py {words}`. The distance is that of two sets of moments; target: under {TARGET:g} "
        "times the eigendecomposition (values and vectors). Memory: by how much the process grew while rows streamed and the "
        "distance was computed; one covariance is "
        f"{width * width * 8 / (1 << 20):.0f} MB.",
        "",
        "| rows in each set | moments of both | distance | eigendecomposition | distance / eigendecomposition | with moments "
        "| memory, MB |",
        "|---|---|---|---|---|---|---|",
    ]
    for run in runs:
        own, eigen = run["distance_s"], run["eigendecomposition_s"]
        lines.append(
            f"| {run['rows']} | {run['moments_s']:.2f} | {own:.2f} | {eigen:.2f} | **{own / eigen:.2f}** | "
            f"{(run['moments_s'] + own) / eigen:.2f} | {run['grown_mb']:.0f} |"
        )
    print("\n".join(lines))
    if arguments.out:
        write_text(arguments.out / "frechet_speed.md", "\n".join(lines) + "\n")
        found = {"width": width, "repeats": arguments.repeats, "versions": versions, "target": TARGET, "runs": runs}
        write_text(arguments.out / "frechet_speed.json", json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
