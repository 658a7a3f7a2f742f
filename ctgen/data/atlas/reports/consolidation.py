"""Sentences on consolidation."""

from __future__ import annotations

import re

from ctgen.data.atlas.grammar import Speaker
from ctgen.data.atlas.reports.words import NOT_SEEN, SEEN, About, Row, lobe_name

NAME = "consolidation"
SPEAKS = re.compile(r"consolidation")


def present(say: Speaker, rows: list[Row], about: About) -> list[str]:
    row = rows[0]
    lobe = lobe_name(row["lobe"], say)
    air = (
        "[ with air bronchograms| containing air bronchograms|, in which air bronchograms are visible]"
        if row["bronchogram"]
        else ""
    )
    kinds = {"focal": "a [focal|small] [area of |]consolidation", "segmental": "[a segmental|a moderate] consolidation"}
    kind = kinds.get(row["extent"], "[an extensive|a large|a widespread] consolidation")
    return [
        say.say(
            kind + " " + SEEN + " in the {lobe}[, measuring [approximately |about |]{mm} mm|]" + air,
            "in the {lobe}, " + kind + "[ of {mm} mm|] " + SEEN + air,
            "the {lobe} shows " + kind + "[, up to {mm} mm in size|]" + air,
            "there is " + kind + "[ of about {mm} mm|] in the {lobe}" + air,
            lobe=lobe,
            mm=row["size_mm"],
        )
    ]


def absent(say: Speaker, about: About) -> str:
    return say.say(
        "no [area of |]consolidation " + NOT_SEEN + "[ in either lung|]",
        "there is no [consolidation|pneumonic consolidation|parenchymal consolidation]",
        "no finding of pneumonia or consolidation " + NOT_SEEN,
    )


def impression(say: Speaker, rows: list[Row], about: About) -> list[str]:
    return [
        say.say(
            "consolidation in the {lobe}[, compatible with pneumonia|; clinical correlation is recommended|]",
            "{lobe} consolidation[, probably infectious|]",
            lobe=lobe_name(rows[0]["lobe"], say),
        )
    ]
