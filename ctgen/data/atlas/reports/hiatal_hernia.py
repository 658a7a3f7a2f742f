"""Sentences on hiatal hernia; without one, on the oesophagus."""

from __future__ import annotations

import re

from ctgen.data.atlas.grammar import Speaker
from ctgen.data.atlas.reports.words import NOT_SEEN, SEEN, About, Row

NAME = "hiatal_hernia"
SPEAKS = re.compile(r"hernia")


def absent(say: Speaker, about: About) -> str:
    return say.say(
        "the thoracic oesophagus is [normal|of normal calibre][, without wall thickening|]",
        "no [wall thickening|thickening] of the oesophagus " + NOT_SEEN,
        "[no hiatal hernia " + NOT_SEEN + "|there is no hiatal hernia]",
        "thoracic esophageal calibration is normal, and no [significant|tumoral] wall thickening was detected",
    )


_KIND = {"sliding": "[sliding |sliding type |]", "paraesophageal": "[large |][paraesophageal |mixed type |]"}
_INSIDE = {
    "air-fluid": "[, containing an air-fluid level|, with air and fluid inside| with an air-fluid level|]",
    "fluid": "[, filled with [fluid|food residue]| with fluid content|]",
    "fat": "[, containing [mainly |]fat|, with herniated fat| with fatty content|]",
}


def present(say: Speaker, rows: list[Row], about: About) -> list[str]:
    row = rows[0]
    size = {"small": "[small|mild]", "moderate": "[moderate|medium-sized]", "large": "[large|giant]"}[row["size"]]
    kind, inside = _KIND[row["kind"]], _INSIDE[row["contents"]]
    organ = "[fat|gastric fat|omental fat]" if row["contents"] == "fat" else "[part of the stomach|the gastric fundus|stomach]"
    return [
        say.say(
            "[a |]" + size + " " + kind + "hiatal hernia " + SEEN + "[, {mm} mm in diameter| measuring {mm} mm|]" + inside,
            "there is [a |]" + size + " " + kind + "hiatal hernia[ of {mm} mm|]" + inside,
            kind + "hiatal hernia " + SEEN + "[ at the lower end of the oesophagus| behind the heart|][ ({mm} mm)|]" + inside,
            organ + " [lies|is located] above the diaphragm, [consistent|compatible] with " + kind + "hiatal hernia"
            "[ ({mm} mm across)|]",
            "[at the oesophageal hiatus|behind the heart], a " + size + " " + kind + "hernia[ of {mm} mm|] " + SEEN + inside,
            "herniation of " + organ + " through the oesophageal hiatus " + SEEN + "[, with a width of {mm} mm|]",
            mm=row["size_mm"],
        )
    ]  # fmt: skip


def impression(say: Speaker, rows: list[Row], about: About) -> list[str]:
    row = rows[0]
    return [
        say.say(
            "{size} hiatal hernia",
            _KIND[row["kind"]] + "hiatal hernia[ ({mm} mm)|]",
            "{kind} hiatal hernia",
            size=row["size"],
            kind=row["kind"],
            mm=row["size_mm"],
        )
    ]
