"""Sentences on the heart's size."""

from __future__ import annotations

import re

from ctgen.data.atlas.grammar import Speaker
from ctgen.data.atlas.reports.words import NOT_SEEN, SEEN, About, Row

NAME = "cardiomegaly"
SPEAKS = re.compile(
    r"cardiomegaly|heart is \w+ enlarged|(?:heart size|dimensions) (?:is|are) \w+ increased|"
    r"enlargement of the heart"
)


def present(say: Speaker, rows: list[Row], about: About) -> list[str]:
    severity = rows[0]["severity"]
    slots = {
        "much": {"mild": "mildly", "moderate": "moderately", "marked": "markedly"}[severity],
        "grade": severity,
        "ctr": _shown(about),
    }
    return [
        say.say(
            "the heart is {much} enlarged[, with a cardiothoracic ratio of {ctr}| (cardiothoracic ratio {ctr})|]",
            "{grade} cardiomegaly " + SEEN + "[; the cardiothoracic ratio is {ctr}|]",
            "heart size is {much} increased[ and the cardiothoracic ratio is {ctr}|]",
            "cardiac dimensions are {much} increased, [consistent|compatible] with cardiomegaly",
            "there is {grade} enlargement of the heart[ (ratio to the chest {ctr})|]",
            **slots,
        )
    ]


def absent(say: Speaker, about: About) -> str:
    shown = _shown(about)
    return say.say(
        "heart size is [normal|within normal limits|not increased]",
        "the heart is [of normal size|normal in size|not enlarged]",
        "[heart contour and size|contours and size of the heart] are [normal|natural]",
        "cardiac [dimensions|chambers] are [normal|of normal width|not enlarged]",
        "the cardiothoracic ratio is normal" + ("[ ({ctr})|]" if shown else ""),
        "no cardiomegaly " + NOT_SEEN,
        ctr=shown,
    )


def impression(say: Speaker, rows: list[Row], about: About) -> list[str]:
    return [say.say("{grade} cardiomegaly", "[{grade} enlargement of the heart|cardiomegaly]", grade=rows[0]["severity"])]


def _shown(about: About) -> str:
    return f"{about.ratio:.2f}" if about.ratio is not None else ""
