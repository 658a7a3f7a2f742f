"""Figures without pyplot's global state, and PNG files that are small and the same for the same content."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ctgen.atomic import write_atomically

BRIGHT, DIM, AMBER = "#f2f2f2", "#a9a9a9", "#f5b041"
COLOURS = ("#1f6fb4", "#d9680d", "#2a8f45", "#8e4bb0", "#b3303a", "#5f6b76")
"""Lines on white; told apart in grey too."""
PLOT_DPI, PLOT_SCALE = 200, 2
"""Plots have so many pixels for each of the page's, for sharp screens: the page shows them at 100 to the inch."""


def black_figure(width: float, height: float) -> Figure:
    """Inches. Pictures of patients stand on black."""
    figure = Figure(figsize=(width, height), facecolor="black")
    FigureCanvasAgg(figure)
    return figure


def white_figure(width: float, height: float, rows: int = 1, *, share_x: bool = True) -> tuple[Figure, list[Any]]:
    """A figure with ``rows`` axes below each other, without frame at top and right."""
    figure = Figure(figsize=(width, height), dpi=PLOT_DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, 1, squeeze=False, sharex=share_x)
    axes = [row[0] for row in grid]
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
        each.tick_params(labelsize=8)
        each.grid(visible=True, color="#e3e3e3", linewidth=0.6)
        each.set_axisbelow(True)
    return figure, axes


def save_png(figure: Figure, path: Path, *, colours: int = 256) -> Path:
    """Write ``figure`` atomically as a palette PNG, a third of the size of true colour."""
    from PIL import Image

    figure.canvas.draw()  # type: ignore[no-untyped-call]
    pixels = Image.fromarray(_rgb(figure), "RGB")
    palette = pixels.quantize(colours, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    return write_atomically(path, lambda temporary: palette.save(temporary, format="PNG", optimize=True))


def _rgb(figure: Figure) -> Any:
    import numpy as np

    canvas: Any = figure.canvas
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])
