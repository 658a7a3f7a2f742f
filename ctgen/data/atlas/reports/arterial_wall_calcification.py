"""Sentences on calcification of the aorta and its branches."""

from __future__ import annotations

import re

from ctgen.data.atlas.grammar import Speaker
from ctgen.data.atlas.reports.words import ARE_SEEN, NOT_SEEN, SEEN, About, Row

NAME = "arterial_wall_calcification"
SPEAKS = re.compile(r"^(?!.*(?:coronar|lymph))(?=.*(?:aort|arter)).*(?:calcif|atherom)")
_PLACES = {
    "arch": "[aortic arch|arch of the aorta]",
    "descending": "[descending aorta|descending thoracic aorta]",
    "branches": "[supra-aortic arteries|arterial branches of the arch|supra-aortic arterial branches]",
}


def present(say: Speaker, rows: list[Row], about: About) -> list[str]:
    severity = rows[0]["severity"]
    slots = {"grade": severity, "places": _places(say, rows), "spread": _spread(say, rows)}
    slots["show"] = "show" if len(rows) > 1 or rows[0]["segment"] == "branches" else "shows"
    return [
        say.say(
            "{grade} [calcified atheromatous plaques|wall calcifications|calcific plaques] " + ARE_SEEN + " in the {places}",
            "{grade} [arterial |]wall calcification " + SEEN + " in the {places}",
            "there are {spread} [calcified plaques|wall calcifications] of {grade} degree in the {places}",
            "the {places} {show} {grade} [wall calcification|atherosclerotic calcification]",
            "{spread} calcified [atherosclerotic |atheroma |]plaques " + ARE_SEEN + " along the wall of the {places} ({grade})",
            "[atherosclerotic changes with|] {spread} calcifications of {grade} extent "
            + ARE_SEEN
            + " in the wall of the {places}",
            **slots,
        )
    ]


def absent(say: Speaker, about: About) -> str:
    return say.say(
        "no [wall |]calcification of the [thoracic |]aorta " + NOT_SEEN,
        "the [aortic wall|wall of the thoracic aorta] is not calcified",
        "there is no calcified plaque in the aortic wall",
    )


def impression(say: Speaker, rows: list[Row], about: About) -> list[str]:
    return [
        say.say(
            "{grade} [arterial wall calcification|atheromatous calcification of the aorta|calcified plaques of the aortic wall]"
            if any(row["segment"] != "branches" for row in rows)
            else "{grade} [wall calcification of the supra-aortic arteries|calcified plaques of the supra-aortic arteries]",
            "{grade} wall calcification of the {places}",
            "calcified [atheromatous |]plaques in the {places}",
            grade=rows[0]["severity"],
            places=_places(say, rows),
        )
    ]


def _places(say: Speaker, rows: list[Row]) -> str:
    segments = [row["segment"] for row in rows]
    if segments == ["arch", "descending"] and say.chance(0.4):
        return say.phrase("aortic arch and descending aorta", "arch and descending part of the aorta")
    names = [say.phrase(_PLACES[segment]) for segment in segments]
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def _spread(say: Speaker, rows: list[Row]) -> str:
    number = sum(row["number"] for row in rows)
    if number <= 4:
        return say.phrase("[a few|scattered|isolated|small]") if number > 1 else say.phrase("[small|focal|isolated]")
    return say.phrase("[several|multiple|scattered]") if number <= 12 else say.phrase("[extensive|widespread|numerous]")
