"""Sentences on fibrotic sequelae."""

from __future__ import annotations

import re

from ctgen.data.atlas.grammar import Speaker
from ctgen.data.atlas.reports.words import ARE_SEEN, NOT_SEEN, SEEN, About, Row, lobe_name, lobes_name

NAME = "pulmonary_fibrotic_sequela"
SPEAKS = re.compile(r"fibro|sequela|scar")


def present(say: Speaker, rows: list[Row], about: About) -> list[str]:
    if rows[0]["pattern"] == "apical":
        side = rows[0]["side"]
        both = "[both apices|both lung apices|the apices of both lungs]"
        where = both if side == "bilateral" else f"the [{side} apex|apex of the {side} lung]"
        return [
            say.say(
                "{grade} [pleuroparenchymal |]sequela fibrotic [changes|bands] " + ARE_SEEN + " in " + where,
                "[pleuroparenchymal|fibrotic] sequela changes of {grade} degree " + ARE_SEEN + " in " + where,
                "there is {grade} apical [fibrotic|pleuroparenchymal] scarring in " + where,
                where + " {show} {grade} fibrotic sequela",
                "{grade} pleural thickening and fibrotic bands of sequela nature " + ARE_SEEN + " in " + where,
                grade=rows[0]["severity"],
                show="show" if side == "bilateral" else "shows",
            )
        ]
    return [
        say.say(
            "a [fibrotic|pleuroparenchymal fibrotic] band[ of {mm} mm|] " + SEEN + " in the {lobe}[, consistent with sequela|]",
            "in the {lobe}, [a sequela fibrotic band|a fibrotic band reaching the pleura][, {mm} mm long,|] " + SEEN,
            "there is [a scar-like fibrotic band|an irregular fibrotic band][ {mm} mm in length|] in the {lobe}",
            "the {lobe} shows a sequela fibrotic [band|density][ ({mm} mm)|]",
            lobe=lobe_name(row["lobe"], say),
            mm=row["size_mm"],
        )
        for row in rows
    ]


def absent(say: Speaker, about: About) -> str:
    return say.say(
        "no [fibrotic change|fibrosis|fibrotic sequela] " + NOT_SEEN,
        "there is no [pleuroparenchymal |]scarring[ in either lung|]",
        "no sequela of [earlier|previous] disease " + NOT_SEEN + " in the lungs",
    )


def impression(say: Speaker, rows: list[Row], about: About) -> list[str]:
    if rows[0]["pattern"] == "apical":
        side = {"bilateral": "both apices"}.get(rows[0]["side"], f"the {rows[0]['side']} apex")
        return [
            say.say(
                "[{grade} |]fibrotic sequela[ changes|] in {side}",
                "apical fibrotic scarring[ in {side}|]",
                grade=rows[0]["severity"],
                side=side,
            )
        ]
    return [
        say.say(
            "sequela fibrotic band{s} in the {lobes}",
            "fibrotic sequela in the {lobes}",
            s="s" if len(rows) > 1 else "",
            lobes=lobes_name([row["lobe"] for row in rows], say),
        )
    ]
