"""Sentences on emphysema."""

from __future__ import annotations

import re

from ctgen.data.atlas.grammar import Speaker
from ctgen.data.atlas.reports.words import ARE_SEEN, NOT_SEEN, SEEN, About, Row

NAME = "emphysema"
TOLD_MM = 8
"""What a reader notices without a scan from before."""
SPEAKS = re.compile(r"emphysem")


def present(say: Speaker, rows: list[Row], about: About) -> list[str]:
    row = rows[0]
    out = [
        say.say(
            "{grade} {pattern} emphysema " + SEEN + " in [both lungs|both upper lobes|the upper lobes of both lungs]",
            "[there are|both lungs show] {grade} emphysematous changes, {pattern} in type, [more marked|most prominent] "
            "in the upper lobes",
            "both lungs show {grade} emphysema[ of {pattern} type|] with upper lobe predominance",
            "{grade} emphysematous [areas|changes] " + ARE_SEEN + " bilaterally, [mainly|predominantly] in the upper lobes",
            "[low attenuation areas|areas of low density] of {grade} {pattern} emphysema " + ARE_SEEN + " in both upper lobes",
            grade=row["severity"],
            pattern=row["pattern"],
        )
    ]
    if row["percent"] >= 1 and say.chance(0.2):
        out.append(
            say.say("emphysematous areas occupy about {percent} percent of the lung volume", percent=round(row["percent"]))
        )
    if row["diaphragm_flattened_mm"] >= TOLD_MM and say.chance(0.6):
        out.append(
            say.say(
                "there is flattening of [the diaphragm|both hemidiaphragms] due to emphysema",
                "[the lungs are|both lungs are] hyperinflated with flattening of the diaphragm, consistent with emphysema",
                "emphysematous hyperinflation with [a flattened diaphragm|flattening of the diaphragm] " + SEEN,
            )
        )
    return out


def absent(say: Speaker, about: About) -> str:
    return say.say(
        "no emphysema[tous change|] " + NOT_SEEN,
        "there is no emphysema[ in either lung|]",
        "emphysematous changes are absent",
    )


def impression(say: Speaker, rows: list[Row], about: About) -> list[str]:
    also = " and hyperinflation" if rows[0]["diaphragm_flattened_mm"] >= TOLD_MM and say.chance(0.3) else ""
    return [say.say("{grade} emphysema[ in both lungs| with upper lobe predominance|]" + also, grade=rows[0]["severity"])]
