"""Sentences on medical material."""

from __future__ import annotations

import re

from ctgen.data.atlas.grammar import Speaker
from ctgen.data.atlas.reports.words import ARE_SEEN, NOT_SEEN, SEEN, About, Row

NAME = "medical_material"
SPEAKS = re.compile(
    r"medical material|catheter|pacemaker|pacing|\bport\b|\bstent|sternal wire|sternotomy|cerclage|central venous line"
)
_ARTERY = {"LAD": "left anterior descending artery", "LCX": "circumflex artery", "RCA": "right coronary artery"}


def present(say: Speaker, rows: list[Row], about: About) -> list[str]:
    return [_one(say, row) for row in rows]


def absent(say: Speaker, about: About) -> str:
    return say.say(
        "no catheter, pacemaker or other medical material " + NOT_SEEN,
        "there is no medical material in the chest",
    )


def impression(say: Speaker, rows: list[Row], about: About) -> list[str]:
    return [_short(say, row) for row in rows]


def _one(say: Speaker, row: Row) -> str:
    kind = row["kind"]
    if kind == "port":
        return say.say(
            "a port [chamber |]" + SEEN + " in the {side} anterior chest wall[, its catheter ends in the superior vena cava|]",
            "there is a {side} pectoral port[ with the catheter tip in the superior vena cava| catheter|]",
            "[port catheter|port and venous catheter] inserted from the {side}[, with its tip in the superior vena cava|]",
            "medical material: port catheter on the {side}",
            side=row["side"],
        )
    if kind == "central_line":
        return say.say(
            "a central venous catheter [inserted through the right jugular vein |] " + SEEN + " in the superior vena cava",
            "the tip of a [right |right jugular |]central venous catheter lies in the superior vena cava",
            "there is a [right jugular |]central venous line ending in the superior vena cava",
            "a catheter " + SEEN + " in the superior vena cava",
        )
    if kind == "pacemaker":
        ends = "right ventricle" if row["leads"] == 1 else "right atrium and right ventricle"
        return say.say(
            "a pacemaker " + SEEN + " in the {side} chest wall[, with [leads|electrodes] to the {ends}|]",
            "there is a {side} pectoral pacemaker[ and its [leads|electrodes] reach the {ends}|]",
            "[cardiac |]pacemaker generator on the {side} with {leads} to the {ends}",
            "[electrodes|leads] of a {side} sided pacemaker [run|extend] to the {ends}",
            side=row["side"],
            ends=ends,
            leads="one lead" if row["leads"] == 1 else "two leads",
        )
    if kind == "sternal_wires":
        return say.say(
            "sternal wires " + ARE_SEEN + "[, after sternotomy|]",
            "there are [{wires} |]sternal wires [from previous sternotomy|of a former sternotomy|]",
            "[changes of|status after] [median |]sternotomy with [wire sutures|{wires} sternal wires|metallic cerclages]",
            "[metallic suture material|cerclage wires] of a median sternotomy " + ARE_SEEN + " in the sternum",
            wires=row["wires"],
        ).replace("material of a median sternotomy are", "material of a median sternotomy is")
    return say.say(
        "a stent [of {mm} mm |] " + SEEN + " in the {artery}",
        "there is a [{mm} mm long |metallic |]stent in the {artery}",
        "the {artery} contains a [coronary |]stent[ about {mm} mm long|]",
        "[metallic |]stent material " + SEEN + " in the {artery}",
        artery=_ARTERY[row["vessel"]],
        mm=row["size_mm"],
    )


def _short(say: Speaker, row: Row) -> str:
    kind = row["kind"]
    if kind == "port":
        return say.say("[{side} |]port catheter[ in place|]", "{side} pectoral port", side=row["side"])
    if kind == "central_line":
        return say.say("central venous catheter[ in the superior vena cava|]", "central venous line in place")
    if kind == "pacemaker":
        return say.say("[{side} |][cardiac |]pacemaker[ in place|]", "pacemaker with [leads|electrodes]", side=row["side"])
    if kind == "sternal_wires":
        return say.say("status after [median |]sternotomy", "sternal wires[ after sternotomy|]")
    return say.say("stent in the {artery}", "status after stenting of the {artery}", artery=_ARTERY[row["vessel"]])
