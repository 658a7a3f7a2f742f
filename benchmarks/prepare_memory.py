"""Peak memory of prepare and encode (mini networks) for scans of 512 x 512 x 800 voxels, and for more of them.

    python benchmarks/prepare_memory.py [--shape 800,512,512] [--more 3] [-o benchmarks/results]

Each stage is a process of its own (`ctgen run --until ...`), its peak the kernel's ru_maxrss: everything, Python and torch
included. Scans: int16 .nii.gz with turned axes, float64 .nii.gz (the most bytes that a file can have), and ``--more`` of the
first. Grids: the default one of 3 mm, and for one scan its own spacing kept in full size (the encoder then runs for minutes).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path

from large_scans import write_scan

from ctgen.atomic import write_text

RECIPE = """
extends: preset:ctflow
name: memory
data: {{use: folder, root: {root}, default_report: "Normal chest.", valid_fraction: 0}}
prepare: {{size: {size}, spacing_mm: {spacing}}}
autoencoder: {{use: flux-vae, architecture: mini, weights: mini}}
text_encoder: {{use: ct-clip, layers: 3, width: 128, heads: 4, feed_forward: 512, max_tokens: 384, vocabulary: mini,
  weights: mini}}
backbone: {{use: stdit, layers: 6, width: 192, heads: 6, weights: random}}
encode: {{check_cases: 1}}
"""
TARGET_GB = 3.0


def peak_gb(recipe: Path, run_dir: Path, stage: str) -> float:
    """Run one stage in a process of its own; its largest resident set."""
    command = [sys.executable, "-m", "ctgen", "run", str(recipe), "--run-dir", str(run_dir), "--until", stage, "--quiet"]
    process = os.posix_spawn(sys.executable, command, dict(os.environ))
    _, status, usage = os.wait4(process, 0)
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"{' '.join(command)} failed")
    return usage.ru_maxrss * 1024 / 1e9


def written(path: Path, shape: tuple[int, int, int], **how: object) -> None:
    writer = multiprocessing.get_context("spawn").Process(target=write_scan, args=(path, shape), kwargs=how)
    writer.start()
    writer.join()
    if writer.exitcode:
        raise SystemExit(f"{path} could not be written")


def measure(root: Path, name: str, scans: Path, size: str, spacing: str) -> dict[str, object]:
    recipe = root / f"{name}.yaml"
    recipe.write_text(RECIPE.format(root=scans, size=size, spacing=spacing))
    peaks = {stage: peak_gb(recipe, root / f"run-{name}", stage) for stage in ("prepare", "encode")}
    shutil.rmtree(root / f"run-{name}")
    print(name, peaks, flush=True)
    return {"name": name, "scans": len(list(scans.iterdir())), "spacing": spacing, **peaks}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="800,512,512")
    parser.add_argument("--more", type=int, default=3)
    parser.add_argument("-o", "--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    d, h, w = (int(part) for part in arguments.shape.split(","))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        # In processes of their own: a child's peak starts at what its parent ever held.
        written(root / "one" / "scan0.nii.gz", (d, h, w), turned=True)
        written(root / "float64" / "scan0.nii.gz", (d, h, w), dtype="float64")
        (root / "more").mkdir()
        for number in range(arguments.more):
            # the same voxels under another name are another case
            os.link(root / "one" / "scan0.nii.gz", root / "more" / f"scan{number}.nii.gz")
        grids = {"3 mm": ("[96, 128, 128]", "[3, 3, 3]"), "kept": (f"[{d}, {h}, {w}]", "keep")}
        rows = [
            measure(root, f"{scans}-{grid.replace(' ', '')}", root / scans, size, spacing)
            for scans, grid in (("one", "3 mm"), ("more", "3 mm"), ("float64", "3 mm"), ("one", "kept"))
            for size, spacing in (grids[grid],)
        ]
    lines = [
        "# Peak memory of prepare and encode",
        "",
        f"Scans of {d} x {h} x {w} voxels (D, H, W), mini autoencoder and text encoder, one process per stage; target: under "
        f"{TARGET_GB:g} GB, and not growing with the number of scans. Python {platform.python_version()}; "
        f"`python benchmarks/prepare_memory.py --shape {arguments.shape} --more {arguments.more}`.",
        "",
        "| scans | grid | prepare, GB | encode, GB |",
        "|---|---|---|---|",
    ]
    for row in rows:
        scans = f"{row['scans']} {str(row['name']).split('-')[0]}"
        lines.append(f"| {scans} | {row['spacing']} | {row['prepare']:.2f} | {row['encode']:.2f} |")
    write_text(arguments.out / "prepare_memory.md", "\n".join(lines) + "\n")
    write_text(arguments.out / "prepare_memory.json", json.dumps(rows, indent=1) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
