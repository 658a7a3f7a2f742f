"""Are stored voxels HU already, or do they need the slope and intercept of a table? Decided per file, by evidence.

CT-RATE's raw volumes need them, its ``*_fixed`` volumes do not, and applying them again turns a chest to air
(ibrahimethemhamamci/CT-CLIP#50).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ctgen.data.intensity import CLEARLY, Histogram, Intensity, histogram_of, measure_histogram
from ctgen.errors import VolumeError
from ctgen.volume.voxels import INT16, to_voxels

Mode = Literal["auto", "hu", "csv-rescale"]
Reading = Literal["hu", "csv-rescale"]
SAMPLE = 4_000_000
"""Voxels looked at for a decision."""


@dataclass(frozen=True)
class Decision:
    """``reading`` of a file (None: refused), why, and the numbers of both readings (``rescaled`` None: it changes nothing)."""

    reading: Reading | None
    why: str
    slope: float
    intercept: float
    stored: Intensity
    rescaled: Intensity | None = None

    @property
    def result(self) -> Intensity:
        """Of the HU that are read."""
        return self.rescaled if self.reading == "csv-rescale" and self.rescaled is not None else self.stored

    def to_json(self) -> dict[str, Any]:
        """For the manifest: the decision and its numbers."""
        numbers = {"stored": _numbers(self.stored)}
        if self.rescaled is not None:
            numbers["rescaled"] = _numbers(self.rescaled)
        applied = {"slope": self.slope, "intercept": self.intercept} if self.reading == "csv-rescale" else {}
        return {"decision": self.reading, "why": self.why, **applied, **numbers}

    def __str__(self) -> str:
        """Why, with the numbers of both readings."""
        text = f"{self.why}; stored: {_sentence(self.stored)}"
        if self.rescaled is not None:
            text += f"; {self.slope:g} x {self.intercept:+g}: {_sentence(self.rescaled)}"
        return text


def judge(histogram: Histogram, rescale: tuple[float, float] | None, mode: Mode = "auto") -> Decision:
    """How to read a file whose voxels have this histogram; ``rescale``: slope and intercept of its table's row, if any.

    Refused: what would not be plausible HU, two plausible readings that nothing tells apart, "csv-rescale" without a row.
    """
    stored = measure_histogram(histogram)
    slope, intercept = rescale or (1.0, 0.0)
    rescaled = None if (slope, intercept) == (1.0, 0.0) else measure_histogram(histogram.rescaled(slope, intercept))
    reading: Reading | None
    if mode == "csv-rescale" and rescale is None:
        reading, why = None, "the rescale slope and intercept are not known: no row of the metadata table has them"
    elif mode == "hu" or rescaled is None:
        reading, why = _only("hu", stored, rescaled, asked=mode != "auto")
    elif mode == "csv-rescale":
        reading, why = _only("csv-rescale", rescaled, stored, asked=True)
    else:
        reading, why = _by_evidence(stored, rescaled)
    return Decision(reading, why, slope, intercept, stored, rescaled)


def decide(path: Path, histogram: Histogram, rescale: tuple[float, float] | None, mode: Mode = "auto") -> Decision:
    """As ``judge``; raises VolumeError, with the numbers of both readings, where it refuses."""
    decision = judge(histogram, rescale, mode)
    if decision.reading is None:
        hint = "exclude it, or say how to read it: data.intensity=hu or csv-rescale" if mode == "auto" else ""
        raise VolumeError(path, str(decision), hint=hint)
    return decision


def to_hu(stored: NDArray[Any], decision: Decision, path: Path, floor_hu: float) -> NDArray[Any]:
    """HU of ``stored`` (which may be changed in place), nothing below ``floor_hu``: padding becomes air."""
    hu = stored
    if decision.reading == "csv-rescale":
        whole = decision.slope == 1.0 and decision.intercept == int(decision.intercept) and stored.dtype == np.int16
        ends = (int(stored.min()) + decision.intercept, int(stored.max()) + decision.intercept) if whole else (0, 0)
        if whole and INT16.min <= min(ends) and max(ends) <= INT16.max:
            hu += np.int16(decision.intercept)
        else:
            hu = to_voxels(stored.astype(np.float32, copy=False), path, decision.slope, decision.intercept)
    np.maximum(hu, hu.dtype.type(floor_hu), out=hu)
    return hu


def sampled(stored: NDArray[Any]) -> Histogram:
    """Histogram of enough voxels for a decision."""
    return histogram_of(stored, at_most=SAMPLE)


def _only(reading: Reading, one: Intensity, other: Intensity | None, *, asked: bool) -> tuple[Reading | None, str]:
    """The reading that was asked for, or the only one there is."""
    if one.wrong:
        return None, f"implausible HU: {one.wrong}"
    if not one.plausible and (not asked or (other is not None and other.plausible)):
        better = " (the other reading is plausible)" if other is not None and other.plausible else ""
        return None, f"implausible HU{better}: {_first(one)}"
    return reading, "as asked for" if asked else "plausible HU as stored, and the table's rescale changes nothing"


def _by_evidence(stored: Intensity, rescaled: Intensity) -> tuple[Reading | None, str]:
    one, other = stored.score, rescaled.score
    if stored.plausible and (one >= CLEARLY * other or not rescaled.plausible):
        return "hu", f"body and air are in place as stored ({one:.1%}), and less after the table's rescale ({other:.1%})"
    if rescaled.plausible and (other >= CLEARLY * one or not stored.plausible):
        return (
            "csv-rescale",
            f"body and air are in place after the table's rescale ({other:.1%}), and less as stored ({one:.1%})",
        )
    if stored.plausible and rescaled.plausible:
        if stored.has_known_floor != rescaled.has_known_floor:
            reading: Reading = "hu" if stored.has_known_floor else "csv-rescale"
            return reading, "both readings are plausible; only this one has a floor that HU volumes are filled with"
        return None, "as stored and after the table's rescale it is plausible HU, and nothing tells which is right"
    return None, f"implausible HU as stored and after the table's rescale: {stored.wrong or rescaled.wrong or _first(stored)}"


def _first(found: Intensity) -> str:
    return found.problems[0] if found.problems else f"{found.soft_share:.1%} soft tissue, {found.empty_share:.1%} air and lung"


def _sentence(found: Intensity) -> str:
    shares = f"{found.soft_share:.1%} soft tissue, {found.empty_share:.1%} air and lung"
    peaks = ", ".join(f"{'no' if hu is None else f'{hu:g} HU'} {name} peak" for name, hu in _peaks(found))
    return f"{found.low:g} to {found.high:g}, {shares}, {peaks}"


def _peaks(found: Intensity) -> tuple[tuple[str, float | None], ...]:
    return ("air", found.air_peak_hu), ("soft-tissue", found.soft_peak_hu)


def _numbers(found: Intensity) -> dict[str, Any]:
    return {
        "low": found.low,
        "high": found.high,
        "floor_share": round(found.floor_share, 5),
        "padding_hu": found.padding_hu,
        "padding_share": round(found.padding_share, 5),
        "air_peak_hu": found.air_peak_hu,
        "soft_peak_hu": found.soft_peak_hu,
        "soft_share": round(found.soft_share, 5),
        "empty_share": round(found.empty_share, 5),
    }
