"""A picture of what the models of a bench made of the same reports, beside the real scans.

    ctgen bench --models ctflow,baseline -o bench
    python benchmarks/model_pictures.py bench models.png --cases atlas-90210-00001 atlas-90210-00004

A column per model, the real scan first; for every case an axial and a coronal row at the same places, the report above.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Sequence
from pathlib import Path

from ctgen.atomic import read_json
from ctgen.bench.product import SUFFIX, folder_of
from ctgen.data.prepared import PreparedCases
from ctgen.report.canvas import BRIGHT, DIM, black_figure, save_png
from ctgen.report.planes import Plane, axial, coronal
from ctgen.volume import Volume
from ctgen.volume.io import read_volume
from ctgen.volume.window import to_unit

PANEL, TEXT, HEADER = 1.75, 0.42, 0.3
"""Inches: width of a panel; height of a report's lines; height of the models' names."""
WRAP = 26
"""Characters of report per panel width."""


def columns(bench: Path, models: Sequence[str]) -> dict[str, Path]:
    """Model -> folder of its volumes; ``models`` in their order, or all that the bench has volumes of."""
    known = read_json(bench / "results.json")
    found = {}
    for name in models or known["order"]:
        if name not in known["models"]:
            raise SystemExit(f"{bench} has no model {name!r}; it has {', '.join(known['models'])}")
        folder = folder_of(bench, name, known["models"][name]["fingerprint"]) / "samples"
        if folder.is_dir():
            found[name] = folder
        elif models:
            raise SystemExit(f"{bench} has no volumes of {name!r}: {folder} is missing")
    return found


def prepared(bench: Path, case_id: str) -> PreparedCases:
    """The real scans that have this case."""
    for folder in sorted((bench / "data").glob("prepare-*")):
        cases = PreparedCases(folder)
        if case_id in cases.ids():
            return cases
    raise SystemExit(f"{bench} has no case {case_id!r}")


def draw(
    bench: Path, target: Path, cases: Sequence[str], models: Sequence[str], window: tuple[float, float], at: float
) -> None:
    folders = columns(bench, models)
    names = ["real", *folders]
    rows: list[tuple[str, list[list[Plane]]]] = []
    for case_id in cases:
        real = prepared(bench, case_id)
        volumes: list[Volume] = [real.volume(case_id)]
        volumes += [read_volume(folder / f"{case_id}{SUFFIX}") for folder in folders.values()]
        report = real.report(case_id)
        text = f"{report.findings} {report.impressions}".strip() if report else "(no report)"
        rows.append((text, [[axial(one, at) for one in volumes], [coronal(one) for one in volumes]]))
    heights = [
        [PANEL * max(p.size_mm[0] for p in line) / max(p.size_mm[1] for p in line) for line in lines] for _, lines in rows
    ]
    total = HEADER + sum(TEXT + sum(case) for case in heights)
    figure = black_figure(PANEL * len(names), total)
    for column, name in enumerate(names):
        figure.text(
            (column + 0.5) / len(names), 1 - HEADER / 2 / total, name, color=BRIGHT, ha="center", va="center", fontsize=9
        )
    top = total - HEADER
    for (text, lines), case in zip(rows, heights, strict=True):
        short = textwrap.wrap(text, WRAP * len(names))
        shown = "\n".join(short[:2]) + (" ..." if len(short) > 2 else "")
        figure.text(0.004, (top - TEXT / 2) / total, shown, color=DIM, ha="left", va="center", fontsize=6.5)
        top -= TEXT
        for line, height in zip(lines, case, strict=True):
            top -= height
            for column, plane in enumerate(line):
                axes = figure.add_axes((column / len(names), top / total, 0.99 / len(names), 0.98 * height / total))
                axes.imshow(to_unit(plane.hu, window), cmap="gray", vmin=0, vmax=1, aspect="auto", interpolation="lanczos")
                axes.axis("off")
    save_png(figure, target)
    print(f"{target}: {', '.join(names)} for {len(cases)} reports, {window[0]:g} .. {window[1]:g} HU")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", type=Path, help="output folder of ctgen bench")
    parser.add_argument("target", type=Path, help="PNG to write")
    parser.add_argument("--cases", nargs="+", required=True, metavar="ID")
    parser.add_argument("--models", nargs="+", default=[], metavar="NAME", help="in this order; default: all with volumes")
    parser.add_argument("--window", nargs=2, type=float, default=(-1000.0, 500.0), metavar=("LOW", "HIGH"), help="HU")
    parser.add_argument("--at", type=float, default=0.5, help="height of the axial slice, 0 (feet) .. 1 (head)")
    arguments = parser.parse_args()
    draw(arguments.bench, arguments.target, arguments.cases, arguments.models, tuple(arguments.window), arguments.at)


if __name__ == "__main__":
    main()
