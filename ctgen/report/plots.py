"""Plots of a run as PNG: the training curve, HU histograms, slice differences along the body."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctgen.errors import DataError, MissingFileError
from ctgen.evaluate.continuity import slice_differences as differences_of
from ctgen.evaluate.hu_histogram import RANGES_HU, bin_centres, histogram
from ctgen.report.canvas import COLOURS, save_png, white_figure
from ctgen.volume import Volume

WINDOW_HU = (-1000.0, 1000.0)
BIN_HU = 10.0
MOST_SIDE_CURVES = 5
WIDTH = 8.2
"""Inches."""


def loss_curve(metrics_jsonl: Path, path: Path) -> Path:
    """The loss by step with its running mean, and below it the other logged numbers. A torn last line is left out.

    Raises MissingFileError without the file, DataError if no line of it has a step and a loss.
    """
    if not metrics_jsonl.is_file():
        raise MissingFileError(f"there is no training log {metrics_jsonl}")
    lines = [line for line in _lines(metrics_jsonl) if "loss" in line]
    if not lines:
        raise DataError(f"{metrics_jsonl} has no line with a step and a loss")
    others = [name for name in dict.fromkeys(key for line in lines for key in line) if name not in ("step", "loss")]
    shown = others[:MOST_SIDE_CURVES]
    figure, axes = white_figure(WIDTH, 2.8 + 1.05 * len(shown), 1 + len(shown))
    grid = axes[0].get_gridspec()
    grid.set_height_ratios([2.6, *(1.0 for _ in shown)])
    steps, loss = _series(lines, "loss")
    axes[0].plot(steps, loss, color=COLOURS[0], alpha=0.35, linewidth=1, label="as logged")
    axes[0].plot(steps, running_mean(loss), color=COLOURS[0], linewidth=1.8, label="running mean")
    axes[0].set_ylabel("loss", fontsize=9)
    if loss.min() > 0 and loss.max() > 20 * loss.min():
        axes[0].set_yscale("log")
    axes[0].legend(fontsize=8, frameon=False)
    for each, name in zip(axes[1:], shown, strict=True):
        each.plot(*_series(lines, name), color=COLOURS[5], linewidth=1.1)
        each.set_ylabel(name.replace("_", " "), fontsize=8)
    axes[-1].set_xlabel("step", fontsize=9)
    figure.align_ylabels()
    return save_png(figure, path, colours=64)


def hu_histograms(named: Sequence[tuple[str, Volume]], path: Path) -> Path:
    """Share of voxels by HU, volumes of the same name pooled; tissue ranges shaded, logarithmic."""
    if not named:
        raise DataError("a histogram needs at least one volume")
    centres = bin_centres(WINDOW_HU, BIN_HU)
    pooled: dict[str, NDArray[np.float64]] = {}
    for name, volume in named:
        counts = histogram(np.clip(np.asarray(volume.hu, np.float32), *WINDOW_HU), WINDOW_HU, BIN_HU)
        pooled[name] = pooled.get(name, 0.0) + counts
    figure, (axes,) = white_figure(WIDTH, 3.2)
    for index, (tissue, (low, high)) in enumerate(RANGES_HU.items()):
        left, right = max(low, WINDOW_HU[0]), min(high, WINDOW_HU[1])
        axes.axvspan(left, right, color="#f0f0f0" if index % 2 else "#e6ebf0", zorder=0, linewidth=0)
        axes.text(
            (left + right) / 2, 1.01, tissue, transform=axes.get_xaxis_transform(), fontsize=7.5, ha="center", color="#555555"
        )
    for colour, (name, counts) in zip(_cycle(len(pooled)), pooled.items(), strict=True):
        axes.step(
            centres, np.where(counts > 0, counts / counts.sum(), np.nan), where="mid", color=colour, linewidth=1.4, label=name
        )
    axes.set_yscale("log")
    axes.set_xlim(*WINDOW_HU)
    axes.set_xlabel("HU (clipped to the axis)", fontsize=9)
    axes.set_ylabel(f"share of voxels per {BIN_HU:g} HU", fontsize=9)
    axes.legend(fontsize=8, frameon=False)
    return save_png(figure, path, colours=64)


def slice_differences(named: Sequence[tuple[str, Volume, Sequence[int]]], path: Path) -> Path:
    """Mean |difference| of neighbouring axial slices along the body, one row per (name, volume, block boundaries)."""
    if not named:
        raise DataError("slice differences need at least one volume")
    figure, axes = white_figure(WIDTH, 0.6 + 1.35 * len(named), len(named), share_x=True)
    top = 0.0
    for each, colour, (name, volume, boundaries) in zip(axes, _cycle(len(named)), named, strict=True):
        differences = differences_of(np.clip(np.asarray(volume.hu, np.float32), *WINDOW_HU))
        # a difference stands between two slices; a block that starts at slice b has its seam at b - 0.5
        each.plot(np.arange(len(differences)) + 0.5, differences, color=colour, linewidth=1.3)
        for start in boundaries:
            each.axvline(start - 0.5, color="#b3303a", linewidth=0.9, linestyle=(0, (3, 2)))
        seams = [start - 1 for start in boundaries if 0 < start <= len(differences)]
        each.plot([index + 0.5 for index in seams], differences[seams], "o", color="#b3303a", markersize=3.5)
        each.set_title(name, fontsize=8.5, loc="left", pad=3)
        top = max(top, float(differences.max(initial=0.0)))
    for each in axes:
        each.set_ylim(0, 1.08 * top or 1.0)
        each.set_ylabel("|dz|, HU", fontsize=8)
    axes[-1].set_xlabel("axial slice, feet to head; dashed: block boundary", fontsize=9)
    return save_png(figure, path, colours=64)


def running_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Centred mean over about a twentieth of the curve; at its ends over what is there."""
    half = max(1, len(values) // 40)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    first, last = np.maximum(index - half, 0), np.minimum(index + half + 1, len(values))
    means: NDArray[np.float64] = (sums[last] - sums[first]) / (last - first)
    return means


def _lines(path: Path) -> list[dict[str, float]]:
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and "step" in entry:
            found.append({key: float(value) for key, value in entry.items() if isinstance(value, int | float)})
    return found


def _series(lines: Sequence[dict[str, float]], name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    points = np.array([(line["step"], line[name]) for line in lines if name in line])
    return points[:, 0], points[:, 1]


def _cycle(count: int) -> list[Any]:
    return [COLOURS[index % len(COLOURS)] for index in range(count)]
