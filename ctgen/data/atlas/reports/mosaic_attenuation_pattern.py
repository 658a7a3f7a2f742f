"""Sentences on mosaic attenuation."""

from __future__ import annotations

import re

from ctgen.data.atlas.grammar import Speaker
from ctgen.data.atlas.reports.words import ARE_SEEN, NOT_SEEN, SEEN, About, Row

NAME = "mosaic_attenuation_pattern"
SPEAKS = re.compile(r"mosaic")


def present(say: Speaker, rows: list[Row], about: About) -> list[str]:
    where = "[, most in the lower lobes| with lower lobe predominance|]" if rows[0]["zone"] == "lower" else ""
    return [
        say.say(
            "[a |]mosaic attenuation pattern " + SEEN + " in both lungs" + where,
            "both lungs show [a |]{grade} mosaic [attenuation|pattern of attenuation]" + where,
            "there is [a |]{grade} mosaic attenuation pattern [in both lungs|bilaterally]" + where,
            "[geographic|lobular] areas of [low|decreased] attenuation "
            + ARE_SEEN
            + " in both lungs, giving a mosaic pattern"
            + where,
            "{grade} mosaic attenuation of both lungs[, which may be due to air trapping|, suggesting small airway disease|] "
            + SEEN,
            grade=rows[0]["severity"],
        )
    ]


def absent(say: Speaker, about: About) -> str:
    return say.say(
        "no mosaic attenuation pattern " + NOT_SEEN,
    )


def impression(say: Speaker, rows: list[Row], about: About) -> list[str]:
    return [
        say.say(
            "[{grade} |]mosaic attenuation[ pattern|] in both lungs[, [possibly |]small airway disease|]",
            "mosaic attenuation pattern[, suggesting air trapping|]",
            grade=rows[0]["severity"],
        )
    ]
