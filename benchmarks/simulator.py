"""How fast ``atlas-thorax`` makes cases: ``python benchmarks/simulator.py [--cases 20] [--size D H W] [--spacing D H W]``.

Prints wall-clock and processor time; one process, one core.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import resource
import time

from ctgen.data.atlas.config import AtlasThoraxConfig
from ctgen.data.atlas.dataset import AtlasThorax


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=20)
    parser.add_argument("--size", type=int, nargs=3, default=(96, 128, 128), metavar=("D", "H", "W"))
    parser.add_argument("--spacing", type=float, nargs=3, default=(3.0, 3.0, 3.0), metavar=("D", "H", "W"), help="mm")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    dataset = AtlasThorax(
        AtlasThoraxConfig(cases=given.cases, seed=given.seed, size=tuple(given.size), spacing_mm=tuple(given.spacing))
    )
    started = time.perf_counter()
    dataset[0]
    print(f"first case, with loading the atlas: {time.perf_counter() - started:.2f} s")
    wall, busy = time.perf_counter(), time.process_time()
    for index in range(given.cases):
        dataset[index]
    wall, busy = time.perf_counter() - wall, time.process_time() - busy
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{given.cases} cases: {given.cases / wall:.2f} per second by the clock, {given.cases / busy:.2f} per processor second"
    )
    print(f"peak memory {peak:.0f} MB")


if __name__ == "__main__":
    main()
