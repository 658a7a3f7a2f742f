"""What each finding of ``atlas-thorax`` changes: ``python benchmarks/simulator_findings.py [--seeds 20] [-o FOLDER]``.

Counterfactual pairs: the same patient, scanner and noise, with one finding and with none. Per finding over the pairs in which
it shows: how many voxels of its mask changed, by how many HU (median over the mask, then the middle and the range over pairs),
the volume of the mask, how far from the mask the farthest change lies, and which share of all change lies outside the mask.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import platform
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed
from scipy import ndimage

from ctgen.atomic import write_json, write_text
from ctgen.data.atlas.config import FINDINGS, AtlasThoraxConfig, FindingName
from ctgen.data.atlas.dataset import SIMULATOR
from ctgen.data.atlas.scan import simulate

HEALTHY = dict.fromkeys(FINDINGS, False)
SCAN = AtlasThoraxConfig(size=(64, 84, 84), spacing_mm=(4.5, 4.5, 4.5))


def pair(name: FindingName, seed: int) -> dict[str, float] | None:
    """Measures of one pair; None if the finding does not show in this patient."""
    ill = simulate(seed, 0, SCAN, present={**HEALTHY, name: True}, with_masks=True)
    well = simulate(seed, 0, SCAN, present=HEALTHY)
    change = ill.volume.hu.astype(np.int32) - well.volume.hu
    if name not in ill.findings:
        if change.any():
            raise SystemExit(f"{name} does not show in seed {seed}, but the scan differs")
        return None
    assert ill.masks is not None
    mask = ill.masks[name]
    away = ndimage.distance_transform_edt(~mask, sampling=SCAN.spacing_mm)
    return {
        "changed": float((change[mask] != 0).mean()),
        "hu": float(np.median(change[mask])),
        "ml": float(mask.sum() * np.prod(SCAN.spacing_mm) / 1000),
        "reach_mm": float(away[change != 0].max()),
        "outside": float(np.abs(change[~mask]).sum() / np.abs(change).sum()),
        "equal": float((change == 0).mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("-o", "--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    jobs = [(name, 100 + seed) for name in FINDINGS for seed in range(arguments.seeds)]
    made = Parallel(arguments.workers)(delayed(pair)(name, seed) for name, seed in jobs)
    rows = {name: [found for (of, _), found in zip(jobs, made, strict=True) if of == name and found] for name in FINDINGS}
    lines = [
        "# What each finding changes",
        "",
        f"{arguments.seeds} counterfactual pairs each, {SCAN.spacing_mm[0]:g} mm voxels; middle (lowest to highest) over "
        f"the pairs in which it shows. Simulator {SIMULATOR}, Python {platform.python_version()}; "
        f"`python benchmarks/simulator_findings.py --seeds {arguments.seeds}`.",
        "",
        "| finding | shows in | mask, ml | HU added in the mask | mask changed | farthest change, mm | change outside the mask "
        "| voxels that stay equal |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, found in rows.items():
        if not found:
            lines.append(f"| {name} | 0 | | | | | | |")
            continue
        of = {key: np.array([one[key] for one in found]) for key in found[0]}
        spread = {key: f"{np.median(value):.0f} ({value.min():.0f} to {value.max():.0f})" for key, value in of.items()}
        lines.append(
            f"| {name} | {len(found)} | {spread['ml']} | {spread['hu']} | {of['changed'].min():.0%} or more | "
            f"{of['reach_mm'].max():.0f} | {np.median(of['outside']):.0%} | {of['equal'].min():.1%} or more |"
        )
    write_text(arguments.out / "simulator_findings.md", "\n".join(lines) + "\n")
    write_json(arguments.out / "simulator_findings.json", rows)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
