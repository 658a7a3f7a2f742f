"""Sentences on atelectasis."""

from __future__ import annotations

import re

from ctgen.data.atlas.grammar import Speaker
from ctgen.data.atlas.reports.words import ARE_SEEN, NOT_SEEN, SEEN, About, Row

NAME = "atelectasis"
SPEAKS = re.compile(r"atelecta|lung volume loss|\bcollapse")


def present(say: Speaker, rows: list[Row], about: About) -> list[str]:
    sides = [row["side"] for row in rows]
    where = say.phrase("both lower lobes", "the lower lobes of both lungs") if len(sides) > 1 else f"the {sides[0]} lower lobe"
    near = "both effusions" if len(sides) > 1 else "the effusion"
    return [
        say.say(
            "[passive|compressive] atelectasis " + SEEN + " in {where}[, adjacent to {near}|]",
            "atelectatic changes " + ARE_SEEN + " in {where}[ next to {near}| due to compression|]",
            "the lung adjacent to {near} shows [passive |compressive |]atelectasis in {where}",
            where=where,
            near=near,
        )
    ]


def absent(say: Speaker, about: About) -> str:
    return say.say(
        "no atelectasis " + NOT_SEEN,
        "there is no [atelectasis|collapse]",
    )


def impression(say: Speaker, rows: list[Row], about: About) -> list[str]:
    """A passive one is told with its effusion."""
    return []
