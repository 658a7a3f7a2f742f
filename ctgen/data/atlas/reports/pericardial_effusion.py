"""Sentences on pericardial effusion."""

from __future__ import annotations

import re

from ctgen.data.atlas.grammar import Speaker
from ctgen.data.atlas.reports.words import NOT_SEEN, SEEN, About, Row

NAME = "pericardial_effusion"
SPEAKS = re.compile(r"^(?=.*pericardi).*(?:effusion|fluid)")


def absent(say: Speaker, about: About) -> str:
    return say.say(
        "no pericardial effusion[ or thickening|] " + NOT_SEEN,
        "pericardial [effusion|fluid][-thickening|] was not [detected|observed]",
        "there is no pericardial effusion",
        "the pericardium is [normal|of normal thickness, without effusion]",
    )


_SIZE = {"small": "[small|mild|minimal]", "moderate": "moderate", "large": "[large|massive|marked]"}


def present(say: Speaker, rows: list[Row], about: About) -> list[str]:
    size = _SIZE[rows[0]["size"]]
    around = rows[0]["spread"] == "around"
    where = (
        "[ surrounding the heart| around the heart|, circumferential in extent|]"
        if around
        else "[ behind the left ventricle| in the dependent part| posteriorly|]"
    )
    return [
        say.say(
            "[a |]" + size + " pericardial effusion " + SEEN + where + "[, {mm} mm in thickness|, up to {mm} mm thick|]",
            "there is [a |]" + size + " pericardial effusion" + where + "[ (up to {mm} mm)| measuring {mm} mm at its widest|]",
            "pericardial effusion of " + size + " degree " + SEEN + where + "[, reaching {mm} mm|]",
            "[fluid|an effusion] " + SEEN + " in the pericardial space" + where + "[, with a thickness of {mm} mm|]",
            "the pericardial sac contains " + size + " [fluid|effusion][, measuring {mm} mm|]" + where,
            "between the pericardial leaves, fluid [reaching a thickness of {mm} mm |]" + SEEN,
            mm=rows[0]["size_mm"],
        )
    ]


def impression(say: Speaker, rows: list[Row], about: About) -> list[str]:
    return [
        say.say(
            _SIZE[rows[0]["size"]] + " pericardial effusion",
            "pericardial effusion[ ({mm} mm)|]",
            "pericardial [effusion|fluid] of " + _SIZE[rows[0]["size"]] + " degree",
            mm=rows[0]["size_mm"],
        )
    ]
