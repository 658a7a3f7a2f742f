"""Sentences on atelectasis."""

from __future__ import annotations

import re

from ctgen.data.atlas.grammar import Speaker
from ctgen.data.atlas.reports.words import ARE_SEEN, NOT_SEEN, SEEN, About, Row, lobe_name, lobes_name

NAME = "atelectasis"
SPEAKS = re.compile(r"atelecta|lung volume loss|\bcollapse")


def present(say: Speaker, rows: list[Row], about: About) -> list[str]:
    """One that an effusion causes, and those of their own."""
    passive, own = [row for row in rows if row["kind"] == "passive"], [row for row in rows if row["kind"] != "passive"]
    out = _beside_effusion(say, passive) if passive else []
    if len(own) > 1 and say.chance(0.5):
        out.append(
            say.say(
                "{kind} atelectasis " + SEEN + " in the {lobes}",
                "[bands of {kind} atelectasis|{kind} atelectatic bands] " + ARE_SEEN + " in the {lobes}",
                "there are {kind} atelectatic changes in the {lobes}[, up to {mm} mm|]",
                kind=say.phrase(_WORDS[own[0]["kind"]]),
                lobes=lobes_name([row["lobe"] for row in own], say),
                mm=max(row["size_mm"] for row in own),
            )
        )
        return out
    for row in own:
        out.append(
            say.say(
                "{kind} atelectasis " + SEEN + " in the {lobe}[, {mm} mm long|]",
                "in the {lobe}, a band of {kind} atelectasis[ of {mm} mm|] " + SEEN,
                "there is {kind} atelectasis in the {lobe}[, about {mm} mm in length|]",
                "the {lobe} shows [a |]{kind} atelectatic [band|change][ ({mm} mm)|]",
                kind=say.phrase(_WORDS[row["kind"]]),
                lobe=lobe_name(row["lobe"], say),
                mm=row["size_mm"],
            )
        )
    return out


_WORDS = {"linear": "[linear|plate-like|discoid]", "subsegmental": "[subsegmental|wedge-shaped subsegmental]"}


def _beside_effusion(say: Speaker, rows: list[Row]) -> list[str]:
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
    own = [row for row in rows if row["kind"] != "passive"]
    if not own:
        return []
    return [
        say.say(
            "{kind} atelectasis in the {lobes}",
            "[{kind} |]atelectatic changes in the {lobes}",
            kind=say.phrase(_WORDS[own[0]["kind"]]),
            lobes=lobes_name([row["lobe"] for row in own], say),
        )
    ]
