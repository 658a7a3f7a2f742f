"""A contact sheet: eight reports, one finding each, and what a model makes of them; with what label-cnn sees.

    python benchmarks/eight_reports.py preset:ctflow-plus sheet.png [--seed 0] [--keep FOLDER]

Nothing is chosen: every report has one draw, with the seed that is given. Below each report stand three axial slices, low to
high, and a coronal one, as a radiologist looks at them (the patient's right on the left). The table that is printed has
label-cnn's score of the label asked for beside its score in the volume of the normal report. label-cnn never read a report; it
knows no sides and sees few nodules: those are for the reader's eye.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Sequence
from pathlib import Path

from ctgen import Host
from ctgen.report.canvas import BRIGHT, DIM, black_figure, save_png
from ctgen.report.planes import axial, coronal
from ctgen.volume import Volume
from ctgen.volume.io import read_volume
from ctgen.volume.window import to_unit

REPORTS: dict[str, tuple[str, str]] = {
    "normal": ("The heart is of normal size. Both lungs are clear. No pleural effusion. No nodule. Normal chest CT.", ""),
    "effusion right": (
        "Large right pleural effusion with passive atelectasis. The heart is of normal size.",
        "Pleural effusion",
    ),
    "effusion left": ("Large left pleural effusion with passive atelectasis. The heart is of normal size.", "Pleural effusion"),
    "cardiomegaly": ("Marked cardiomegaly. No pleural effusion. The lungs are clear.", "Cardiomegaly"),
    "emphysema": ("Severe emphysema in both lungs. The heart is of normal size.", "Emphysema"),
    "consolidation": ("Consolidation in the right lower lobe. No pleural effusion.", "Consolidation"),
    "nodule upper": ("A solid nodule of 28 mm in the right upper lobe.", "Lung nodule"),
    "nodule lower": ("A solid nodule of 28 mm in the left lower lobe.", "Lung nodule"),
}
"""Name -> report, and the label that it asks for."""
HEIGHTS = (0.3, 0.5, 0.7)
WINDOW = (-1000.0, 400.0)
PANEL, TEXT = 1.9, 0.75
"""Inches: width of a panel, height of the report above it."""


def generate(model: str, seed: int, folder: Path, options: Sequence[str]) -> dict[str, Volume]:
    table = folder / "reports.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "report"])
        rows.writerows([name.replace(" ", "-"), report] for name, (report, _) in REPORTS.items())
    command = [
        sys.executable,
        "-m",
        "ctgen",
        "generate",
        model,
        "--reports",
        str(table),
        "--seed",
        str(seed),
        "-o",
        str(folder),
    ]
    subprocess.run(command, check=True)
    return {name: read_volume(folder / f"{name.replace(' ', '-')}.nii.gz") for name in REPORTS}


def draw(volumes: dict[str, Volume], target: Path) -> None:
    planes = {name: [*(axial(volume, at) for at in HEIGHTS), coronal(volume)] for name, volume in volumes.items()}
    shapes = [plane.size_mm for plane in next(iter(planes.values()))]
    heights = [PANEL * high / wide for high, wide in shapes]
    total = TEXT + sum(heights)
    figure = black_figure(PANEL * len(planes), total)
    for column, (name, shown) in enumerate(planes.items()):
        left = (column + 0.5) / len(planes)
        figure.text(left, 1 - 0.12 / total, name, color=BRIGHT, ha="center", va="center", fontsize=9)
        report = "\n".join(textwrap.wrap(REPORTS[name][0], 34))
        figure.text(left, 1 - 0.24 / total, report, color=DIM, ha="center", va="top", fontsize=6)
        top = total - TEXT
        for plane, height in zip(shown, heights, strict=True):
            top -= height
            axes = figure.add_axes((column / len(planes), top / total, 0.99 / len(planes), 0.99 * height / total))
            axes.imshow(to_unit(plane.hu, WINDOW), cmap="gray", vmin=0, vmax=1, aspect="auto", interpolation="lanczos")
            axes.axis("off")
    save_png(figure, target)


def table(volumes: dict[str, Volume]) -> str:
    """label-cnn's score of what was asked for, in its volume and in the normal one."""
    extractor = Host.discover().create("feature_extractor", "label-cnn")
    scores = {name: extractor.labels(volume) for name, volume in volumes.items()}
    lines = ["| report | label | score | in the normal volume |", "|---|---|---|---|"]
    for name, (_, label) in REPORTS.items():
        if label:
            lines.append(f"| {name} | {label} | {scores[name][label]:.2f} | {scores['normal'][label]:.2f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="preset, recipe or run, as for ctgen generate")
    parser.add_argument("target", type=Path, help="PNG to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--slices", type=int, help="fewer for a quick look")
    parser.add_argument("--steps", type=int, help="solver steps; default: the model's")
    parser.add_argument("--keep", type=Path, help="folder for the volumes; default: they are thrown away")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder: Path = arguments.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        given = {"--slices": arguments.slices, "--steps": arguments.steps}
        options = [word for name, value in given.items() if value is not None for word in (name, str(value))]
        volumes = generate(arguments.model, arguments.seed, folder, options)
        draw(volumes, arguments.target)
        found = table(volumes)
    print(f"{arguments.target}: {arguments.model}, seed {arguments.seed}; label-cnn's scores\n\n{found}", end="")


if __name__ == "__main__":
    main()
