"""What the modules of reports share; every word of them is ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ctgen.data.atlas.config import FINDINGS
from ctgen.data.atlas.grammar import Speaker
from ctgen.data.atlas.patient import Patient, Scanner

Row = dict[str, Any]
Rows = dict[str, list[Row]]

SEEN = "[is seen|is present|is observed|is noted|was detected|is detected]"
ARE_SEEN = "[are seen|are present|are observed|are noted|were detected]"
NOT_SEEN = "[is seen|was seen|was detected|is observed|is identified|was found]"


@dataclass(frozen=True)
class About:
    """A case, as a report may tell it: ``found`` are the rows of ``facts.listed`` by name."""

    found: Rows
    patient: Patient
    scanner: Scanner
    ratio: float | None
    """Cardiothoracic ratio."""
    slice_mm: float
    kinds: Sequence[str] = FINDINGS
    """Findings that the data set can have."""


def lobe_name(lobe: str, say: Speaker) -> str:
    """ "upper_lobe_left" -> "left upper lobe", or another way to say it."""
    level, _, side = lobe.split("_")
    if level == "middle":
        return say.phrase("right middle lobe", "middle lobe of the right lung", "right lung middle lobe")
    return say.phrase(
        "{side} {level} lobe", "{level} lobe of the {side} lung", "{side} lung {level} lobe", side=side, level=level
    )


def lobes_name(lobes: Sequence[str], say: Speaker) -> str:
    """Several lobes in one phrase: "right upper and left lower lobes"."""
    if len(lobes) == 1:
        return lobe_name(lobes[0], say)
    if len(lobes) == 2 and lobes[0].rsplit("_", 1)[0] == lobes[1].rsplit("_", 1)[0]:
        level = lobes[0].split("_")[0]
        return say.phrase("both {level} lobes", "the {level} lobes of both lungs", level=level).removeprefix("the ")
    short = ["{2} {0} lobe".format(*lobe.split("_")) for lobe in lobes]
    return ", ".join(short[:-1]) + " and " + short[-1]
