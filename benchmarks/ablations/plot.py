"""A group as bars: one small plot per number, base and variants below each other, whiskers for intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from textwrap import fill
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from score import all_names
from variants import BASE

from ctgen.bench.rows import ARROWS
from ctgen.report.canvas import COLOURS, save_png

ACROSS = 4
WIDE = 44
"""Letters of a title that fit over a plot."""
GREY, INK = "#b8bec4", "#222222"


def plot(
    path: Path, name: str, question: str, scored: Mapping[str, Mapping[str, Any]], floors: Mapping[str, Mapping[str, Any]]
) -> Path:
    """``scored``: variant -> record, the base grey. Dashed: the base's value; dotted: real scans through its autoencoder."""
    tables = [record["scores"] for record in scored.values()]
    numbers = [one for one in all_names(tables) if any(_finite(table.get(one, {}).get("value")) for table in tables)]
    rows = max(1, math.ceil(len(numbers) / ACROSS))
    figure = Figure(figsize=(13.5, 0.6 + rows * (0.75 + 0.24 * len(scored))), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(f"{name}: {question}", fontsize=11, x=0.01, ha="left")
    grid = figure.subplots(rows, ACROSS, squeeze=False, sharey=True)
    for place, axes in enumerate(grid.flat):
        if place >= len(numbers):
            axes.set_visible(False)
            continue
        _bars(axes, numbers[place], scored, floors.get("vae", {}))
    return save_png(figure, path, colours=64)


def _bars(axes: Any, number: str, scored: Mapping[str, Mapping[str, Any]], floor: Mapping[str, Any]) -> None:
    direction = None
    for place, (name, record) in enumerate(scored.items()):
        score = record["scores"].get(number)
        if score is None or not _finite(score["value"]):
            continue
        direction = score["higher_is_better"]
        colour = GREY if name == BASE else COLOURS[(place - 1) % len(COLOURS)]
        axes.barh(place, score["value"], color=colour, height=0.7)
        if score["low"] is not None:
            axes.plot([score["low"], score["high"]], [place, place], color=INK, linewidth=1.1)
        if name == BASE:
            axes.axvline(score["value"], color=INK, linewidth=0.8, linestyle="--")
    # the autoencoder's volumes cost what an encoding does, which is no bound for a model
    if _finite(floor.get(number, {}).get("value")) and not number.startswith("seconds"):
        axes.axvline(floor[number]["value"], color=INK, linewidth=0.9, linestyle=":")
    axes.set_yticks(range(len(scored)), list(scored), fontsize=8)
    axes.set_ylim(len(scored) - 0.4, -0.6)
    axes.set_title(fill(f"{number} {ARROWS[direction].strip()}", WIDE), fontsize=8.5, loc="left", pad=3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=7.5)
    axes.locator_params(axis="x", nbins=5)  # small numbers are long, and ran into each other
    axes.grid(visible=True, axis="x", color="#e3e3e3", linewidth=0.6)
    axes.set_axisbelow(True)


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
