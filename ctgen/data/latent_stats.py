"""Numbers about latents: their scale, and what half precision costs them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ctgen.interfaces import Posterior

LARGEST_ROUNDING = 0.01
"""Of the latents' standard deviation: what half precision may change without a warning."""


def case_stats(posterior: Posterior) -> dict[str, Any]:
    """Of one case's moments (1, c, d, h, w) before they are rounded: JSON-ready sums, to be added up by ``together``.

    ``flushed``: values that are not 0 but become 0 in half precision; ``rounding``: sum of squares of what rounding changes.
    """
    sums, squares, rounding, flushed = [], [], 0.0, 0
    # A channel at a time: in double precision a whole scan would take several times the memory of its latents.
    for channel in posterior.mean[0]:
        values = channel.flatten().double()
        rounded = values.half().double()
        sums.append(values.sum().item())
        squares.append(values.square().sum().item())
        rounding += (values - rounded).square().sum().item()
        flushed += int(((rounded == 0) & (values != 0)).sum())
    return {
        "count": posterior.mean[0, 0].numel(),
        "sum": sums,
        "squares": squares,
        "rounding": rounding,
        "flushed": flushed,
        "variance": None
        if posterior.logvar is None
        else sum(channel.double().exp().sum().item() for channel in posterior.logvar[0]),
    }


def together(stats: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Over cases: ``latent_mean``, ``latent_std`` (raw latents: what shift and scale should undo), both ``by_channel``, and

    ``half``: ``rounding`` as a share of the latents' standard deviation, ``rounding_to_noise`` as a share of the posterior's
    (None without one), ``flushed`` as a share of all values.
    """
    count = sum(entry["count"] for entry in stats)
    sums = [sum(column) for column in zip(*(entry["sum"] for entry in stats), strict=True)]
    squares = [sum(column) for column in zip(*(entry["squares"] for entry in stats), strict=True)]
    total = count * len(sums)
    rounding = math.sqrt(sum(entry["rounding"] for entry in stats) / total)
    std = _std(sum(sums), sum(squares), total)
    variances = [entry["variance"] for entry in stats if entry["variance"] is not None]
    noise = math.sqrt(sum(variances) / total) if len(variances) == len(stats) else 0.0
    return {
        "latent_mean": _short(sum(sums) / total),
        "latent_std": _short(std),
        "by_channel": {
            "mean": [_short(value / count) for value in sums],
            "std": [_short(_std(*pair, count)) for pair in zip(sums, squares, strict=True)],
        },
        "half": {
            "rounding": _short(rounding / std) if std else 0.0,
            "rounding_to_noise": _short(rounding / noise) if noise else None,
            "flushed": _short(sum(entry["flushed"] for entry in stats) / total),
        },
    }


def half_warning(found: Mapping[str, Any]) -> str:
    """What a user should know about half precision, or ""; ``found``: of ``together``."""
    half = found["half"]
    if half["rounding"] > LARGEST_ROUNDING or half["flushed"] > LARGEST_ROUNDING:
        return (
            f"half precision changes the latents by {half['rounding']:.1%} of their standard deviation and turns "
            f"{half['flushed']:.1%} of them to 0: their scale is unusual, are these the right weights?"
        )
    return ""


def _std(total: float, squares: float, count: int) -> float:
    return math.sqrt(max(squares / count - (total / count) ** 2, 0.0))


def _short(value: float) -> float:
    """Five digits, whatever the size."""
    return float(f"{value:.5g}")
