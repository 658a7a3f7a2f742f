"""Sentences on calcification of the coronary arteries."""

from __future__ import annotations

import re

from ctgen.data.atlas.grammar import Speaker
from ctgen.data.atlas.reports.words import ARE_SEEN, NOT_SEEN, SEEN, About, Row

NAME = "coronary_artery_wall_calcification"
SPEAKS = re.compile(r"^(?=.*coronar).*calcif")
_LONG = {
    "LAD": "left anterior descending",
    "LCX": "circumflex",
    "RCA": "right coronary",
}


def present(say: Speaker, rows: list[Row], about: About) -> list[str]:
    slots = {
        "grade": rows[0]["severity"],
        "vessels": _vessels(say, rows),
        "short": _join([row["vessel"] for row in rows]),
        "count": {1: "one coronary artery", 2: "two coronary arteries", 3: "all three coronary arteries"}[len(rows)],
    }
    return [
        say.say(
            "{grade} [coronary artery |coronary arterial |coronary ]calcification " + SEEN + " in the {vessels}",
            "{grade} [calcified plaques|calcifications|calcific plaques] " + ARE_SEEN + " in {count} ({short})",
            "there are {grade} coronary [artery |]wall calcifications[ along the course|] of the {vessels}",
            "coronary arteries show {grade} [wall |]calcification[s|], in the {vessels}",
            "[wall |]calcification of {grade} degree " + SEEN + " in {count}[: {short}| ({short})]",
            "{grade} calcified [coronary plaques|plaques of the coronary arteries] " + ARE_SEEN + " ({short})",
            **slots,
        )
    ]


def absent(say: Speaker, about: About) -> str:
    return say.say(
        "no coronary [artery |arterial |]calcification " + NOT_SEEN,
        "the coronary arteries are not calcified",
        "there is no calcified plaque in the coronary arteries",
    )


def impression(say: Speaker, rows: list[Row], about: About) -> list[str]:
    return [
        say.say(
            "{grade} coronary [artery |arterial |]calcification[ ({short})|]",
            "[calcified plaques|calcifications] in the coronary arteries ([{grade}; |]{short})",
            "{grade} calcification of {count}",
            grade=rows[0]["severity"],
            short=_join([row["vessel"] for row in rows]),
            count={1: "one coronary artery", 2: "two coronary arteries", 3: "all three coronary arteries"}[len(rows)],
        )
    ]


def _vessels(say: Speaker, rows: list[Row]) -> str:
    """ "left anterior descending and circumflex arteries", or the short names."""
    names = [row["vessel"] for row in rows]
    if say.chance(0.35):
        return _join(names)
    return _join([_LONG[name] for name in names]) + (" artery" if len(names) == 1 else " arteries")


def _join(names: list[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
