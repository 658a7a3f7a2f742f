"""Plots of a bench, small enough for a narrow screen: numbers as bars with intervals, what goes by plane, tissue or label
as points, and what goes by block as lines."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctgen.bench.rows import ARROWS, Row, cell, named, names_in, real_scores, rows_of
from ctgen.report.canvas import COLOURS, save_png, white_figure
from ctgen.report.content import Figure

WIDTH = 4.6
FONT = 8.0
FLOORS = ("#7d868f", "#a3abb3")
INK = "#222222"
LONGEST_NAME = 22
RESAMPLES = 1000


def bars(document: Mapping[str, Any], protocol: str, folder: Path) -> list[Figure]:
    """One picture per headline number: a bar per model, floors grey, whiskers for intervals, the real scans' value dashed."""
    rows = rows_of(document, protocol)
    real = real_scores(rows, document)
    names = names_in(document, protocol)
    figures = []
    for row in rows:
        shown = [name for name in names if name in row.scores and _number(row.scores[name]["value"])]
        if row.floor or not shown:
            continue
        level = real.get((row.metric, row.key), {}).get("value")
        figure, (axes,) = white_figure(WIDTH, 0.42 + 0.2 * len(shown))
        for place, name in enumerate(reversed(shown)):
            score = row.scores[name]
            axes.barh(place, score["value"], color=_colour(name, names, document), height=0.72)
            if score["low"] is not None:
                axes.plot([score["low"], score["high"]], [place, place], color=INK, linewidth=1.2)
        if _number(level):
            axes.axvline(level, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
        axes.set_yticks(range(len(shown)), [_short(name) for name in reversed(shown)], fontsize=FONT)
        axes.set_ylim(-0.6, len(shown) - 0.4)
        if not any(row.scores[name]["value"] for name in shown):
            axes.set_xlim(0, 1)
        axes.grid(visible=False, axis="y")
        path = save_png(figure, folder / _file(f"{protocol}-{row.metric}-{row.key}-bars"), colours=64)
        alt = "; ".join(f"{name} {cell(row.scores[name])}" for name in shown)
        dashed = f"; dashed, the real scans: {level:.4g}" if _number(level) else ""
        figures.append(
            Figure(path, f"{row.name} {ARROWS[row.higher_is_better]}".strip(), "", "plots", row.meaning, alt + dashed)
        )
    return figures


def details(document: Mapping[str, Any], protocol: str, folder: Path) -> list[Figure]:
    """One picture per metric and stem of keys such as "auroc.LABEL": all models over the endings."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows_of(document, protocol, details=True):
        stem, dot, _ = row.key.partition(".")
        if dot and any(_number(score["value"]) for score in row.scores.values()):
            groups.setdefault((row.metric, stem), []).append(row)
    names = names_in(document, protocol)
    figures = []
    for (metric, stem), rows in groups.items():
        if len(rows) < 2:
            continue
        endings = [row.key.partition(".")[2] for row in rows]
        figure, (axes,) = white_figure(WIDTH, 0.75 + len(rows) * (0.14 + 0.075 * len(names)))
        for index, name in enumerate(names):
            offset = (index - (len(names) - 1) / 2) * 0.75 / len(names)
            colour, marker = _colour(name, names, document), "D" if document["models"][name]["floor"] else "o"
            found = [(place + offset, row.scores[name]) for place, row in enumerate(rows) if name in row.scores]
            found = [(place, score) for place, score in found if _number(score["value"])]
            for place, score in found:
                if score["low"] is not None:
                    axes.plot([score["low"], score["high"]], [place, place], color=colour, linewidth=1.0)
            values = [score["value"] for _, score in found]
            axes.plot(values, [place for place, _ in found], marker, color=colour, markersize=3.4, label=_short(name))
        axes.set_yticks(range(len(rows)), endings, fontsize=FONT)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        _legend(figure, axes)
        path = save_png(figure, folder / _file(f"{protocol}-{metric}-{stem}"), colours=64)
        arrow = ARROWS[rows[0].higher_is_better].strip()
        title = f"{named(metric, stem)} {arrow}".strip()
        figures.append(
            Figure(path, title, "", "plots", f"by {_by(endings)}", f"{title} by {_by(endings)}; values in the table")
        )
    return figures


def by_block(document: Mapping[str, Any], protocol: str, folder: Path) -> list[Figure]:
    """Mean over cases, and a band, of what a metric tells beside its numbers as NAME_by_block: case -> values of its blocks."""
    results = document["protocols"][protocol]["results"]
    names = names_in(document, protocol)
    curves: dict[tuple[str, str], dict[str, NDArray[np.float64]]] = {}
    for name in names:
        for metric, key, cases in _by_block(results[name]):
            longest = max((len(values) for values in cases.values()), default=0)
            if longest > 1:
                rows = [[*values, *[math.nan] * (longest - len(values))] for values in cases.values()]
                curves.setdefault((metric, key), {})[name] = np.array(rows, np.float64)
    figures = []
    for (metric, key), models in curves.items():
        figure, (axes,) = white_figure(WIDTH, 2.2)
        for name, table in models.items():
            colour, blocks = _colour(name, names, document), np.arange(table.shape[1])
            axes.plot(blocks, np.nanmean(table, axis=0), "o-", color=colour, markersize=3.4, linewidth=1.3, label=_short(name))
            if len(table) > 2:
                axes.fill_between(blocks, *_band(table), color=colour, alpha=0.2, linewidth=0)
        axes.set_xticks(range(max(table.shape[1] for table in models.values())))
        axes.set_xlabel("block, from the feet up", fontsize=FONT)
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
        _legend(figure, axes)
        path = save_png(figure, folder / _file(f"{protocol}-{metric}-{key}"), colours=64)
        means = (f"{name} {', '.join(f'{value:.4g}' for value in np.nanmean(table, axis=0))}" for name, table in models.items())
        note = "mean over cases, 95 % bootstrap band"
        figures.append(
            Figure(path, f"{metric}: {key.replace('_', ' ')}", "", "plots", note, f"From block 0: {'; '.join(means)}")
        )
    return figures


def _by_block(result: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Sequence[float]]]]:
    for metric, facts in result.get("extra", {}).items():
        for key, cases in facts.items():
            if key.endswith("_by_block") and cases:
                yield metric, key, cases


def _band(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """(cases, blocks) -> (2, blocks): ends of the bootstrap interval of the mean over cases that have the block."""
    drawn = np.random.default_rng(0).multinomial(len(table), np.full(len(table), 1 / len(table)), RESAMPLES)
    known = np.isfinite(table)
    weights = drawn @ known
    means = drawn @ np.where(known, table, 0.0) / np.where(weights > 0, weights, math.nan)
    found: NDArray[np.float64] = np.nanpercentile(means, [2.5, 97.5], axis=0)
    return found


def _legend(figure: Any, axes: Any) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=FONT, frameon=False, loc="outside lower center", ncols=min(3, len(labels)))


def _by(endings: Sequence[str]) -> str:
    return "plane" if set(endings) <= {"xy", "xz", "yz"} else "tissue" if all(one.islower() for one in endings) else "label"


def _colour(name: str, names: Sequence[str], document: Mapping[str, Any]) -> str:
    floors = [one for one in names if document["models"][one]["floor"]]
    models = [one for one in names if one not in floors]
    return FLOORS[floors.index(name) % len(FLOORS)] if name in floors else COLOURS[models.index(name) % len(COLOURS)]


def _short(name: str) -> str:
    half = LONGEST_NAME // 2 - 1
    return name if len(name) <= LONGEST_NAME else f"{name[:half]}…{name[-half:]}"


def _file(stem: str) -> str:
    return "".join(sign if sign.isalnum() or sign in "-_." else "-" for sign in stem) + ".png"


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
