"""Sentences on peribronchial thickening."""

from __future__ import annotations

import re

from ctgen.data.atlas.grammar import Speaker
from ctgen.data.atlas.reports.words import NOT_SEEN, SEEN, About, Row

NAME = "peribronchial_thickening"
SPEAKS = re.compile(r"peribronchial|bronchial wall")


def present(say: Speaker, rows: list[Row], about: About) -> list[str]:
    row = rows[0]
    where = "[ bilaterally| in both lungs| on both sides]" if row["side"] == "bilateral" else f" in the {row['side']} lung"
    zone = (
        "[, mainly in the lower lobes|, more marked in the lower zones|]" if row["zone"] == "lower" else "[, mainly central|]"
    )
    return [
        say.say(
            "{grade} peribronchial thickening " + SEEN + where + zone,
            "there is {grade} peribronchial [thickening|cuffing]" + where + zone,
            "[bronchial walls|the walls of the bronchi] are {much} thickened" + where + " (peribronchial thickening)" + zone,
            "{grade} thickening of the bronchial walls " + SEEN + where + zone,
            "peribronchial [wall |]thickening of {grade} degree " + SEEN + where,
            grade=row["severity"],
            much={"mild": "mildly", "moderate": "moderately", "severe": "markedly"}[row["severity"]],
        )
    ]


def absent(say: Speaker, about: About) -> str:
    return say.say(
        "there is no peribronchial thickening",
        "no peribronchial thickening " + NOT_SEEN,
    )


def impression(say: Speaker, rows: list[Row], about: About) -> list[str]:
    where = "[ in both lungs|]" if rows[0]["side"] == "bilateral" else f"[ in the {rows[0]['side']} lung|]"
    return [
        say.say(
            "[{grade} |]peribronchial thickening" + where + "[, compatible with bronchitis|]",
            "{grade} bronchial wall thickening" + where,
            grade=rows[0]["severity"],
        )
    ]
