"""Sentences on ground-glass opacity."""

from __future__ import annotations

import re

from ctgen.data.atlas.grammar import Speaker
from ctgen.data.atlas.reports.words import ARE_SEEN, NOT_SEEN, SEEN, About, Row, lobe_name, lobes_name

NAME = "lung_opacity"
SPEAKS = re.compile(r"^(?!.*nodul).*(?:ground[- ]glass|opacit)")


def present(say: Speaker, rows: list[Row], about: About) -> list[str]:
    grade = {"mild": "[mild|faint|slight]", "moderate": "moderate", "severe": "[marked|dense]"}[rows[0]["severity"]]
    glass = "[ground-glass|ground glass]"
    if rows[0]["pattern"] == "diffuse":
        where = {
            "lower": "[, most in the lower zones| with lower zone predominance|]",
            "upper": "[, most in the upper zones| with upper zone predominance|]",
            "whole": "",
        }[rows[0]["zone"]]
        return [
            say.say(
                "diffuse " + glass + " opacities " + ARE_SEEN + " in both lungs" + where,
                "both lungs show [widespread|diffuse] " + glass + " [opacities|opacity]" + where,
                grade + " diffuse " + glass + " opacity " + SEEN + " bilaterally" + where,
                "there is " + grade + " [widespread|diffuse] " + glass + " opacity in both lungs" + where,
                "density of both lungs is diffusely increased [in the form of|by] " + glass + " opacities" + where,
            )
        ]
    if rows[0]["pattern"] == "segmental":
        return [
            say.say(
                "a segmental " + glass + " opacity " + SEEN + " in the {lobe}[, {mm} mm in [extent|size]|]",
                "in the {lobe}, a segmental area of " + glass + " opacity[ measuring {mm} mm|] " + SEEN,
                "the {lobe} shows " + grade + " " + glass + " opacity of segmental extent[ (about {mm} mm)|]",
                "there is " + grade + " segmental " + glass + " opacity in the {lobe}[, {mm} mm across|]",
                lobe=lobe_name(rows[0]["lobe"], say),
                mm=rows[0]["size_mm"],
            )
        ]
    if len(rows) > 1 and say.chance(0.5):
        return [
            say.say(
                "patchy " + glass + " opacities " + ARE_SEEN + " in the {lobes}[, the largest measuring {mm} mm|]",
                "there are patchy areas of " + glass + " opacity in the {lobes}[, up to {mm} mm in size|]",
                "the {lobes} show " + grade + " patchy " + glass + " opacities[ of up to {mm} mm|]",
                lobes=lobes_name([row["lobe"] for row in rows], say),
                mm=max(row["size_mm"] for row in rows),
            )
        ]
    return [
        say.say(
            "a patchy " + glass + " opacity[ of {mm} mm| measuring {mm} mm|] " + SEEN + " in the {lobe}",
            "in the {lobe}, a [patch|patchy area] of " + glass + " opacity[, {mm} mm in size,|] " + SEEN,
            "the {lobe} [shows|contains] " + grade + " patchy " + glass + " opacity[, about {mm} mm|]",
            "there is " + grade + " " + glass + " opacity[ of about {mm} mm|] in the {lobe}",
            lobe=lobe_name(row["lobe"], say),
            mm=row["size_mm"],
        )
        for row in rows
    ]


def absent(say: Speaker, about: About) -> str:
    return say.say(
        "no [ground-glass|ground glass] opacity " + NOT_SEEN + "[ in either lung|]",
        "there is no [ground-glass opacity|parenchymal opacity]",
        "no [parenchymal |]opacity " + NOT_SEEN + " in [either lung|both lungs]",
    )


def impression(say: Speaker, rows: list[Row], about: About) -> list[str]:
    kind = rows[0]["pattern"]
    glass = "[ground-glass|ground glass] opacit" + (
        "y" if kind == "segmental" or len(rows) == 1 != (kind == "diffuse") else "ies"
    )
    if kind == "diffuse":
        return [say.say("diffuse " + glass + " in both lungs", "bilateral " + glass, "[widespread|diffuse] bilateral " + glass)]
    return [
        say.say(
            kind + " " + glass + " in the {lobes}[, probably infectious|; clinical correlation is recommended|]",
            glass + " in the {lobes}",
            lobes=lobes_name([row["lobe"] for row in rows], say),
        )
    ]
