"""Sentences on bronchiectasis."""

from __future__ import annotations

import re

from ctgen.data.atlas.grammar import Speaker
from ctgen.data.atlas.reports.words import ARE_SEEN, NOT_SEEN, SEEN, About, Row, lobes_name

NAME = "bronchiectasis"
SPEAKS = re.compile(r"bronchiect|bronchial widening")


def present(say: Speaker, rows: list[Row], about: About) -> list[str]:
    slots = {
        "grade": rows[0]["severity"],
        "kind": rows[0]["kind"],
        "lobes": lobes_name([row["lobe"] for row in rows], say),
        "show": "shows" if len(rows) == 1 else "show",
    }
    return [
        say.say(
            "{grade} {kind} bronchiectasis " + SEEN + " in the {lobes}",
            "[{kind} |]bronchiectatic changes[ of {grade} degree|] " + ARE_SEEN + " in the {lobes}",
            "the {lobes} {show} {grade} {kind} bronchiectasis[ with signet ring appearance|]",
            "there is [{grade} |]{kind} bronchiectasis in the {lobes}",
            "bronchi of the {lobes} are dilated ({grade} {kind} bronchiectasis)",
            **slots,
        )
    ]


def absent(say: Speaker, about: About) -> str:
    return say.say(
        "no [bronchiectasis|bronchial widening or bronchiectasis] " + NOT_SEEN,
        "bronchiectasis is absent",
    )


def impression(say: Speaker, rows: list[Row], about: About) -> list[str]:
    return [
        say.say(
            "[{grade} |][{kind} |]bronchiectasis in the {lobes}",
            "bronchiectatic changes in the {lobes}",
            grade=rows[0]["severity"],
            kind=rows[0]["kind"],
            lobes=lobes_name([row["lobe"] for row in rows], say),
        )
    ]
