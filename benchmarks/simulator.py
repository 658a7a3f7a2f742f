"""How fast ``atlas-thorax`` makes cases: ``python benchmarks/simulator.py [--cases 20] [--size D H W] [--spacing D H W]``.

One process on one core per size; without ``--size`` 96 x 128 x 128 voxels of 3 mm, and then 256 x 256 x 256 with an eighth of
the cases. By the clock and in processor time, after a first case that loads the atlas; tables that a finding needs are loaded
when it first occurs, and count. ``-o FILE`` writes a table in Markdown.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import multiprocessing
import platform
import resource
import time
from pathlib import Path

from ctgen.data.atlas.config import AtlasThoraxConfig
from ctgen.data.atlas.dataset import SIMULATOR, AtlasThorax

USUAL = (((96, 128, 128), (3.0, 3.0, 3.0), 1), ((256, 256, 256), (1.1, 1.5, 1.5), 8))
"""Size, spacing and by what the number of cases is divided."""
HEAD = """# Speed of the simulator

Simulator {simulator}, Python {python}, one process on one of {cores} cores; every finding with a probability of 0.35. In
processor time, without the first case, which loads the atlas; tables that findings load when they first occur are counted.
Cases do not depend on each other: n processes make n times as many.
`python benchmarks/simulator.py --cases {cases} -o FILE`.

| voxels | mm | cases | per second and core | seconds per case | first case, s | peak memory, MB |
|---|---|---|---|---|---|---|
"""


def measure(config: AtlasThoraxConfig) -> tuple[float, float, float, float]:
    """Seconds for the first case; seconds by the clock and of the processor for all; peak memory in MB."""
    dataset = AtlasThorax(config)
    started = time.perf_counter()
    dataset[0]
    first = time.perf_counter() - started
    wall, busy = time.perf_counter(), time.process_time()
    for index in range(config.cases):
        dataset[index]
    wall, busy = time.perf_counter() - wall, time.process_time() - busy
    return first, wall, busy, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=20)
    parser.add_argument("--size", type=int, nargs=3, metavar=("D", "H", "W"))
    parser.add_argument("--spacing", type=float, nargs=3, default=(3.0, 3.0, 3.0), metavar=("D", "H", "W"), help="mm")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--out", type=Path, help="a file in Markdown")
    given = parser.parse_args()
    wanted = ((tuple(given.size), tuple(given.spacing), 1),) if given.size else USUAL
    rows = []
    for size, spacing, part in wanted:
        cases = max(1, given.cases // part)
        config = AtlasThoraxConfig(cases=cases, seed=given.seed, size=size, spacing_mm=spacing)
        # A process of its own: the peak of one size says nothing about another.
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            first, wall, busy, peak = pool.apply(measure, (config,))
        voxels, mm = (" x ".join(f"{value:g}" for value in values) for values in (size, spacing))
        print(f"{voxels}: first case, with loading the atlas: {first:.2f} s")
        print(f"{cases} cases: {cases / wall:.2f} per second by the clock, {cases / busy:.2f} per processor second")
        print(f"peak memory {peak:.0f} MB")
        rows.append(f"| {voxels} | {mm} | {cases} | {cases / busy:.2f} | {busy / cases:.2f} | {first:.1f} | {peak:.0f} |")
    if given.out is not None:
        head = HEAD.format(simulator=SIMULATOR, python=platform.python_version(), cores=os.cpu_count(), cases=given.cases)
        given.out.write_text(head + "\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
