"""Sentences on interlobular septal thickening."""

from __future__ import annotations

import re

from ctgen.data.atlas.grammar import Speaker
from ctgen.data.atlas.reports.words import ARE_SEEN, NOT_SEEN, SEEN, About, Row

NAME = "interlobular_septal_thickening"
SPEAKS = re.compile(r"interlobular|\bseptal?\b")


def present(say: Speaker, rows: list[Row], about: About) -> list[str]:
    where = (
        "[ at the lung bases| in the basal parts of both lungs| in both lower zones]"
        if rows[0]["zone"] == "basal"
        else " in both lungs"
    )
    return [
        say.say(
            "[{grade} |][smooth |]interlobular septal thickening " + SEEN + where,
            "interlobular septa are [{much} thickened|thickened]" + where + "[, forming polygonal lines|]",
            "there is {grade} [smooth |]thickening of the interlobular septa" + where + "[, mainly near the pleura|]",
            "[{much} |]thickened interlobular septa " + ARE_SEEN + where,
            "septal lines of {grade} interlobular thickening " + ARE_SEEN + where,
            grade=rows[0]["severity"],
            much={"mild": "mildly", "moderate": "moderately", "severe": "markedly"}[rows[0]["severity"]],
        )
    ]


def absent(say: Speaker, about: About) -> str:
    return say.say(
        "no interlobular septal thickening " + NOT_SEEN,
        "interlobular septa are not thickened",
    )


def impression(say: Speaker, rows: list[Row], about: About) -> list[str]:
    return [
        say.say(
            "[{grade} |]interlobular septal thickening[ in both lungs|, which may suggest interstitial oedema|]",
            "thickened interlobular septa[; correlation with cardiac status is recommended|]",
            grade=rows[0]["severity"],
        )
    ]
