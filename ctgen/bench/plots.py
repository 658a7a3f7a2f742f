"""Plots of a bench: every number as bars with intervals; what goes by block, tissue or label as lines of points."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ctgen.bench.rows import ARROWS, Row, names_in, rows_of
from ctgen.report.canvas import COLOURS, save_png, white_figure
from ctgen.report.content import Figure

WIDTH = 8.2
FLOOR = "#b8bec4"
AT_A_TIME = 8
"""Numbers per picture."""


def bars(document: Mapping[str, Any], protocol: str, folder: Path) -> list[Figure]:
    """One row of bars per headline number, floors in grey, whiskers for intervals."""
    rows = [row for row in rows_of(document, protocol) if _finite(row)]
    names = names_in(document, protocol)
    figures = []
    for start in range(0, len(rows), AT_A_TIME):
        shown = rows[start : start + AT_A_TIME]
        figure, axes = white_figure(WIDTH, 0.3 + len(shown) * (0.45 + 0.17 * len(names)), len(shown), share_x=False)
        for each, row in zip(axes, shown, strict=True):
            _bars(each, row, names, document)
        path = save_png(figure, folder / f"{protocol}-bars-{start // AT_A_TIME}.png", colours=64)
        figures.append(Figure(path, f"{protocol}: values with 95 % intervals; grey: floors", section="plots"))
    return figures


def _bars(axes: Any, row: Row, names: Sequence[str], document: Mapping[str, Any]) -> None:
    for place, name in enumerate(reversed(names)):
        score = row.scores.get(name)
        if score is None or not _number(score["value"]):
            continue
        colour = _colour(name, names, document)
        axes.barh(place, score["value"], color=colour, height=0.7)
        if score["low"] is not None:
            axes.plot([score["low"], score["high"]], [place, place], color="#222222", linewidth=1.2)
    axes.set_yticks(range(len(names)), list(reversed(names)), fontsize=7.5)
    axes.set_title(f"{row.name} {ARROWS[row.higher_is_better].strip()}", fontsize=8.5, loc="left", pad=3)
    axes.grid(visible=False, axis="y")


def details(document: Mapping[str, Any], protocol: str, folder: Path) -> list[Figure]:
    """One picture per metric and stem of keys such as "auroc.LABEL" or "drift.BLOCK": all models over the endings."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows_of(document, protocol, details=True):
        stem, dot, _ = row.key.partition(".")
        if dot and _finite(row):
            groups.setdefault((row.metric, stem), []).append(row)
    names = names_in(document, protocol)
    figures = []
    for (metric, stem), rows in groups.items():
        if len(rows) < 2:
            continue
        figure, (axes,) = white_figure(WIDTH, 0.9 + 0.26 * len(rows))
        for name in names:
            points = [(row.scores[name]["value"], place) for place, row in enumerate(rows) if name in row.scores]
            points = [(value, place) for value, place in points if _number(value)]
            if points:
                axes.plot(*zip(*points, strict=True), "o", color=_colour(name, names, document), markersize=4.5, label=name)
        axes.set_yticks(range(len(rows)), [row.key.partition(".")[2] for row in rows], fontsize=7.5)
        axes.invert_yaxis()
        axes.set_xlabel(f"{metric}: {stem}", fontsize=9)
        axes.legend(fontsize=7.5, frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))
        path = save_png(figure, folder / f"{protocol}-{metric}-{stem}.png".replace("#", ""), colours=64)
        figures.append(Figure(path, f"{protocol}: {metric}, {stem} by {_by(rows)}", section="plots"))
    return figures


def _by(rows: Sequence[Row]) -> str:
    return "block" if all(row.key.partition(".")[2].lstrip("block-_ ").isdigit() for row in rows) else "label or tissue"


def _colour(name: str, names: Sequence[str], document: Mapping[str, Any]) -> str:
    models = [one for one in names if not document["models"][one]["floor"]]
    return COLOURS[models.index(name) % len(COLOURS)] if name in models else FLOOR


def _finite(row: Row) -> bool:
    return any(_number(score["value"]) for score in row.scores.values())


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
