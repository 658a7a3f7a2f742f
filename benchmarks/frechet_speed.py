"""Time and memory of the Frechet distance beside one symmetric eigendecomposition of the same width.

python benchmarks/frechet_speed.py [--width 2048] [--rows 10000] [--json FILE]
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy import linalg

from ctgen.atomic import write_json
from ctgen.evaluate.frechet import frechet_of_moments
from ctgen.evaluate.moments import Moments

CHUNK = 500


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


def measure(rows: int, width: int) -> dict[str, float]:
    sets = []
    spent = 0.0
    for seed in (0, 1):
        moments = Moments(width)
        for chunk in features(rows, width, seed):
            start = time.perf_counter()
            moments.add(chunk)
            spent += time.perf_counter() - start
        sets.append(moments)
    start = time.perf_counter()
    value = frechet_of_moments(*sets)
    distance = time.perf_counter() - start
    return {"rows": rows, "value": value, "moments_s": spent, "distance_s": distance, "peak_mb": peak_mb()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    # small first: the peak of a process only grows
    runs = [measure(rows, arguments.width) for rows in (arguments.rows // 4, arguments.rows)]
    moments = Moments(arguments.width)
    for chunk in features(2 * arguments.width, arguments.width, 0):
        moments.add(chunk)
    matrix = moments.covariance()
    start = time.perf_counter()
    linalg.eigh(matrix, check_finite=False)
    eigen = time.perf_counter() - start
    total = runs[-1]["moments_s"] + runs[-1]["distance_s"]
    result = {"width": arguments.width, "eigendecomposition_s": eigen, "runs": runs, "ratio": total / eigen}
    for run in runs:
        print(
            f"{run['rows']:>6} x {run['rows']} rows, {arguments.width} wide: moments {run['moments_s']:.2f} s, distance "
            f"{run['distance_s']:.2f} s, peak {run['peak_mb']:.0f} MB"
        )
    print(f"one symmetric eigendecomposition: {eigen:.2f} s; all of the distance: {total / eigen:.2f} times as long")
    if arguments.json:
        write_json(arguments.json, result)


if __name__ == "__main__":
    main()
