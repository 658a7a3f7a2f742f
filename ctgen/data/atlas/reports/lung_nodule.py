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
        solid = "|solid" if all(row["kind"] == "solid" for row in rows) else ""
        out.append(say.say("[two|2] [lung|pulmonary" + solid + "] nodules " + ARE_SEEN))
    for row in rows:
        if row["kind"] != "solid":
            out.append(_of_kind(say, row))
            continue
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


def _of_kind(say: Speaker, row: Row) -> str:
    """A nodule that is not solid."""
    glass = "[ground-glass|ground glass]"
    slots = {"lobe": lobe_name(row["lobe"], say), "mm": row["size_mm"], "margin": row["margin"], "core": row.get("core_mm", "")}
    if row["kind"] == "calcified":
        return say.say(
            "a {mm} mm calcified nodule " + SEEN + " in the {lobe}[, consistent with a granuloma|]",
            "in the {lobe}, [there is a calcified nodule of {mm} mm|a calcified nodule measuring {mm} mm " + SEEN + "]",
            "the {lobe} contains a {mm} mm calcified [pulmonary |]nodule",
            "a calcified [granulomatous |]nodule, {mm} mm in diameter, " + SEEN + " in the {lobe}",
            **slots,
        )
    if row["kind"] == "part-solid":
        return say.say(
            "a {mm} mm {margin} part-solid nodule with a solid component of {core} mm " + SEEN + " in the {lobe}",
            "in the {lobe}, [there is a {margin} part-solid nodule of {mm} mm|a part-solid nodule measuring {mm} mm "
            + SEEN
            + "][; its solid component measures {core} mm|]",
            "the {lobe} contains a {mm} mm [subsolid|part-solid] nodule[ with a {core} mm solid core|]",
            **slots,
        )
    return say.say(
        "a {mm} mm [{margin} |]" + glass + " nodule " + SEEN + " in the {lobe}",
        "in the {lobe}, a " + glass + " nodule of {mm} mm " + SEEN,
        "the {lobe} shows a {mm} mm [pure |]" + glass + " nodule",
        "there is a nodule of " + glass + " density in the {lobe}, {mm} mm in diameter",
        **slots,
    )


def absent(say: Speaker, about: About) -> str:
    return say.say(
        "no [lung|pulmonary|parenchymal] nodule [or mass |]" + NOT_SEEN,
        "there is no [suspicious |]nodule[ in either lung|]",
        "no nodular lesion " + NOT_SEEN + " in [either lung|both lungs]",
    )


def impression(say: Speaker, rows: list[Row], about: About) -> list[str]:
    return [_short(say, row) for row in rows]


def _short(say: Speaker, row: Row) -> str:
    lobe = lobe_name(row["lobe"], say)
    if row["kind"] == "solid":
        return say.say(
            "{mm} mm nodule in the {lobe}[; follow-up is recommended|]",
            "[{margin} |]nodule in the {lobe} ({mm} mm)",
            mm=row["size_mm"],
            lobe=lobe,
            margin=row["margin"],
        )
    if row["kind"] == "calcified":
        return say.say("calcified nodule in the {lobe}[ ({mm} mm)|, a granuloma|]", mm=row["size_mm"], lobe=lobe)
    return say.say(
        "{mm} mm {kind} nodule in the {lobe}[; follow-up is recommended|]",
        "{kind} nodule in the {lobe} ({mm} mm)[; CT follow-up is advised|]",
        mm=row["size_mm"],
        lobe=lobe,
        kind=row["kind"],
    )
