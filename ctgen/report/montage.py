"""Montages: the same planes of several volumes side by side, at one scale in millimetres, as PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any

from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from ctgen.errors import DataError
from ctgen.report.canvas import AMBER, BRIGHT, DIM, black_figure, save_png
from ctgen.report.planes import Plane, axial, coronal, relative_heights, sagittal
from ctgen.volume import Volume
from ctgen.volume.window import WINDOWS, to_unit

PANEL_INCHES = 2.3
"""Width of the widest plane."""
SLICES = 4
GAP, LABEL, HEADER, TITLE, FOOT = 0.06, 0.62, 0.46, 0.34, 0.24
"""Inches: between panels; row labels; column captions; title; legend."""
TITLE_LINE, TITLE_LETTER, TITLE_LINES = 0.17, 0.095, 3
"""Inches of each further line of the title and of a wide letter in it; lines at most."""


@dataclass(frozen=True)
class _Cell:
    plane: Plane
    boundaries: tuple[int, ...] = ()


def montage(
    columns: Sequence[tuple[str, Volume]],
    path: Path,
    *,
    window: str | tuple[float, float] = "wide",
    title: str = "",
    slices: int = SLICES,
    boundaries: Mapping[str, Sequence[int]] | None = None,
) -> Path:
    """One column per (caption, volume): ``slices`` axial planes at the same relative heights, coronal, sagittal.

    ``boundaries``: caption -> first slices of generated blocks, marked beside the coronal and sagittal planes.
    Returns ``path``, written atomically. DataError without columns.
    """
    if not columns:
        raise DataError("a montage needs at least one volume")
    seams = boundaries or {}
    rows: list[tuple[str, list[_Cell]]] = [
        (f"axial\n{height:.0%}", [_Cell(axial(volume, height)) for _, volume in columns])
        for height in reversed(relative_heights(slices))
    ]
    for label, cut in (("coronal", coronal), ("sagittal", sagittal)):
        rows.append((label, [_Cell(cut(volume), tuple(seams.get(caption, ()))) for caption, volume in columns]))
    captions = [(caption, _size_text(volume)) for caption, volume in columns]
    marked = any(seams.get(caption) for caption, _ in columns)
    return save_png(_grid(rows, captions, window, title, marked), path)


def in_words(case_id: str, names: Sequence[str], slices: int = SLICES) -> str:
    """What a montage shows, for who does not see it."""
    heights = ", ".join(f"{height:.0%}" for height in reversed(relative_heights(slices)))
    return (
        f"Axial slices at {heights} of the height, a coronal and a sagittal one of case {case_id}; columns: {', '.join(names)}"
    )


def overview(
    volume: Volume, path: Path, title: str = "", *, window: str | tuple[float, float] = "wide", boundaries: Sequence[int] = ()
) -> Path:
    """A single volume: six axial planes (the lower three in the lower row), three coronal and three sagittal ones."""
    heights = relative_heights(6)
    seams = tuple(boundaries)
    rows = [
        (f"axial\n{heights[3]:.0%} to\n{heights[5]:.0%}", [_Cell(axial(volume, height)) for height in heights[3:]]),
        (f"axial\n{heights[0]:.0%} to\n{heights[2]:.0%}", [_Cell(axial(volume, height)) for height in heights[:3]]),
        ("coronal\n40% to\n60%", [_Cell(coronal(volume, depth), seams) for depth in (0.4, 0.5, 0.6)]),
        ("sagittal\n30% to\n70%", [_Cell(sagittal(volume, side), seams) for side in (0.3, 0.5, 0.7)]),
    ]
    return save_png(_grid(rows, [], window, title, bool(seams), _size_text(volume)), path)


def _grid(
    rows: Sequence[tuple[str, Sequence[_Cell]]],
    captions: Sequence[tuple[str, str]],
    window: str | tuple[float, float],
    title: str,
    marked: bool,
    below: str = "",
) -> Figure:
    """Rows are as high as their tallest plane in mm, all columns as wide as the widest plane, so that scales are equal."""
    columns = max(len(cells) for _, cells in rows)
    width_mm = max(cell.plane.size_mm[1] for _, cells in rows for cell in cells)
    heights_mm = [max(cell.plane.size_mm[0] for cell in cells) for _, cells in rows]
    inches_per_mm = PANEL_INCHES / width_mm
    heights = [height * inches_per_mm for height in heights_mm]
    width = LABEL + columns * (PANEL_INCHES + GAP)
    lines = wrap(title, int((width - 2 * GAP) / TITLE_LETTER), max_lines=TITLE_LINES, placeholder=" …")
    top = (TITLE + TITLE_LINE * (len(lines) - 1) if lines else GAP) + (HEADER if captions else 0.0)
    height = top + sum(heights) + GAP * len(rows) + FOOT
    figure = black_figure(width, height)
    if lines:
        figure.text(GAP / width, 1 - 0.09 / height, "\n".join(lines), color=BRIGHT, fontsize=10, weight="bold", va="top")
    for index, (caption, detail) in enumerate(captions):
        x = (LABEL + index * (PANEL_INCHES + GAP) + PANEL_INCHES / 2) / width
        figure.text(x, 1 - (top - 0.24) / height, caption, color=BRIGHT, fontsize=9.5, weight="bold", ha="center", va="bottom")
        figure.text(x, 1 - (top - 0.06) / height, detail, color=DIM, fontsize=7, ha="center", va="bottom")
    y = height - top
    for (label, cells), row_height, row_mm in zip(rows, heights, heights_mm, strict=True):
        y -= row_height
        figure.text(
            (LABEL - 0.08) / width, (y + row_height / 2) / height, label, color=DIM, fontsize=8, ha="right", va="center"
        )
        for index, cell in enumerate(cells):
            x = LABEL + index * (PANEL_INCHES + GAP)
            axes = figure.add_axes((x / width, y / height, PANEL_INCHES / width, row_height / height))
            _draw(axes, cell, width_mm, row_mm, window, letters=index == 0)
        y -= GAP
    legend = "   ".join(text for text in (_legend(window, marked), below) if text)
    figure.text((LABEL + GAP) / width, 0.07 / height, legend, color=DIM, fontsize=7, va="bottom")
    bar = 100 * inches_per_mm
    axes = figure.add_axes(((width - GAP - bar) / width, 0.06 / height, bar / width, 0.03 / height))
    axes.set_facecolor(DIM)
    axes.set_xticks([])
    axes.set_yticks([])
    figure.text((width - GAP - bar - 0.06) / width, 0.07 / height, "10 cm", color=DIM, fontsize=7, ha="right", va="bottom")
    return figure


def _draw(
    axes: Any, cell: _Cell, width_mm: float, height_mm: float, window: str | tuple[float, float], *, letters: bool
) -> None:
    plane = cell.plane
    tall, wide = plane.size_mm
    left, bottom = (width_mm - wide) / 2, (height_mm - tall) / 2
    axes.set_facecolor("black")
    axes.imshow(
        to_unit(plane.hu, window),
        cmap="gray",
        vmin=0,
        vmax=1,
        extent=(left, left + wide, bottom, bottom + tall),
        interpolation="bilinear",
    )
    axes.set_xlim(0, width_mm)
    axes.set_ylim(0, height_mm)
    axes.set_axis_off()
    if plane.slice_up:
        mark = 0.03 * width_mm
        for start in cell.boundaries:
            height = bottom + tall * start / plane.hu.shape[0]
            for end in (left, left + wide - mark):
                axes.plot((end, end + mark), (height, height), color=AMBER, linewidth=0.9, solid_capstyle="butt")
    if letters:
        side, up = plane.ends
        style = {"transform": axes.transAxes, "color": AMBER, "fontsize": 7.5, "weight": "bold"}
        style["path_effects"] = [withStroke(linewidth=1.8, foreground="black")]
        axes.text(0.015, 0.5, side, va="center", ha="left", **style)
        axes.text(0.5, 0.985, up, va="top", ha="center", **style)


def _legend(window: str | tuple[float, float], marked: bool) -> str:
    low, high = WINDOWS[window] if isinstance(window, str) else window
    text = f"window {low:g} to {high:g} HU"
    return f"{text}; amber ticks: block boundaries" if marked else text


def _size_text(volume: Volume) -> str:
    size = "×".join(map(str, volume.shape))
    spacing = "×".join(f"{value:.3g}" for value in volume.spacing_mm)
    return f"{size} voxels, {spacing} mm"
