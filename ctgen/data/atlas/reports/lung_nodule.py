"""Sentences on lung nodules."""

from __future__ import annotations

import re

from ctgen.data.atlas.grammar import Speaker
from ctgen.data.atlas.reports.words import ARE_SEEN, NOT_SEEN, SEEN, About, Row, lobe_name

NAME = "lung_nodule"
SPEAKS = re.compile(r"nodul")


def present(say: Speaker, rows: list[Row], about: About) -> list[str]:
    out = []
    if len(rows) > 1 and say.chance(0.4):
        out.append(say.say("[two|2] [lung|pulmonary|solid] nodules " + ARE_SEEN))
    for row in rows:
        out.append(
            say.say(
                "a {mm} mm [solid |]{margin} nodule " + SEEN + " in the {lobe}",
                "in the {lobe}, [there is a {margin} [solid |]nodule of {mm} mm|a {margin} [solid |]nodule "
                "[measuring|of|with a diameter of] {mm} mm " + SEEN + "]",
                "a [solid |]nodule with {margin} margins[, {mm} mm in diameter,| measuring {mm} mm] " + SEEN + " in the {lobe}",
                "the {lobe} [contains|shows] a {mm} mm {margin} [pulmonary |solid |]nodule",
                "a {margin} [pulmonary |lung |]nodule, {mm} mm in [diameter|size], " + SEEN + " in the {lobe}",
                lobe=lobe_name(row["lobe"], say),
                mm=row["size_mm"],
                margin=row["margin"],
            )
        )
    return out


def absent(say: Speaker, about: About) -> str:
    return say.say(
        "no [lung|pulmonary|parenchymal] nodule [or mass |]" + NOT_SEEN,
        "there is no [suspicious |]nodule[ in either lung|]",
        "no nodular lesion " + NOT_SEEN + " in [either lung|both lungs]",
    )


def impression(say: Speaker, rows: list[Row], about: About) -> list[str]:
    return [
        say.say(
            "{mm} mm nodule in the {lobe}[; follow-up is recommended|]",
            "[{margin} |]nodule in the {lobe} ({mm} mm)",
            mm=row["size_mm"],
            lobe=lobe_name(row["lobe"], say),
            margin=row["margin"],
        )
        for row in rows
    ]
