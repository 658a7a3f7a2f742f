"""Sentences on pleural effusion."""

from __future__ import annotations

import re

from ctgen.data.atlas.grammar import Speaker
from ctgen.data.atlas.reports.words import ARE_SEEN, NOT_SEEN, SEEN, About, Row

NAME = "pleural_effusion"
SPEAKS = re.compile(
    r"^(?!.*pericardi).*(?:effusion|pleural fluid|fluid \w+ \w+ in (?:either|the) pleural|spaces are free of fluid)"
)


def present(say: Speaker, rows: list[Row], about: About) -> list[str]:
    if rows[0]["kind"] == "loculated":
        return [_loculated(say, rows[0]), *_other_side(say, rows)]
    out = []
    free = "free " if say.chance(0.15) else ""
    words = {"small": "[small|mild|minimal]", "moderate": "moderate", "large": "[large|massive]"}
    words = {size: word + " " + free for size, word in words.items()}
    if len(rows) == 2 and rows[0]["size"] == rows[1]["size"] and say.chance(0.7):
        size = words[rows[0]["size"]]
        out.append(
            say.say(
                "bilateral "
                + size
                + "pleural effusions "
                + ARE_SEEN
                + "[, {right} mm thick on the right and {left} mm on the left|]",
                size
                + "pleural effusion "
                + SEEN
                + " [bilaterally|on both sides|in both hemithoraces][ (right {right} mm, left {left} mm)|]",
                "there are bilateral "
                + size
                + "pleural effusions[ measuring {right} mm on the right and {left} mm on the left|]",
                right=next(row["size_mm"] for row in rows if row["side"] == "right"),
                left=next(row["size_mm"] for row in rows if row["side"] == "left"),
            )
        )
    else:
        for row in rows:
            size = words[row["size"]]
            out.append(
                say.say(
                    "[a |]" + size + "{side} [sided |]pleural effusion " + SEEN + "[, {mm} mm in thickness| "
                    "measuring {mm} mm at its thickest point|]",
                    size + "pleural effusion " + SEEN + " on the {side}[ side|][, reaching a thickness of {mm} mm|]",
                    "there is [a |]" + size + "pleural effusion in the {side} hemithorax[ (up to {mm} mm)|]",
                    "in the {side} pleural space, " + size + "effusion " + SEEN + "[ with a thickness of {mm} mm|]",
                    side=row["side"],
                    mm=row["size_mm"],
                )
            )
        out += _other_side(say, rows)
    return out


_WHERE = {
    "lateral wall": "along the lateral [chest wall|costal pleura]",
    "posterior wall": "along the posterior [chest wall|costal pleura]",
    "major fissure": "in the [major|oblique] fissure",
}


def _loculated(say: Speaker, row: Row) -> str:
    size = {"small": "[small|mild]", "moderate": "moderate", "large": "large"}[row["size"]]
    where = say.phrase(_WHERE[row["place"]])
    return say.say(
        "[a |]" + size + " loculated {side} [sided |]pleural effusion " + SEEN + " {where}[, {mm} mm in thickness|]",
        "there is [a |]" + size + " loculated pleural effusion on the {side} {where}[, up to {mm} mm|]",
        size + " loculated pleural fluid with lenticular shape " + SEEN + " on the {side}, {where}[ ({mm} mm)|]",
        "pleural effusion on the {side}, {size} in amount, is loculated {where}[ and measures {mm} mm in thickness|]",
        side=row["side"],
        where=where,
        mm=row["size_mm"],
        size=row["size"],
    )


def _other_side(say: Speaker, rows: list[Row]) -> list[str]:
    if len(rows) > 1 or not say.chance(0.4):
        return []
    other = "left" if rows[0]["side"] == "right" else "right"
    return [say.say("the {other} pleural space is [clear|free|dry]", "the {other} pleural space is free of fluid", other=other)]


def absent(say: Speaker, about: About) -> str:
    return say.say(
        "no pleural effusion[ or thickening| or pneumothorax|] " + NOT_SEEN,
        "pleural [effusion|effusion-thickening|effusion or pneumothorax] was not [detected|observed]",
        "there is no pleural [effusion|fluid][ on either side| in either hemithorax|]",
        "[both pleural spaces are|the pleural spaces are] free of fluid",
        "no fluid " + NOT_SEEN + " in [either|the] pleural space",
    )


def impression(say: Speaker, rows: list[Row], about: About) -> list[str]:
    side = "bilateral" if len(rows) == 2 else rows[0]["side"]
    passive = any(row["kind"] == "passive" for row in about.found.get("atelectasis", []))
    also = "[ with [adjacent |passive |compressive |]atelectasis| and atelectasis]" if passive else ""
    kind = "loculated " if rows[0]["kind"] == "loculated" else ""
    size = rows[0]["size"] + " " if len({row["size"] for row in rows}) == 1 else ""
    return [say.say(f"{size}{kind}{side} pleural effusion{'s' if len(rows) == 2 else ''}" + also)]
