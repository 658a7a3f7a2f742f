"""Does a finding come on the side that its report names?

    python benchmarks/sides.py preset:ctflow-plus [preset:ctflow ...] [--seeds 8] [-o benchmarks/results]

Pairs of reports that differ in left and right alone, each pair from the same noise. Counted in every volume: air (voxels of
-960 to -400 HU) in the right half of the body per air in the left half; what fills a lung takes its air away. A pair is told
apart if its right volume has the smaller ratio. A model that does not read the side gets half of the pairs right; intervals
are Wilson's, 95 %. Writes sides.md and sides.json.
"""

from __future__ import annotations

import argparse
import csv
import math
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest

from ctgen.atomic import read_json, write_json, write_text
from ctgen.volume import Volume
from ctgen.volume.body import body_centre_mm
from ctgen.volume.io import read_volume
from ctgen.volume.orient import to_canonical

REPORTS: Mapping[str, str] = {
    "effusion": "The heart is of normal size. Large {} pleural effusion is observed, with passive atelectasis of the {} lower "
    "lobe. No nodule is seen. Large {} pleural effusion.",
    "effusion, short": "Large {} pleural effusion.",
    "consolidation": "The heart is of normal size. There is an extensive consolidation in the {} lower lobe with air "
    "bronchograms. No pleural effusion is seen. Consolidation in the {} lower lobe.",
}
AIR = (-960.0, -400.0)


def air_ratio(volume: Volume) -> float:
    """Air in the right half of the body per air in the left, halved at the middle of the body's bounding box."""
    canonical, _ = to_canonical(volume)
    air = (canonical.hu > AIR[0]) & (canonical.hu < AIR[1])
    middle = body_centre_mm(canonical)
    start, step = canonical.affine[0, 3], canonical.affine[0, 2]
    cut = canonical.shape[2] // 2 if middle is None else round((middle[0] - start) / step)
    # x grows to the patient's left
    right, left = air[..., :cut].sum(), air[..., cut:].sum()
    return float((right + 1) / (left + 1))


def measure(model: str, seeds: int, folder: Path, options: Sequence[str]) -> dict[str, list[tuple[float, float]]]:
    """Finding -> for every seed the ratio of the report that says right, and of its twin that says left."""
    for side in ("right", "left"):
        table = folder / f"{side}.csv"
        with table.open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(["id", "report"])
            # the same ids on both sides: a volume's noise comes of seed and id
            rows.writerows(
                [f"{number}-{seed}", text.replace("{}", side)]
                for number, text in enumerate(REPORTS.values())
                for seed in range(seeds)
            )
        words = ["generate", model, "--reports", str(table), "-o", str(folder / side), "--quiet", *options]
        subprocess.run([sys.executable, "-m", "ctgen", *words], check=True)
    return {
        finding: [
            (
                air_ratio(read_volume(folder / "right" / f"{number}-{seed}.nii.gz")),
                air_ratio(read_volume(folder / "left" / f"{number}-{seed}.nii.gz")),
            )
            for seed in range(seeds)
        ]
        for number, finding in enumerate(REPORTS)
    }


def summary(pairs: Sequence[tuple[float, float]]) -> dict[str, float]:
    """``told``: share of pairs told apart; ``factor``: ratio with right in the report per ratio with left, geometric mean."""
    told = sum(right < left for right, left in pairs)
    interval = binomtest(told, len(pairs)).proportion_ci(method="wilson")
    factor = math.exp(np.mean([math.log(right / left) for right, left in pairs]))
    return {"told": told / len(pairs), "low": interval.low, "high": interval.high, "factor": factor, "pairs": len(pairs)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="presets, recipes or runs, as for ctgen generate")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--slices", type=int, help="fewer for a quick look")
    parser.add_argument("-o", "--out", type=Path, default=Path("benchmarks/results"))
    arguments = parser.parse_args()
    options = ["--slices", str(arguments.slices)] if arguments.slices else []
    results: dict[str, dict[str, dict[str, float]]] = {}
    made: dict[str, Any] = {}
    for model in arguments.models:
        with tempfile.TemporaryDirectory() as temporary:
            found = measure(model, arguments.seeds, Path(temporary), options)
            made[model] = read_json(Path(temporary, "right", "0-0.json"))["provenance"]
        results[model] = {finding: summary(pairs) for finding, pairs in found.items()}
    command = f"python benchmarks/sides.py {' '.join(arguments.models)} --seeds {arguments.seeds}"
    lines = [
        "# The side asked for",
        "",
        f"`{command}`",
        "",
        "Pairs of reports that differ in left and right alone, each pair from the same noise. Told apart: the",
        "volume of the right one has less air on the right, as against the left, than its twin; a model that does not read the",
        "side gets half. Factor: air right per air left with right in the report, over the same with left; 1 where the side",
        "does nothing.",
        "",
        "| model | finding | pairs | told apart | 95 % interval | factor |",
        "|---|---|---|---|---|---|",
    ]
    for model, findings in results.items():
        for finding, one in findings.items():
            interval = f"{one['low']:.0%} .. {one['high']:.0%}"
            lines.append(f"| {model} | {finding} | {one['pairs']} | {one['told']:.0%} | {interval} | {one['factor']:.2f} |")
    lines.append("")
    for model, one in made.items():
        parts = ", ".join(f"{part} {found['label']} {found['sha256'][:16]}" for part, found in one["weights"].items())
        versions = ", ".join(f"{name} {one['versions'][name]}" for name in ("ctgen-framework", "torch", "python"))
        lines.append(
            f"{model}: recipe {one['recipe']}, hash {one['recipe_hash']}; weights: {parts}; {versions}; {one['device']}."
        )
    write_text(arguments.out / "sides.md", "\n".join(lines) + "\n")
    write_json(arguments.out / "sides.json", {"seeds": arguments.seeds, "provenance": made, "models": results})
    print("\n".join(line for line in lines if line.startswith("|")))


if __name__ == "__main__":
    main()
